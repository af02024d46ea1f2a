"""Collection: removes from a store what nobody can need any more. Why that is safe: `design/009-collect.md`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from rewind_logger.errors import CorruptError
from rewind_logger.format import documents, names
from rewind_logger.format.documents import Trim
from rewind_logger.format.names import RunPaths
from rewind_logger.history import blobs, catalog, store_clock
from rewind_logger.history.collecting.garbage import Garbage, Sweep
from rewind_logger.history.collecting.needs import Needs, Roots, is_old, roots
from rewind_logger.history.collecting.references import Reading, References
from rewind_logger.history.journals.roots import journal_roots
from rewind_logger.history.pins import pins
from rewind_logger.history.together import batches
from rewind_logger.storage.base import Storage, raise_first
from rewind_logger.types import STREAMS_WITH_BLOBS, Progress, RunRef

GRACE_S = 7 * 86400.0
"""What was written within this time stays, unless another is asked for."""

LEAST_GRACE_S = 2 * blobs.FRESH_S
"""With less, what writers rely on at this moment could go."""

BATCH = 256
"""Objects that are removed at the same time."""

LOOKED_AT = 16
"""Blobs of which the age is looked up once more before these are removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a collection removed, or would."""

    url: str
    dry_run: bool
    objects: Mapping[str, int]
    """How many, by what they were."""
    bytes: Mapping[str, int]
    """How large they were, likewise."""
    notes: tuple[str, ...] = ()
    """What was left, and why."""

    def __str__(self) -> str:
        """Return a table."""
        done = "would be removed" if self.dry_run else "removed"
        lines = [
            f"{self.objects[what]:>12,} objects {self.bytes[what] / 1e6:>12,.1f} MB  {what}"
            for what in sorted(self.objects)
        ]
        total = sum(self.objects.values()), sum(self.bytes.values()) / 1e6
        head = f"{self.url}: {total[0]:,} objects, {total[1]:,.1f} MB {done}."
        hint = ["Nothing was removed: call it with dry_run=False."] if self.dry_run and total[0] else []
        return "\n".join([head, *lines, *self.notes, *hint])


@dataclass(slots=True)
class Remover:
    """Removes garbage, and counts it."""

    storage: Storage
    dry_run: bool
    objects: Counter[str] = field(default_factory=Counter)
    bytes: Counter[str] = field(default_factory=Counter)
    _trimmed: set[tuple[str, int]] = field(default_factory=set)

    def remove(self, found: Iterable[Garbage]) -> None:
        """Remove objects, a bounded number at a time.

        Raises:
            StorageError: If the store fails. What was removed by then is gone, and all that is needed is there.
        """
        for batch in batches(found, BATCH):
            if not self.dry_run:
                for trim in {one.trim for one in batch if one.trim is not None} - self._trimmed:
                    self.storage.put(names.trimmed(trim[0]), documents.encode_trim(Trim(folder=trim[0], cut=trim[1])))
                    self._trimmed.add(trim)
                raise_first(self.storage.delete_each([one.path for one in batch]))
            for one in batch:
                self.count(one.reason, one.size)

    def count(self, what: str, size: int) -> None:
        """Count one object."""
        self.objects[what] += 1
        self.bytes[what] += size

    def report(self, notes: Iterable[str]) -> Collected:
        """Return what was done."""
        return Collected(
            url=self.storage.url,
            dry_run=self.dry_run,
            objects=dict(self.objects),
            bytes=dict(self.bytes),
            notes=tuple(notes),
        )


def collect(
    storage: Storage, *, dry_run: bool = True, grace_s: float = GRACE_S, progress: Progress | None = None
) -> Collected:
    """Remove what nobody can need any more.

    Args:
        storage: The store.
        dry_run: Whether only to say what would be removed.
        grace_s: What was written within so many seconds stays. Less than `LEAST_GRACE_S` is safe only while nobody
            else uses the store.
        progress: Is told how far it is.

    Raises:
        CorruptError: If it cannot be known what is needed, because something is damaged: then nothing was removed.
        FormatVersionError: If a newer version of this package wrote something: likewise.
        StorageError: If the store fails, or does not say when its objects were written.
    """
    tell = progress or (lambda what, done, total: None)
    now, notes = store_clock.now_unless(storage, dry_run)
    limit = now - grace_s
    runs = catalog.runs(storage, removed=True, unread=None)
    shared = needs_of(storage, runs, limit, tell)
    remover, reading = Remover(storage, dry_run), Reading(storage)
    readable: CorruptError | None = None
    for i, run in enumerate(runs):
        tell("runs", i, len(runs))
        try:  # before the segments are listed: what leaves a journal is in the store by then
            for root in journal_roots(storage, run):
                reading.add_journals(root)
        except CorruptError as error:
            readable = error
        found = roots(storage, run, limit)
        kept: list[tuple[str, str, int]] = []
        sweep = Sweep(storage, found, needed(found, shared), limit, _noting(kept))
        remover.remove(sweep.garbage())
        notes += sweep.notes
        remover.remove(_pins(storage, run, limit))
        try:
            reading.add_segments(kept)
        except CorruptError as error:
            readable = error
    tell("runs", len(runs), len(runs))
    if readable is None:
        _collect_blobs(remover, reading.blobs, limit, tell)
    else:
        notes.append(f"Files of artifacts and media stay, for it is not known which are needed: {readable}")
    _collect_uploads(remover, limit)
    return remover.report(notes)


def needs_of(storage: Storage, runs: list[RunRef], limit: float, tell: Progress) -> Needs:
    """Return what runs need of the folders of others."""
    shared = Needs()
    for i, run in enumerate(runs):
        tell("what forks need", i, len(runs))
        shared.take(roots(storage, run, limit).needs, outside=f"{RunPaths(run).terms}/")
    return shared


def needed(found: Roots, shared: Needs) -> Needs:
    """Return what all runs need of the folders of one."""
    own = f"{RunPaths(found.run).terms}/"
    both = Needs()
    both.take(found.needs, within=own)
    both.take(shared, within=own)
    return both


def _noting(kept: list[tuple[str, str, int]]) -> Callable[[str, str, int], None]:
    """Note the segments that may name blobs."""

    def note(path: str, stream: str, size: int) -> None:
        if stream in STREAMS_WITH_BLOBS:
            kept.append((path, stream, size))

    return note


def _pins(storage: Storage, run: RunRef, limit: float) -> Iterable[Garbage]:
    for pin in pins(storage, run):
        if pin.state in ("none", "gone") and is_old(pin.modified, limit):
            yield Garbage(pin.path, pin.size, "pins of forks that are not there")


def _collect_blobs(remover: Remover, needed: References, limit: float, tell: Progress) -> None:
    """Remove blobs that no row names, each as soon as it was seen once more that it is old."""
    storage = remover.storage
    top = storage.list("blobs")
    remover.remove(
        Garbage(f"blobs/{info.name}", info.size, "uploads that were cut short")
        for info in top
        if info.size is not None and names.is_probe(info.name) and is_old(info.modified, limit)
    )
    prefixes = [info.name for info in top if info.size is None]
    for i, prefix in enumerate(prefixes):
        tell("folders of files", i, len(prefixes))
        found = [
            Garbage(f"blobs/{prefix}/{info.name}", info.size, "files that no row refers to")
            for info in storage.list(f"blobs/{prefix}")
            if info.size is not None
            and blobs.is_digest(info.name)
            and info.name.startswith(prefix)
            and is_old(info.modified, limit)
            and info.name not in needed
        ]
        for batch in batches(found, LOOKED_AT):
            remover.remove([one for one in batch if _is_still_old(storage, one.path, limit)])
    tell("folders of files", len(prefixes), len(prefixes))


def _is_still_old(storage: Storage, path: str, limit: float) -> bool:
    """Whether nobody touched a blob, or put it anew, to refer to it."""
    try:
        return is_old(storage.info(path).modified, limit)
    except FileNotFoundError:
        return False


def _collect_uploads(remover: Remover, limit: float) -> None:
    """Remove what writes left that were cut short."""
    for one in remover.storage.unfinished(skip=("checkpoints", RunPaths.JOURNALS)):
        if is_old(one.modified, limit):
            if not remover.dry_run:
                remover.storage.discard(one)
            remover.count("uploads that were cut short", one.size or 0)
