"""Garbage: what lies in the folders of a run and nobody needs.

Nothing is looked at but what this package writes. What was written within the grace period is never garbage, and
neither is what only something so young makes needless: whoever looked before it may not know of it yet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from rewind_logger.errors import CorruptError
from rewind_logger.format import names, segment
from rewind_logger.format.names import RunPaths, SegmentName, SnapshotName
from rewind_logger.history import evaluation, segments
from rewind_logger.history.collecting.needs import Need, Needs, Roots, is_old
from rewind_logger.storage.base import Listing, ObjectInfo, Storage

Reason = Literal[
    "superseded segments",
    "segments of writers that were taken over",
    "openings that were cut short",
    "merged ancestors that nothing refers to",
    "older snapshots",
    "removed runs and revisions",
    "pins of forks that are not there",
    "files that no row refers to",
    "uploads that were cut short",
]

Kept = Callable[[str, str, int], None]
"""Is told of each segment that stays: its path, its stream and its size."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """An object that can go."""

    path: str
    size: int
    reason: Reason
    trim: tuple[str, int] | None = None
    """A folder, and the clock from which on its segments go: to be noted there before this one does."""


@dataclass(slots=True)
class _Reader:
    """Reads a stream of a folder for one who needs it, segment by segment in the order of their names."""

    last: int | None
    """The last flush that is needed (inclusive)."""
    cut: int | None
    only_old: bool
    """Whether it looked before anything young was there."""
    chosen: SegmentName | None = None
    """The one before."""

    def reads(self, name: SegmentName, old: bool) -> bool:
        """Whether this one would be chosen, the cut apart: as `segments.cover` does."""
        if (self.only_old and not old) or (self.last is not None and name.last > self.last):
            return False
        if self.chosen is not None and name.first <= self.chosen.last:
            return False
        self.chosen = name
        return True


class Sweep:
    """Goes through the folders of one run."""

    def __init__(
        self, storage: Storage, roots: Roots, needs: Needs, limit: float, kept: Kept, *, below: float = math.inf
    ) -> None:
        """Take what is to be looked at.

        Args:
            storage: The store.
            roots: Of the run.
            needs: What all runs need of its folders.
            limit: The beginning of the grace period, by the store's clock.
            kept: Is told of each segment that stays.
            below: Only terms of claims below this number are looked at.
        """
        self._storage = storage
        self._roots = roots
        self._needs = needs
        self._limit = limit
        self._kept = kept
        self._below = below
        self._paths = RunPaths(roots.run)
        self._readable: dict[str, bool] = {}
        self.notes: list[str] = []
        """What stays although it could go if all were well."""

    def garbage(self) -> Iterator[Garbage]:
        """Yield what can go of terms and evaluations."""
        for info in self._storage.list(self._paths.terms):
            parsed = self._paths.parse_term(info.name)
            if parsed is not None and info.size is None and parsed[0] < self._below:
                yield from self._term(parsed[0], f"{self._paths.terms}/{info.name}")
        for info in self._storage.list(self._paths.evaluations):
            if info.size is None:
                yield from self._evaluation(f"{self._paths.evaluations}/{info.name}")

    def _term(self, n: int, folder: str) -> Iterator[Garbage]:
        listing = self._storage.list(folder)
        within = {info.name for info in listing if info.size is None}
        documents = {info.name: info for info in listing if info.size is not None}
        parts = [folder, *(f"{folder}/{name}" for name in sorted(within) if names.is_merged(name))]
        dead = n < self._roots.first
        based = "base.json" in documents or "removed.json" in documents
        # An opening has its claim before it has a base, and may copy into its folder for a long time.
        torn = not based and is_old(self._roots.claims.get(n), self._limit)
        for part in parts:
            needs = self._needs.of(part)
            if not (based or torn):
                needs = {Need(None, None)}  # whoever made the claim may be writing
            reason: Reason = "removed runs and revisions"
            if torn:
                reason = "openings that were cut short"
            elif not dead and part != folder:
                reason = "merged ancestors that nothing refers to"
            elif not dead and folder not in self._roots.removed.values():
                reason = "segments of writers that were taken over"
            yield from self._segments(part, needs, reason)
            yield from self._snapshots(part, needs, reason)
            if part != folder and not needs:
                yield from self._documents(part, self._storage.list(part), reason)
        # Others stay for those who ask what became of a writer.
        if (dead or torn) and folder not in self._roots.folders:
            reason = "removed runs and revisions" if dead else "openings that were cut short"
            left = any(self._needs.of(part) for part in parts)
            yield from self._documents(
                folder, [info for info in documents.values() if not (left and info.name == "trimmed.json")], reason
            )

    def _documents(self, folder: str, infos: Iterable[ObjectInfo], reason: Reason) -> Iterator[Garbage]:
        for info in infos:
            if info.size is not None and info.name in names.TERM_DOCUMENTS and is_old(info.modified, self._limit):
                yield Garbage(f"{folder}/{info.name}", info.size or 0, reason)

    def _segments(self, folder: str, needs: set[Need], reason: Reason) -> Iterator[Garbage]:
        for info in self._storage.list(names.streams(folder)):
            if info.size is None:
                yield from self._stream(folder, info.name, needs, reason)

    def _stream(self, folder: str, stream: str, needs: set[Need], reason: Reason) -> Iterator[Garbage]:
        """Go through a stream, a thousand flushes at a time."""
        at = names.stream(folder, stream)
        planned = self._needs.planned(folder, stream)
        limits = {(need.last(stream), need.cut) for need in needs}
        readers = [_Reader(last, cut, only_old) for last, cut in limits for only_old in (False, True)]
        is_open = any(last is None for last, _ in limits)
        groups = [info.name for info in self._storage.list(at) if info.size is None and info.name.isdecimal()]
        groups.sort(key=int)
        for group in groups:
            found = _sorted_segments(self._storage.list(f"{at}/{group}"))
            end = _end(found) if is_open and group == groups[-1] else None
            ended = False
            for name, info in found:
                path, size = f"{at}/{group}/{info.name}", info.size or 0
                old = is_old(info.modified, self._limit)
                chosen = [reader for reader in readers if reader.reads(name, old)]
                shown = any(reader.cut is None or name.first_clock < reader.cut for reader in chosen)
                needed = shown or (info.name in planned and not _behind(name, limits)) or not old
                ended |= needed and end is not None and name.last == end.last
                if needed or (name == end and not ended):
                    self._kept(path, stream, size)
                elif not readers:
                    yield Garbage(path, size, reason)
                elif chosen:
                    cut = max(cut for _, cut in limits if cut is not None)
                    yield Garbage(path, size, "removed runs and revisions", (folder, cut))
                elif all(last is not None and name.last > last for last, _ in limits):
                    yield Garbage(path, size, "segments of writers that were taken over")
                elif all(self._is_readable(folder, stream, reader.chosen) for reader in readers):
                    yield Garbage(path, size, "superseded segments")
                else:
                    self._kept(path, stream, size)

    def _is_readable(self, folder: str, stream: str, name: SegmentName | None) -> bool:
        """Whether a segment that supersedes others is whole; they are read in its place if it is not."""
        if name is None:
            return True
        path = names.segment(folder, stream, name)
        if path not in self._readable:
            try:
                segment.decode(self._storage.read(path), expected=segments.identity(path, name))
                self._readable[path] = True
            except (CorruptError, FileNotFoundError) as error:
                self._readable[path] = False
                self.notes.append(f"What the segment {path} was put together from stays, for it is damaged: {error}")
        return self._readable[path]

    def _snapshots(self, folder: str, needs: set[Need], reason: Reason) -> Iterator[Garbage]:
        at = names.snapshots(folder)
        found = [
            (name, info)
            for info in self._storage.list(at)
            if (name := SnapshotName.parse(info.name)) is not None and info.size is not None
        ]
        wanted = set()
        for need in needs:
            last = need.last("metrics")
            usable = [
                name
                for name, _ in found
                if (last is None or name.flush <= last) and (need.cut is None or name.newest_clock < need.cut)
            ]
            wanted.update(sorted(usable)[-1:])
        for name, info in found:
            if name not in wanted and is_old(info.modified, self._limit):
                yield Garbage(f"{at}/{info.name}", info.size or 0, "older snapshots" if needs else reason)

    def _evaluation(self, folder: str) -> Iterator[Garbage]:
        """Go through an evaluation: all of it stays, unless what it is the measure of was removed."""
        path = names.about(folder)
        listing = {info.name: info for info in self._storage.list(folder)}
        info = listing.get("evaluation.json")
        gone = False
        if info is not None and info.size is not None:
            ended = self._roots.ended
            gone = ended is not None and info.modified is not None and info.modified <= ended
            gone = gone or self._is_orphaned(folder)
            if gone and is_old(info.modified, self._limit):
                yield Garbage(path, info.size, "removed runs and revisions")
        yield from self._segments(folder, set() if gone else {Need(None, None)}, "removed runs and revisions")

    def _is_orphaned(self, folder: str) -> bool:
        """Whether an evaluation is one of removed revisions only."""
        if not self._roots.removed:
            return False
        about = evaluation.about(self._storage, folder)
        if about is None or about.revision not in self._roots.removed:
            return False
        left = [record.number for record in self._roots.records if record.number not in self._roots.removed]
        run, records = self._roots.run, self._roots.records
        return not any(evaluation.descends(run, records, n, about.revision, about.next_step) for n in left)


def _sorted_segments(listing: Listing) -> list[tuple[SegmentName, ObjectInfo]]:
    """Return the segments of a listing in the order in which they are chosen."""
    found = [(SegmentName.parse(info.name), info) for info in listing if info.size is not None]
    parsed = [(name, info) for name, info in found if name is not None]
    return sorted(parsed, key=lambda one: (one[0].first, -one[0].last))


def _end(group: list[tuple[SegmentName, ObjectInfo]]) -> SegmentName | None:
    """Return the segment of a stream's newest group that can tell `segments.seal`, which looks no further, its end.

    It stays even if a range that begins in an earlier group supersedes it: else one before it, which a fork needs,
    would be taken for the last.
    """
    return max((name for name, _ in group), key=lambda name: (name.last, name.first), default=None)


def _behind(name: SegmentName, limits: set[tuple[int | None, int | None]]) -> bool:
    """Whether a segment lies behind the cut of everyone who needs the folder."""
    return all(cut is not None and name.first_clock >= cut for _, cut in limits)
