"""A writer that writes nothing, for `mode="disabled"`: a script runs as it does otherwise, and leaves no trace."""

from __future__ import annotations

from collections.abc import Callable

from rewind_logger.format.aggregates import Aggregates, Running, of_rows
from rewind_logger.format.documents import Base
from rewind_logger.history.blobs import digest_of
from rewind_logger.history.opening import Opened, OpenRequest
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.types import RevisionRecord, Row, RunRef, Scalar, Stream

ROWS_TOGETHER = 1 << 10
"""Rows that are held at most."""


class NullWriter(Writer):
    """Takes rows and forgets them, but for what a summary needs."""

    def __init__(self, storage: Storage, run: RunRef) -> None:
        """Take a run; `storage` is never used."""
        super().__init__(storage, run, background=False)
        self._seen = Running()
        self._rows: list[Row] = []

    def append(
        self,
        stream: Stream,
        values: dict[str, Scalar],
        clock: int | None,
        step: int | None = None,
        time_ms: int | None = None,
    ) -> None:
        """Forget a row."""

    def attach(self, data: bytes) -> str:
        """Forget bytes; return their digest."""
        return digest_of(data)

    def append_metrics(self, keys: list[str], values: list[Scalar], clock: int | None, step: int | None) -> None:
        """Forget a row, once there are many."""
        self._rows.append(Row(0, 0, None, 0, dict(zip(keys, values, strict=True))))
        if len(self._rows) >= ROWS_TOGETHER:
            self.aggregates()

    def aggregates(self) -> Aggregates:
        """Return those of all rows."""
        rows, self._rows = self._rows, []
        self._seen.add(of_rows(rows))
        return self._seen.result()

    def open(self, request: OpenRequest) -> Opened:
        """Begin where the request says; there is nothing that could be missing."""
        start = (request.at.next_step or 0) if request.at is not None else 0
        record = RevisionRecord(number=1, parent=None, cut=None, created_ms=0, reason=request.reason)
        base = Base(number=0, nonce="disabled", revision=1, start=start, lineage=(), revisions=(record,), created_ms=0)
        self.opened = Opened(run=self.run, kind="new", revision=1, start=start, parent=None, base=base, folder="")
        return self.opened

    def flush(self, timeout: float | None = None, waiting: Callable[[], None] | None = None) -> bool:
        """Return True: nothing waits."""
        return True

    def finish(self, state: str, timeout: float | None = None, waiting: Callable[[], None] | None = None) -> bool:
        """Return True: nothing waits."""
        return True
