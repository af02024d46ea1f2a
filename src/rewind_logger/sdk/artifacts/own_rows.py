"""The rows of artifacts that an open run logs: to which of its openings each belongs, and which version it makes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rewind_logger.errors import RewindError
from rewind_logger.sdk import notice
from rewind_logger.sdk.artifacts.rows import Version, Versions, fold
from rewind_logger.sdk.artifacts.uploads import Upload
from rewind_logger.types import OPENING_CLOCK, Row, Scalar

if TYPE_CHECKING:
    from rewind_logger.history.opening import Opened
    from rewind_logger.sdk.run import Run

PRESENT = -2
"""For `log`: the step at which the run is."""


@dataclass(slots=True)
class Pending:
    """A row that was logged, or is about to be."""

    values: dict[str, Scalar]
    clock: int | None
    time_ms: int
    opened: Opened | None
    """The opening that it belongs to; None for the one that is to come."""
    version: Version | None = None
    """Which version it made, as soon as that is known."""
    upload: Upload | None = None


class OwnRows:
    """The rows of artifacts of one run that is open."""

    def __init__(self, run: Run) -> None:
        """Take a run; nothing is read before it is needed."""
        self._run = run
        self._opened: Opened | None = None  # the opening that `_rows` belong to
        self._between = True  # before an opening, and while the run is opened anew
        self._rows: list[Pending] = []  # of this opening, in their order
        self._next: list[Pending] = []  # of the one that is to come
        self._unplaced: list[Pending] = []  # whose clocks are counted from 0

    def prepare(self) -> None:
        """Take rows that come from here on for those of the opening that is to come."""
        with self._run._lock:
            self._between = True

    def begin(self) -> None:
        """Go on with the opening that was made."""
        with self._run._lock:
            opened = self._run._opened
            if self._opened is not opened:
                with contextlib.suppress(RewindError):  # a version that somebody may still ask for
                    if any(pending.version is None for pending in self._rows):
                        self.versions()
                self._rows = []
                self._opened = opened
            for pending in self._next:
                pending.opened = opened
            self._rows += self._next
            self._next, self._between = [], False

    def arrive(self, opened: Opened, place: Callable[[int | None], int | None]) -> None:
        """Take rows for those of an opening that came late.

        Args:
            opened: The opening.
            place: Returns where a clock belongs that was counted from 0.
        """
        for pending in self._unplaced:
            pending.clock, pending.opened, pending.version = place(pending.clock), opened, None
        self._opened, self._unplaced = opened, []

    def begin_row(self, clock: int | None) -> Pending:
        """Take the step and the time of a row."""
        run = self._run
        with run._lock:
            at = run._clock if clock == PRESENT else clock
            pending = Pending({}, at, int(time.time() * 1000), None if self._between else self._opened)
            if run._counting:
                self._unplaced.append(pending)
            return pending

    def append(self, pending: Pending) -> None:
        """Write a row, unless the step that it belongs to was cut off meanwhile."""
        run = self._run
        with run._lock:
            now = None if self._between else self._opened
            if pending.opened is not None and now is not pending.opened:
                start = None if now is None else now.start
                if start is None or pending.clock is None or pending.clock >= start:
                    notice.say(
                        f"an artifact of step {pending.clock} came into the store after run {run._ref} had been opened "
                        "anew, and is in none of its revisions."
                    )
                    return
                pending.opened = now
            run._append("artifacts", pending.values, pending.clock, None, pending.time_ms)
            (self._next if self._between else self._rows).append(pending)

    def versions(self) -> Versions:
        """Return what the run's visible history has: what was there at its opening, and what was logged since.

        Raises:
            StorageError: If the store fails; it is read once an opening.
        """
        with self._run._lock:
            inherited = self._run._inherited
            rows = [*self._rows, *self._next]
        versions = fold([] if inherited is None or self._run._spec.disabled else inherited.artifacts)
        for number, pending in enumerate(rows):
            clock = OPENING_CLOCK if pending.clock is None else pending.clock
            pending.version = versions.add(Row(number, clock, None, pending.time_ms, pending.values)) or pending.version
        return versions
