"""A term: what one writer puts into its own folder, and how it learns that its turn is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rewind_logger.errors import FencedError
from rewind_logger.format import documents, names, segment
from rewind_logger.format.documents import End
from rewind_logger.format.names import RunPaths, SegmentName
from rewind_logger.history import claims
from rewind_logger.history.compact import Compactor
from rewind_logger.history.cumulative import Cumulative
from rewind_logger.history.heartbeat import Heartbeat
from rewind_logger.history.journals.outbox import TEXT_BYTES
from rewind_logger.history.opening import Opened
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
        self._heartbeat = Heartbeat(storage, opened.folder)
        self.cumulative = Cumulative(storage, opened)
        """The aggregates of the run's metrics up to the last flush."""

    def flush(self, flushes: Mapping[str, int], rows: Mapping[str, Sequence[Row]]) -> None:
        """Put one segment a stream, then see that the run is still ours: only then are the rows acknowledged.

        May be called again with the same arguments after a failure: names and bytes are the same.

        Raises:
            FencedError: If another writer has claimed the run. The rows may lie in the store, where no reader looks.
            StorageError: If the store fails.
        """
        if self._storage.local_path is not None:  # where that costs next to nothing; elsewhere it is seen at the end
            self._check_there()
        added = self.put(flushes, rows)
        self.check_owner()
        self._heartbeat.acknowledged.update({stream: flushes[stream] for stream in rows})
        for stream, found, points in added:
            self._compactor.add(stream, found, points)
            if stream == "metrics":
                self.cumulative.add(found, rows[stream], points)

    def put(self, flushes: Mapping[str, int], rows: Mapping[str, Sequence[Row]]) -> list[tuple[str, Segment, int]]:
        """Put the segments of a flush, at the same time; return for each its stream, itself and its points."""
        objects, added = [], []
        for stream, found in rows.items():
            clocks = [row.clock for row in found]
            name = SegmentName(flushes[stream], flushes[stream], min(clocks), max(clocks))
            nonce = self.opened.base.nonce
            data = segment.encode(found, stream=stream, first=name.first, last=name.last, term=nonce)
            objects.append((names.segment(self.opened.folder, stream, name), data))
            added.append((stream, Segment(name, len(data)), _points(stream, found)))
        self._storage.put_many(objects)
        return added

    def check_owner(self) -> None:
        """Raise `FencedError` if another writer has claimed the run."""
        claims.check_owner(self._storage, self._paths, self.opened.base.number, self._journal)

    def _check_there(self) -> None:
        """Raise `FencedError` if somebody has deleted the run: nobody would find what is written now."""
        path = names.base(self.opened.folder)
        try:
            self._storage.size(path)
        except FileNotFoundError:
            self.check_owner()  # which says who removed it, if it was done by us
            raise FencedError(
                f"Run {self.opened.run} was deleted in {self._storage.url} while it was written ({path} is gone): this "
                f"writer no longer writes to the store.{claims.kept(self._journal)} Open the run anew to go on."
            ) from None

    def compact(self, *, closing: bool = False) -> None:
        """Put together small segments of this term, and small ancestors; does nothing most of the time."""
        self._compactor.run(closing=closing)

    def beat(self) -> float:
        """Give a sign of life if one is due; return when the next is, on the monotonic clock."""
        return self._heartbeat.beat()

    def go_on(self) -> None:
        """Have a sign of life given soon: the run goes on after its closing mark."""
        self._heartbeat.hurry()

    def end(self, state: str, next_step: int) -> None:
        """Put the closing mark, replacing an earlier one."""
        self._check_there()
        mark = End(
            nonce=self.opened.base.nonce,
            state=state,
            next_step=next_step,
            ended_ms=self._heartbeat.now_ms(),
            acknowledged=self._heartbeat.acknowledged,
        )
        self._storage.put(names.end(self.opened.folder), documents.encode_end(mark))


def _points(stream: str, rows: Sequence[Row]) -> int:
    """Count values, as compaction bounds its memory by them; a long text counts as several."""
    count = sum(len(row.values) for row in rows)
    if stream != "metrics":
        texts = (value for row in rows for value in row.values.values() if isinstance(value, str))
        count += sum(len(text) // TEXT_BYTES for text in texts)
    return count
