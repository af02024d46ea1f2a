"""What accompanies an open run: parts that write rows on their own, beside what is logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

LOG = logging.getLogger("rewind_logger")


class Companion:
    """Something that lives as long as a run is open. Nothing that it does may raise; each call may come repeatedly."""

    def prepare(self) -> None:
        """Get ready: the run is about to be opened or to go on. What comes up until `begin` belongs to what follows."""

    def begin(self) -> None:
        """Go to work: the run was opened, opened anew at another position, or goes on after it had come to rest."""

    def flush(self, timeout: float | None) -> bool:
        """Hand over what is still to be written; go on working.

        Args:
            timeout: Seconds that this may take at most; None: as long as one attempt takes.

        Returns:
            Whether everything was handed over.
        """
        return True

    def rest(self, timeout: float) -> None:
        """Hand over what is still to be written, and stop: the run comes to rest, and is about to be flushed.

        Args:
            timeout: Seconds that this may take at most.
        """

    def disown(self) -> None:
        """Let go, in a forked child: the run stays the parent's."""


class Companions(list[Companion]):
    """The companions of a run. Should one fail after all, that is reported, and the run and the others go on."""

    def prepare(self) -> None:
        """`prepare` of each."""
        self._each(lambda companion: companion.prepare())

    def begin(self) -> None:
        """`begin` of each."""
        self._each(lambda companion: companion.begin())

    def flush(self, timeout: float | None) -> bool:
        """`flush` of each, within this time in all; return whether each handed over everything."""
        deadline = None if timeout is None else time.monotonic() + timeout
        return self._each(
            lambda companion: companion.flush(None if deadline is None else max(0.0, deadline - time.monotonic()))
        )

    def rest(self, timeout: float) -> None:
        """`rest` of each, within this time in all."""
        deadline = time.monotonic() + timeout
        self._each(lambda companion: companion.rest(max(0.0, deadline - time.monotonic())))

    def disown(self) -> None:
        """`disown` of each."""
        self._each(lambda companion: companion.disown())

    def _each(self, call: Callable[[Companion], bool | None]) -> bool:
        """Return whether no call returned False or failed."""
        well = True
        for companion in self:
            try:
                well &= call(companion) is not False
            except Exception:
                well = False
                LOG.exception("%s of a run failed; the run goes on.", type(companion).__name__)
        return well
