"""Compaction: many small segments into few, without a word of metadata.

A compacted segment is put beside its parts under a name with the wider range; readers choose the widest. Its owner
does it while the run is its own; a range that crosses a seal is ignored by everyone, so a compaction that is overtaken
by another opening does no harm.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from rewind_logger.errors import CorruptError, RewindError, TransientStorageError
from rewind_logger.format import documents, names, segment
from rewind_logger.format.columns import array, column_of
from rewind_logger.format.documents import Merge, Plan
from rewind_logger.format.names import SegmentName
from rewind_logger.history import reader, segments
from rewind_logger.history.opening import Opened, planned
from rewind_logger.history.reader import File
from rewind_logger.history.segments import Segment
from rewind_logger.history.view import View, is_long
from rewind_logger.storage.base import Storage
from rewind_logger.types import Entry

FAN_IN = 64
"""Segments of one level that are put together."""

MAX_POINTS = 1 << 20
"""Points of a compacted segment; also what compaction holds in memory at a time."""

CLOSING_PARTS = 8
"""At a close, so many small segments at the end of a stream are put together."""

SMALL_POINTS = 1 << 14
"""Points up to which a segment counts as small at a close."""

LONG_S = 3600.0
"""Ancestors that were not put together within this time are left as they are."""

SMALL_BYTES = 4 << 20
"""An ancestor whose segments have up to so many bytes is merged; a larger one is left where it is."""


class _Part(NamedTuple):
    segment: Segment
    points: int


@dataclass(slots=True)
class _Work:
    """Something that may fail, and then rests, ever longer: so it costs little however long it fails."""

    failures: int = 0
    resting: int = 0
    """For how many runs it is left alone."""

    def is_due(self) -> bool:
        """Say whether to do it in this run."""
        self.resting -= 1
        return self.resting < 0

    def failed(self) -> None:
        """Leave it alone for none, one, three, seven … runs."""
        self.resting = 2**self.failures - 1
        self.failures += 1


@dataclass(slots=True)
class _Level:
    parts: list[_Part] = field(default_factory=list)
    work: _Work = field(default_factory=_Work)


class Compactor:
    """Compacts the segments of one term."""

    def __init__(self, storage: Storage, opened: Opened) -> None:
        """Take the term's opening."""
        self._storage = storage
        self._opened = opened
        self._levels: dict[str, list[_Level]] = {}
        self._ancestors = _Work() if is_long(opened.base) else None
        self._failure: Exception | None = None  # the first of a run

    def add(self, stream: str, found: Segment, points: int) -> None:
        """Note a segment that was acknowledged."""
        levels = self._levels.setdefault(stream, [_Level()])
        levels[0].parts.append(_Part(found, points))

    def run(self, *, closing: bool = False) -> None:
        """Put together what has become enough; at a close, also a tail of small segments.

        Raises:
            StorageError: If the store failed: in a way that may pass, and a later run tries again; or it refused
                something, and that is left as it is.
            CorruptError: If a segment is damaged; it is left as it is.

        Of several errors the first is raised, once all else was done.
        """
        if self._ancestors is not None and self._ancestors.is_due():
            with self._trying(self._ancestors, self._leave_ancestors):
                merge_ancestors(self._storage, self._opened)
                self._leave_ancestors()
        for stream, levels in self._levels.items():
            for number, level in enumerate(levels):  # which grows meanwhile
                parts = level.parts
                small = [part for part in parts if part.points <= SMALL_POINTS]
                enough = len(parts) >= FAN_IN
                enough |= closing and number == 0 and len(small) == len(parts) >= CLOSING_PARTS
                if enough and level.work.is_due():
                    with self._trying(level.work, parts.clear):
                        merged = self._compact(stream, parts)
                        parts.clear()
                        if number + 1 == len(levels):
                            levels.append(_Level())
                        levels[number + 1].parts.extend(merged)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _leave_ancestors(self) -> None:
        self._ancestors = None

    @contextlib.contextmanager
    def _trying(self, work: _Work, give_up: Callable[[], None]) -> Iterator[None]:
        """Keep an error from what follows, and do not try again at once, or at all if it cannot become better."""
        try:
            yield
        except (RewindError, FileNotFoundError) as error:
            if isinstance(error, TransientStorageError):
                work.failed()
            else:
                give_up()
            # Its traceback would hold what was read.
            self._failure = self._failure or error.with_traceback(None)
        else:
            work.failures = 0

    def _compact(self, stream: str, parts: Sequence[_Part]) -> list[_Part]:
        """Put neighbours together as far as their points allow; return what goes on to the next level."""
        done: list[_Part] = []
        while parts:
            taken, points = 1, parts[0].points
            while (
                taken < len(parts)
                and points + parts[taken].points <= MAX_POINTS
                # One that was too large for its neighbours stayed behind at a lower level: a range over it would hide
                # its rows.
                and parts[taken].segment.name.first == parts[taken - 1].segment.name.last + 1
            ):
                points += parts[taken].points
                taken += 1
            if taken > 1:
                done.append(self._put(stream, parts[:taken], points))
            parts = parts[taken:]
        return done

    def _put(self, stream: str, group: Sequence[_Part], points: int) -> _Part:
        folder = self._opened.folder
        parts = [part.segment.name for part in group]
        paths = [names.segment(folder, stream, name) for name in parts]
        bodies = self._storage.read_many(paths)
        name = SegmentName(
            parts[0].first,
            parts[-1].last,
            min(part.first_clock for part in parts),
            max(part.last_clock for part in parts),
        )
        tables = [
            segment.decode(body, expected=segments.identity(path, part))
            for path, part, body in zip(paths, parts, bodies, strict=True)
        ]
        nonce = self._opened.base.nonce
        data = segment.merge(tables, stream=stream, first=name.first, last=name.last, term=nonce)
        self._storage.put(names.segment(folder, stream, name), data)
        return _Part(Segment(name, len(data)), points)


def merge_ancestors(storage: Storage, opened: Opened) -> None:
    """Write a shorter lineage beside a long one: neighbours with few rows are merged into the term's own folder.

    The base stays as it is; a reader that meets a long lineage looks for the shorter one.

    Raises:
        StorageError: If the store failed.
        CorruptError: If a segment is damaged or missing: nothing is hidden behind a merge that lacks its rows.
    """
    base, began = opened.base, time.time()
    view = View(
        run=opened.run,
        revision=base.revision,
        head=True,
        entries=base.lineage,
        plan=base.plan,
        start=base.start,
        next_step=base.start,
        newest_clock=-1,
        revisions=base.revisions,
        folder=opened.folder,
    )
    streams = sorted({stream for entry in base.lineage for stream in entry.sealed})
    found: dict[int, dict[str, list[Segment]]] = {
        index: {stream: reader.entry_segments(storage, view, entry, stream) for stream in streams}
        for index, entry in enumerate(base.lineage)
    }
    lineage: list[Entry] = []
    plan: Plan = {}
    for index, entry in enumerate(base.lineage):
        if any(segments.lost(storage, entry, found[index][stream], flush) for stream, flush in entry.sealed.items()):
            raise CorruptError(f"Segments of {entry.folder} in {storage.url} are missing.")
    for group in _neighbours(found):
        if len(group) == 1:
            entry = base.lineage[group[0]]
            lineage.append(entry)
            if segments.is_whole(found[group[0]], entry.sealed):  # what lies behind its cut may have been removed
                plan[entry.folder] = segments.plan_of(found[group[0]])
            continue
        folder = names.merged(opened.folder, len(lineage))
        files: dict[str, list[Segment]] = {}
        for stream in streams:
            wanted = [
                File(index, names.segment(entry.folder, stream, one.name), one, entry.cut)
                for index in group
                for entry in (base.lineage[index],)
                for one in found[index][stream]
                if entry.cut is None or one.name.first_clock < entry.cut
            ]
            merged = _merge(storage, wanted, folder, stream)
            if merged is not None:
                files[stream] = [merged]
        if files:
            lineage.append(Entry(folder, dict.fromkeys(files, 0), None))
            plan[folder] = segments.plan_of(files)
    if not 0 <= time.time() - began < LONG_S:
        return  # a machine that slept meanwhile: what it wrote before may have been collected
    shorter = tuple(lineage)
    record = Merge(nonce=base.nonce, lineage=shorter, plan=planned(plan, shorter))
    storage.put(names.merge(opened.folder), documents.encode_merge(record, opened.run))


def _neighbours(found: dict[int, dict[str, list[Segment]]]) -> list[list[int]]:
    """Group neighbouring entries with few rows; one with many is a group of its own."""
    groups: list[list[int]] = []
    size = SMALL_BYTES
    for index, streams in sorted(found.items()):
        own = sum(one.size for files in streams.values() for one in files)
        if size + own > SMALL_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(index)
        size += own
    return groups


def _merge(storage: Storage, wanted: list[File], folder: str, stream: str) -> Segment | None:
    """Merge segments of several entries into one, numbering their rows anew; None where no row is visible."""
    tables = []
    offset, index, highest = 0, -1, -1
    for file, table in reader.visible_tables(storage, wanted, strict=True):
        if file.entry != index:
            offset, index = highest + 1, file.entry
        if len(table) == 0:
            continue
        rows = column_of(table, "row") + offset
        highest = max(highest, int(rows.max()))
        at = table.schema.get_field_index("row")
        tables.append(table.set_column(at, table.schema.field(at), array(rows)))
    if not tables:
        return None
    clocks = np.concatenate([column_of(table, "clock") for table in tables])
    name = SegmentName(0, 0, int(clocks.min()), int(clocks.max()))
    data = segment.merge(tables, stream=stream, first=0, last=0)
    storage.put(names.segment(folder, stream, name), data)
    return Segment(name, len(data))
