"""The aggregates of all that a writer's run has: kept up with its flushes, and put into the store now and then."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterable, Sequence

from rewind_logger.errors import CorruptError
from rewind_logger.format import names, snapshot
from rewind_logger.format.aggregates import Aggregates, Running, combine, of_rows
from rewind_logger.format.names import SnapshotName
from rewind_logger.format.snapshot import Snapshot
from rewind_logger.history import snapshots
from rewind_logger.history.held import is_held_here
from rewind_logger.history.journals.part import Batch
from rewind_logger.history.opening import Opened, built_on
from rewind_logger.history.segments import Segment
from rewind_logger.history.snapshots import Unread
from rewind_logger.history.view import View, is_long
from rewind_logger.storage.base import Storage
from rewind_logger.types import Row

LOG = logging.getLogger("rewind_logger")

DUE_SEGMENTS, DUE_BYTES = 64, 2 << 20
"""A snapshot is written once so much would have to be read besides the last one …"""

DUE_SHARE = 1.0
"""… and no less than this share of that one's size: so snapshots never take more room than rows."""

CLOSING_SEGMENTS = 8
"""At a close, where there may be no later opportunity, so many are enough. What is less is as quickly read without."""

HELD_POINTS, MOST_HELD_POINTS = 1 << 17, 1 << 18
"""Points whose rows are held until the thread that flushes has the time for them, and how many at most."""


class Cumulative:
    """The aggregates of a term: of what it builds on, which is read when it is first needed, and of what it flushed."""

    def __init__(self, storage: Storage, opened: Opened) -> None:
        """Take the term's opening; nothing is read."""
        self._storage = storage
        self._opened = opened
        self._arrived: deque[tuple[Segment, Sequence[Row], int]] = deque()  # what is not counted yet
        self._arrived_points = self._counted_points = 0
        self._lock = threading.RLock()  # around what follows: a user may look while a thread flushes
        self._own = Running()
        self._flush = -1
        self._last_row = -1
        self._newest_clock = opened.base.newest_clock
        self._told = (self._flush, Aggregates())
        self._view: View | None = None  # of what it builds on
        self._left: Unread | None = None  # by ancestors without a snapshot
        self._inherited: Aggregates | None = None
        self._damage: CorruptError | None = None  # what is missing in them
        self._long = is_long(opened.base)  # of so many ancestors none may have had the time
        # Of the thread that tidies alone:
        self._segments = self._bytes = 0  # since the last snapshot; those of ancestors once they were looked up
        self._last_size = 0
        self._looked_up = not any("metrics" in entry.sealed for entry in opened.base.lineage)
        self._not_before = 0  # segments, after a failure

    def add(self, found: Segment, rows: Sequence[Row], points: int) -> None:
        """Note a segment of metrics that was acknowledged, its rows, and how many points they have."""
        self._arrived.append((found, rows, points))
        self._arrived_points += points
        self._segments += 1
        self._bytes += found.size
        if self._held_points > MOST_HELD_POINTS:
            self._own_unless_busy()

    def own(self) -> tuple[int, Aggregates]:
        """Return the last flush of metrics of this term, −1 without one, and the aggregates up to it.

        A signal's handler that has come into this very call is told what the last one was.
        """
        if not is_held_here(self._lock):
            with self._lock:
                self._catch_up()
        return self._told

    def _own_unless_busy(self) -> tuple[int, Aggregates] | None:
        """Return the same to the thread that flushes, or None: it waits for nobody who may be waiting for a flush.

        Such is a signal's handler that has come into `own`.
        """
        if is_held_here(self._lock) or not self._lock.acquire(blocking=False):
            return None
        try:
            self._catch_up()
            return self._told
        finally:
            self._lock.release()

    def inherited(self) -> Aggregates:
        """Return the aggregates of what the term builds on, as far as it can be read.

        Two threads may read it at once, for neither can wait for the other, for the same reason as in `own`.

        Raises:
            StorageError: If the store fails.
        """
        if self._inherited is None:
            try:
                self._inherited = self._read_inherited(strict=True)
            except CorruptError as error:
                self._damage = error
                self._inherited = self._read_inherited(strict=False)
        return self._inherited

    @property
    def _held_points(self) -> int:
        """How many points there are in rows that are not counted yet."""
        return self._arrived_points - self._counted_points

    def _read_inherited(self, *, strict: bool) -> Aggregates:
        if self._left is None:
            return snapshots.aggregates(self._storage, self._built_on(), strict=strict)
        return snapshots.read(self._storage, self._built_on(), self._left, strict=strict)

    def _built_on(self) -> View:
        # By no `cached_property`, which holds a lock before Python 3.12.
        if self._view is None:
            self._view = built_on(self._storage, self._opened)
        return self._view

    def tidy(self, *, closing: bool = False) -> None:
        """Write a snapshot if one is due, and hold no more rows than need be.

        Raises:
            CorruptError: If a segment is damaged or missing; then none is ever written, for it may be restored.
            StorageError: If the store failed; it is tried again later.
        """
        if self._held_points >= HELD_POINTS:
            self._own_unless_busy()
        if not self._arrived_points or self._segments < self._not_before:
            return
        try:
            # A request that a short term need not make: at a later flush or at its end will do.
            if not self._looked_up and (closing or self._is_due(closing=True)):
                self._look_up()
            if self._is_due(closing=closing):
                self._put()
        except Exception as error:
            self._not_before = 2**62 if isinstance(error, CorruptError) else self._segments + DUE_SEGMENTS
            raise

    def _look_up(self) -> None:
        """Count what the ancestors left without a snapshot: or else many short terms would never write one."""
        left = self._left = snapshots.unread(self._storage, self._built_on())
        self._segments += len(left.files)
        self._bytes += left.bytes
        self._last_size = left.newest.size if left.newest is not None else 0
        self._looked_up = True

    def _is_due(self, *, closing: bool) -> bool:
        segments = CLOSING_SEGMENTS if closing else DUE_SEGMENTS
        enough = self._segments >= segments or self._bytes >= DUE_BYTES or (self._long and self._last_size == 0)
        return enough and self._bytes >= DUE_SHARE * self._last_size

    def _put(self) -> None:
        inherited = self.inherited()
        if self._damage is not None:
            raise self._damage
        if (told := self._own_unless_busy()) is None:
            return  # it is due at the next flush, too
        flush, own = told
        found = Snapshot(
            flush=flush,
            last_row=self._last_row,
            newest_clock=self._newest_clock,
            aggregates=combine([inherited, own]),
            term=self._opened.base.nonce,
        )
        data = snapshot.encode(found)
        self._storage.put(names.snapshot(self._opened.folder, SnapshotName(flush, found.newest_clock)), data)
        self._segments = self._bytes = self._not_before = 0
        self._last_size = len(data)

    def _catch_up(self) -> None:
        """Count what has arrived."""
        while self._arrived:
            found, rows, points = self._arrived.popleft()
            self._own.add(of_rows(rows))
            self._flush = found.name.last
            self._last_row = max(self._last_row, *(row.row for row in rows))
            self._newest_clock = max(self._newest_clock, found.name.last_clock)
            self._counted_points += points
        self._told = self._flush, self._own.result()


def everything(cumulative: Cumulative | None, waiting: Iterable[Batch]) -> Aggregates:
    """Return the aggregates of a writer's run, with the rows that wait.

    Args:
        cumulative: Of its term; None before the first opening.
        waiting: What waited before this call: batches that came into the store meanwhile are known by their flush.
    """
    flush, own = (-1, Aggregates()) if cumulative is None else cumulative.own()
    rest = [batch.rows["metrics"] for batch in waiting if "metrics" in batch.rows and batch.flushes["metrics"] > flush]
    inherited = Aggregates() if cumulative is None else cumulative.inherited()
    return combine([inherited, own, *map(of_rows, rest)])
