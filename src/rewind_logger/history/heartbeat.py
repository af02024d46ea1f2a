"""The heartbeat: how people see from outside that a run is being written. Nothing else depends on it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from rewind_logger.errors import CorruptError
from rewind_logger.format import documents, names
from rewind_logger.format.documents import Alive
from rewind_logger.history import opening
from rewind_logger.history.damage import report
from rewind_logger.storage.base import Storage

LOG = logging.getLogger("rewind_logger")

INTERVAL_S = 60.0
"""Between two signs of life. The first comes so long after the opening, of which the base says when it was."""

SILENT_S = 300.0
"""A run that has given no sign of life for so long is taken for dead, by people and never by a writer."""


class Heartbeat:
    """The signs of life of one term: a small object that is replaced every minute."""

    def __init__(self, storage: Storage, folder: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to count; `folder` is the term's."""
        self._storage = storage
        self._path = names.alive(folder)
        self._nonce = names.writer(folder) or ""
        self._clock = clock
        self._due = clock() + INTERVAL_S
        self.acknowledged: dict[str, int] = {}
        """Per stream the last flush that was acknowledged; what tells of the term tells of them."""
        self.last_ms = 0
        """The latest time that was told of the term, by a sign of life or its closing mark, in wall milliseconds."""

    def now_ms(self) -> int:
        """Return the wall time, but later than what was told before, should it have been set back."""
        self.last_ms = max(self.last_ms + 1, opening.now_ms())
        return self.last_ms

    def hurry(self) -> None:
        """Have a sign of life be due now: what was said of the run before holds no longer."""
        self._due = self._clock()

    def beat(self) -> float:
        """Give a sign of life if one is due, and return when the next is, on the clock; failures are passed over."""
        now = self._clock()
        if now >= self._due:
            self._due = now + INTERVAL_S
            alive = Alive(nonce=self._nonce, at_ms=self.now_ms(), acknowledged=self.acknowledged)
            try:
                self._storage.put(self._path, documents.encode_alive(alive))
            except Exception as error:  # whoever logs is told when rows cannot be stored
                LOG.debug("No sign of life could be put: %s", error)
        return self._due


def last_beat(storage: Storage, folder: str) -> int | None:
    """Return when a term last gave a sign of life, in milliseconds since 1970-01-01 UTC; None if it never did."""
    path = names.alive(folder)
    try:
        return documents.decode_alive(storage.read(path), path).at_ms
    except FileNotFoundError:
        return None
    except CorruptError as error:
        report(f"{error} Until then it is passed by.")
        return None
