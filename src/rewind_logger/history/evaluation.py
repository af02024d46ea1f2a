"""Evaluations: `validate` and `test` in a process that does not train claim nothing, so they disturb no job that does.

An evaluation is a folder of its own within the run, bound to the position of the checkpoint that was evaluated, and
seen from every revision that keeps that position.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from rewind_logger.errors import CorruptError
from rewind_logger.format import documents, names, segment
from rewind_logger.format.names import RunPaths, SegmentName
from rewind_logger.history import blobs, reader, segments
from rewind_logger.history.damage import report
from rewind_logger.history.journals.outbox import BLOB_BYTES
from rewind_logger.history.opening import now_ms
from rewind_logger.history.uploads import Uploads
from rewind_logger.history.view import View
from rewind_logger.storage.base import Storage
from rewind_logger.types import Entry, RevisionRecord, Row, RunRef, Scalar, Stream

FLUSH_POINTS = 1 << 16
"""Rows go to the store once they have so many values …"""

FLUSH_AGE_S = 10.0
"""… or, when one comes, once the first of them has waited so long."""


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
        self._folder = RunPaths(run).evaluation(secrets.token_hex(8))
        self._about = documents.Evaluation(
            kind=kind, revision=revision, next_step=next_step, checkpoint=checkpoint, created_ms=now_ms()
        )
        self._clock = next_step - 1
        self._rows: dict[Stream, list[Row]] = {}
        self._blobs: dict[str, bytes | Path] = {}
        self._uploads = Uploads(storage)
        self._points = 0
        self._since = 0.0
        self._numbers: Counter[Stream] = Counter()
        self._flushes: Counter[Stream] = Counter()

    def attach(self, data: bytes) -> str:
        """Keep bytes that a row is about to refer to; return their SHA-256. They are in the store before it."""
        digest = blobs.digest_of(data)
        self._blobs[digest] = data
        self._points += len(data) // BLOB_BYTES
        return digest

    def append(self, values: Mapping[str, Scalar], step: int | None = None, stream: Stream = "metrics") -> None:
        """Add a row, if there are any values; `values` as `format.values.flatten` returns them.

        Raises:
            StorageError: If a flush was due and failed; the rows are kept for the next.
        """
        if not values:
            return
        if not self._rows:
            self._since = time.monotonic()
        step = step if step != self._clock else None
        self._rows.setdefault(stream, []).append(Row(self._numbers[stream], self._clock, step, now_ms(), dict(values)))
        self._numbers[stream] += 1
        self._points += len(values)
        if self._points >= FLUSH_POINTS or time.monotonic() - self._since >= FLUSH_AGE_S:
            self.flush()

    def flush(self) -> None:
        """Bring every row into the store.

        Raises:
            StorageError: If that failed; the rows are kept, and may be tried again.
        """
        if not self._rows:
            return
        if not self._flushes:
            self._storage.put(names.about(self._folder), documents.encode_evaluation(self._about))
        self._uploads.send(self._blobs)
        for stream, rows in self._rows.items():
            flush = self._flushes[stream]
            data = segment.encode(rows, stream=stream, first=flush, last=flush, term=names.writer(self._folder))
            name = SegmentName(flush, flush, self._clock, self._clock)
            self._storage.put(names.segment(self._folder, stream, name), data)
        self._flushes.update(self._rows.keys())
        self._rows, self._blobs, self._points = {}, {}, 0


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
