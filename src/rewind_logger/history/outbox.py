"""The outbox: rows that were logged and are not in the store yet, in a journal cut into flush batches."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rewind_logger.format.frames import encode_keys, encode_row, frame
from rewind_logger.history.journal import Batch, Journal, Part
from rewind_logger.types import STREAMS, Scalar, Stream

FLUSH_POINTS = 1 << 16
"""A batch is closed once it has so many values."""

LOG = logging.getLogger("rewind_logger")

_INDEX = {stream: index for index, stream in enumerate(STREAMS)}
_METRICS = _INDEX["metrics"]


class Left(Exception):
    """The outbox takes no more rows: the writer has gone on to another term."""


class Outbox:
    """What one term has logged. Rows and flushes are numbered from 0, per stream and without gaps."""

    def __init__(self, root: Path | None, about: dict[str, Any], on_work: Callable[[], None]) -> None:
        """Begin the journal.

        Args:
            root: The folder of the run's journals; None keeps this one in memory.
            about: What a person who finds the journal should know.
            on_work: Called when the first row of a batch came, and when a batch was closed for its size.
        """
        self.nonce = secrets.token_hex(8)
        self._journal = Journal(root, self.nonce, about)
        self._on_work = on_work
        self._lock = threading.RLock()  # re-entrant: a signal's handler may log while a row is being logged
        self._rows = [0] * len(STREAMS)
        self._began = [0] * len(STREAMS)  # the row numbers at which the present batch began
        self._flushes: dict[str, int] = dict.fromkeys(STREAMS, 0)
        self._points = 0
        self._keys: list[str] | None = None  # those that the present batch said last
        self._closed: deque[Part] = deque()
        self._left = False
        self._kept = False
        self.since: float | None = None
        """When the first row of the present batch came, on the monotonic clock; None if it has none."""
        self._journal.begin(self._flushes)

    @property
    def where(self) -> str | None:
        """The journal's folder, None for one in memory."""
        return self._journal.where

    @property
    def full(self) -> bool:
        """Whether a closed batch waits."""
        return bool(self._closed)

    @property
    def empty(self) -> bool:
        """Whether nothing waits."""
        return not self._closed and self.since is None

    def append(
        self, stream: Stream, values: dict[str, Scalar], clock: int | None, step: int | None, time_ms: int
    ) -> None:
        """Write one row to the journal."""
        self._write(_INDEX[stream], values, clock, step, time_ms)

    def append_metrics(
        self, keys: list[str], values: list[Scalar], clock: int | None, step: int | None, time_ms: int
    ) -> None:
        """Write one row of metrics whose keys are a list that was given before: only its values are written.

        The list is known by its identity, so it must not be changed afterwards.
        """
        with self._lock:
            if self._left:
                raise Left
            if keys is not self._keys:
                self._journal.append(frame(encode_keys(_METRICS, keys)))
                self._keys = keys
            self._write(_METRICS, values, clock, step, time_ms)

    def _write(
        self, index: int, values: dict[str, Scalar] | list[Scalar], clock: int | None, step: int | None, time_ms: int
    ) -> None:
        with self._lock:
            if self._left:
                raise Left
            row = self._rows[index]
            data = frame(encode_row(index, row, clock, step, time_ms, values))
            self._rows[index] = row + 1  # before the write, which a signal's handler may come into
            self._journal.append(data)
            self._points += len(values)
            if self.since is None:
                self.since = time.monotonic()
                self._on_work()
            if self._points >= FLUSH_POINTS:
                self._close()
                self._on_work()

    def move(self, root: Path | None) -> None:
        """Move the journal to that of another run, before the first opening."""
        with self._lock:
            self._journal.move(root)

    def claimed(self, n: int) -> None:
        """Note the writer's claim in the journal."""
        self._journal.claimed(n)

    def close_batch(self) -> None:
        """Close the present batch, if it has rows, so that `first` comes to it."""
        with self._lock:
            self._close()

    def first(self, start: int) -> Batch | None:
        """Return the oldest closed batch, None if there is none; it stays until `drop_first`.

        Args:
            start: The clock of rows that were logged before theirs was known.

        Raises:
            CorruptError: If it cannot be read back.
        """
        return self._closed[0].read(start) if self._closed else None

    def drop_first(self, *, keep: bool = False) -> None:
        """Let the oldest closed batch go: it is in the store, or its file is kept because it is damaged."""
        part = self._closed.popleft()
        if keep:
            self._kept = True
        else:
            part.drop()

    def end(self) -> None:
        """Take no more rows; those that wait can still be flushed."""
        with self._lock:
            self._close()
            self._left = True

    def leave(self) -> None:
        """Stop. The journal is removed if nothing waits in it, and else left for the next opening."""
        self.end()
        if not self._closed and not self._kept:
            self._journal.discard()
            return
        self._journal.leave()
        if any(part.in_memory for part in self._closed):
            LOG.error("Rows that were held in memory only never came into their store, and are lost.")

    def _close(self) -> None:
        if self.since is None:
            return
        self._closed.append(self._journal.close_part())
        for index, stream in enumerate(STREAMS):
            if self._rows[index] > self._began[index]:
                self._flushes[stream] += 1
        self._began = list(self._rows)
        self._points, self.since, self._keys = 0, None, None  # each batch can be read alone
        self._journal.begin(self._flushes)
