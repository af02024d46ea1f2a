"""A term: what one writer puts into its own folder, and how it learns that its turn is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rewind_logger.format import documents, names, segment
from rewind_logger.format.documents import End
from rewind_logger.format.names import RunPaths, SegmentName
from rewind_logger.history import claims
from rewind_logger.history.compact import Compactor
from rewind_logger.history.opening import Opened, now_ms
from rewind_logger.history.segments import Segment
from rewind_logger.storage.base import Storage
from rewind_logger.types import Row


class Term:
    """A writer's turn at a run, open for flushes. One flush is in flight at a time."""

    def __init__(self, storage: Storage, opened: Opened, journal: str | None = None) -> None:
        """Begin to write.

        Args:
            storage: The store.
            opened: What `open_run` returned.
            journal: Where rows wait, for messages.
        """
        self._storage = storage
        self._journal = journal
        self._paths = RunPaths(opened.run)
        self.opened = opened
        self._compactor = Compactor(storage, opened)

    def flush(self, flushes: Mapping[str, int], rows: Mapping[str, Sequence[Row]]) -> None:
        """Put one segment a stream, then see that the run is still ours: only then are the rows acknowledged.

        May be called again with the same arguments after a failure: names and bytes are the same.

        Raises:
            FencedError: If another writer has claimed the run. The rows may lie in the store, where no reader looks.
            StorageError: If the store fails.
        """
        put = [(stream, self.put(stream, flushes[stream], found)) for stream, found in rows.items() if found]
        self.check_owner()
        for stream, (found, points) in put:
            self._compactor.add(stream, found, points)

    def put(self, stream: str, flush: int, rows: Sequence[Row]) -> tuple[Segment, int]:
        """Put the segment of one flush; return it and its number of points."""
        clocks = [row.clock for row in rows]
        name = SegmentName(flush, flush, min(clocks), max(clocks))
        data = segment.encode(rows, stream=stream, first=flush, last=flush)
        self._storage.put(names.segment(self.opened.folder, stream, name), data)
        return Segment(name, len(data)), sum(len(row.values) for row in rows)

    def check_owner(self) -> None:
        """Raise `FencedError` if another writer has claimed the run."""
        claims.check_owner(self._storage, self._paths, self.opened.base.number, self._journal)

    def compact(self, *, closing: bool = False) -> None:
        """Put together small segments of this term, and small ancestors; does nothing most of the time."""
        self._compactor.run(closing=closing)

    def end(self, state: str, next_step: int) -> None:
        """Put the closing mark, replacing an earlier one."""
        mark = End(state=state, next_step=next_step, ended_ms=now_ms())
        self._storage.put(names.end(self.opened.folder), documents.encode_end(mark))
