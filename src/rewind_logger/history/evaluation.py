"""Evaluations: `validate` and `test` in a process that does not train claim nothing, so they disturb no job that does.

An evaluation is a folder of its own within the run, bound to the position of the checkpoint that was evaluated, and
seen from every revision that keeps that position.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from rewind_logger.errors import CorruptError, StorageError
from rewind_logger.format import documents, names, segment
from rewind_logger.format.names import RunPaths, SegmentName
from rewind_logger.history import blobs, reader, segments
from rewind_logger.history.damage import report
from rewind_logger.history.flusher import FIRST_RETRY_S, LAST_RETRY_S
from rewind_logger.history.journals.outbox import BLOB_BYTES, HELD_BYTES, TEXT_BYTES, Outbox
from rewind_logger.history.journals.part import Batch
from rewind_logger.history.opening import now_ms
from rewind_logger.history.uploads import Uploads
from rewind_logger.history.view import View
from rewind_logger.storage.base import Storage
from rewind_logger.types import Entry, RevisionRecord, Row, RunRef, Scalar, Stream

FLUSH_POINTS = 1 << 16
"""Rows go to the store once they have so many values …"""

FLUSH_AGE_S = 10.0
"""… or, when one comes, once the first of them has waited so long."""


LOG = logging.getLogger("rewind_logger")

_STREAMS: tuple[Stream, ...] = ("metrics", "media")


@dataclass(frozen=True, slots=True)
class _Batch:
    """A flush that waits."""

    segments: dict[str, bytes]
    """By path."""
    blobs: dict[str, bytes]
    """By digest what its rows refer to."""
    then: Callable[[], None] | None
    """Called once it is in the store."""

    @property
    def size(self) -> int:
        """How many bytes of memory it takes."""
        return sum(map(len, (*self.segments.values(), *self.blobs.values())))


class EvaluationWriter:
    """Writes one evaluation. Nothing is written before the first row."""

    def __init__(
        self, storage: Storage, run: RunRef, *, kind: str, revision: int, next_step: int, checkpoint: str | None
    ) -> None:
        """Begin an evaluation.

        Args:
            storage: The store.
            run: The run that the evaluated checkpoint is of.
            kind: "validate" or "test".
            revision: The revision that the position is in.
            next_step: The position that is evaluated (exclusive).
            checkpoint: The path or URL of the checkpoint, None if none was loaded.
        """
        self._storage = storage
        nonce = secrets.token_hex(8)
        self._folder = RunPaths(run).evaluation(nonce)
        self._about = documents.Evaluation(
            run=run,
            nonce=nonce,
            kind=kind,
            revision=revision,
            next_step=next_step,
            checkpoint=checkpoint,
            created_ms=now_ms(),
        )
        self._clock = next_step - 1
        self._rows: dict[Stream, list[Row]] = {}
        self._blobs: dict[str, bytes] = {}
        self._closed: deque[_Batch] = deque()
        self._held = 0  # bytes of these
        self._uploads = Uploads(storage)
        self._points = 0
        self._since = 0.0
        self._begun = False
        self._wait = FIRST_RETRY_S
        self._retry_at = 0.0  # after a failure, on the monotonic clock
        self._dropped = 0
        self._numbers: Counter[Stream] = Counter()
        self._flushes: Counter[Stream] = Counter()

    def attach(self, data: bytes) -> str:
        """Keep bytes that a row is about to refer to; return their SHA-256. They are in the store before it."""
        digest = blobs.digest_of(data)
        if not self._is_full:
            self._blobs[digest] = data
            self._points += len(data) // BLOB_BYTES
        return digest

    def append(self, values: Mapping[str, Scalar], step: int | None = None, stream: Stream = "metrics") -> None:
        """Add a row, if there are any values; `values` as `format.values.flatten` returns them.

        While the store is away, rows are kept in memory, up to `HELD_BYTES`; those that come then are dropped.

        Raises:
            StorageError: If a flush was due and failed; the rows are kept, and it is due again after a while.
        """
        if not values:
            return
        if self._is_full:
            self._drop()
        else:
            self._add(values, step, stream)
        now = time.monotonic()
        if now >= self._retry_at and (self._closed or (self._rows and now - self._since >= FLUSH_AGE_S)):
            self._send()

    def flush(self) -> None:
        """Bring every row into the store.

        Raises:
            StorageError: If that failed; the rows are kept, and may be tried again.
        """
        try:
            self._send()
        finally:
            self._say_dropped()

    def take(self, batch: Batch, found: Mapping[str, bytes], then: Callable[[], None]) -> None:
        """Add the rows of a journal; they wait for `flush`.

        Args:
            batch: The rows.
            found: By digest what they refer to.
            then: Called once they are in the store, if only by a later flush.
        """
        self._blobs.update(found)
        for stream in _STREAMS:
            for row in batch.rows.get(stream, ()):
                self._add(row.values, row.step, stream)
        self._close(then)

    def _add(self, values: Mapping[str, Scalar], step: int | None, stream: Stream) -> None:
        if not self._rows:
            self._since = time.monotonic()
        step = step if step != self._clock else None
        self._rows.setdefault(stream, []).append(Row(self._numbers[stream], self._clock, step, now_ms(), dict(values)))
        self._numbers[stream] += 1
        texts = (len(value) // TEXT_BYTES for value in values.values() if isinstance(value, str))
        self._points += len(values) + sum(texts)
        if self._points >= FLUSH_POINTS:
            self._close()

    def _close(self, then: Callable[[], None] | None = None) -> None:
        """Fix the bytes of a flush, before its first attempt: one that timed out may come through at any later time."""
        if not self._rows and then is None:
            return
        segments = {}
        for stream, rows in self._rows.items():
            flush = self._flushes[stream]
            name = SegmentName(flush, flush, self._clock, self._clock)
            segments[names.segment(self._folder, stream, name)] = segment.encode(
                rows, stream=stream, first=flush, last=flush, term=self._about.nonce
            )
        self._flushes.update(self._rows.keys())
        self._closed.append(_Batch(segments, self._blobs, then))
        self._held += self._closed[-1].size
        self._rows, self._blobs, self._points = {}, {}, 0

    def _send(self) -> None:
        """Bring every row into the store; after a failure the next attempt is due after a while, ever longer."""
        self._close()
        try:
            while self._closed:
                self._put(self._closed[0])
                batch = self._closed.popleft()
                self._held -= batch.size
                if batch.then is not None:
                    batch.then()
        except StorageError:
            self._retry_at = time.monotonic() + self._wait
            self._wait = min(2 * self._wait, LAST_RETRY_S)
            raise
        self._wait, self._retry_at = FIRST_RETRY_S, 0.0
        self._say_dropped()

    def _put(self, batch: _Batch) -> None:
        if batch.segments and not self._begun:
            self._storage.put(names.about(self._folder), documents.encode_evaluation(self._about))
            self._begun = True
        self._uploads.send(batch.blobs)
        for path, data in batch.segments.items():
            self._storage.put(path, data)

    @property
    def _is_full(self) -> bool:
        """Whether memory is full of rows that the store does not take."""
        return self._held >= HELD_BYTES

    def _drop(self) -> None:
        if not self._dropped:
            LOG.error(
                "The store takes nothing, and %d MiB of rows of %s are held in memory: further rows are dropped until "
                "there is room.",
                HELD_BYTES >> 20,
                self._folder,
            )
        self._dropped += 1

    def _say_dropped(self) -> None:
        """Say how many rows are lost."""
        dropped, self._dropped = self._dropped, 0
        if dropped:
            LOG.error("%s rows of %s were dropped while the store had no room for them.", f"{dropped:,}", self._folder)


def move(outbox: Outbox, evaluation: EvaluationWriter) -> None:
    """Make the rows an evaluation's that wait for a run to be opened, which never was; hold the writer's lock.

    What was given to the evaluation stays in the journal until it is in the store: once, whenever that is.

    Raises:
        RewindError: If the store failed, or the journal cannot be read; this may be called again.
        OSError: If a file of the journal cannot be read.
    """
    evaluation.flush()  # what an earlier call gave it
    outbox.close_batch()
    while (batch := outbox.first(0)) is not None:
        found = {
            digest: data if isinstance(data, bytes) else data.read_bytes()
            for digest, data in outbox.first_blobs().items()
        }
        evaluation.take(batch, found, partial(outbox.drop, outbox.parts()[0], keep=batch.damaged))
        evaluation.flush()
    outbox.rest()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvaluation:
    """An evaluation as it lies in a store."""

    about: documents.Evaluation
    folder: str


def evaluations(storage: Storage, view: View) -> list[StoredEvaluation]:
    """Return the evaluations of positions that a view keeps, oldest first."""
    paths = RunPaths(view.run)
    folders = [paths.evaluation(info.name) for info in storage.list(paths.evaluations) if info.size is None]
    bodies = storage.read_each([names.about(folder) for folder in folders])
    found = []
    for folder, body in zip(folders, bodies, strict=True):
        if not isinstance(body, bytes):
            continue
        try:
            about = documents.decode_evaluation(body, names.about(folder))
        except CorruptError as error:
            report(f"{error} Until then the evaluation {folder} is left out.")
        else:
            found.append(StoredEvaluation(about=about, folder=folder))
    kept = [one for one in found if keeps(view, one.about.revision, one.about.next_step)]
    return sorted(kept, key=lambda one: (one.about.created_ms, one.folder))


def about(storage: Storage, folder: str) -> documents.Evaluation | None:
    """Return what an evaluation says of itself, None if it is gone."""
    path = names.about(folder)
    try:
        return documents.decode_evaluation(storage.read(path), path)
    except FileNotFoundError:
        return None


def read(
    storage: Storage,
    view: View,
    one: StoredEvaluation,
    stream: Stream = "metrics",
    keys: Collection[str] | None = None,
) -> pa.Table:
    """Return the rows of an evaluation, as `reader.read` does."""
    end = segments.seal(storage, one.folder)
    plan = {} if end.files is None else {one.folder: segments.plan_of(end.files)}
    alone = View(
        run=view.run,
        revision=one.about.revision,
        head=False,
        entries=(Entry(one.folder, end.sealed, None),),
        plan=plan,
        start=0,
        next_step=one.about.next_step,
        newest_clock=end.last_clock.get("metrics", -1),
        revisions=view.revisions,
        folder=one.folder,
    )
    return reader.read(storage, alone, stream, keys=keys)


def keeps(view: View, revision: int, next_step: int) -> bool:
    """Say whether a position of a revision lies on the line of rows that a view shows."""
    limit = view.next_step if not view.head else None
    return descends(view.run, view.revisions, view.revision, revision, next_step, limit)


def descends(
    run: RunRef,
    records: Sequence[RevisionRecord],
    at: int,
    revision: int,
    next_step: int,
    limit: int | None = None,
) -> bool:
    """Say the same of revision `at`, visible up to `limit` (exclusive; None: to its end)."""
    while True:
        if at == revision:
            return limit is None or next_step <= limit
        record = records[at - 1]
        if record.parent is None or record.parent[0] != str(run):
            return False
        at = record.parent[1]
        if record.cut is not None:
            limit = record.cut if limit is None else min(limit, record.cut)
