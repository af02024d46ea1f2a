"""The segments of one folder: which there are, which of them count, and where it can be sealed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rewind_logger.format import names
from rewind_logger.format.names import SegmentName
from rewind_logger.storage.base import ObjectInfo, Storage


class Segment(NamedTuple):
    """A segment as a listing shows it."""

    name: SegmentName
    size: int
    """In bytes."""


@dataclass(frozen=True, slots=True)
class Seal:
    """The end of a folder at the moment it was looked at."""

    sealed: dict[str, int]
    """Per stream the last flush (inclusive)."""
    last_clock: dict[str, int]
    """Per stream the clock of its last row."""
    files: dict[str, list[Segment]] | None
    """Per stream the segments to read, where one listing a stream showed them all; None where there are more."""


def seal(storage: Storage, folder: str) -> Seal:
    """Look up the last flush of each stream of a folder.

    Costs one listing, and two for each stream, however many segments there are.
    """
    streams = [info.name for info in storage.list(names.streams(folder)) if info.size is None]
    groups = storage.map_lists([names.stream(folder, stream) for stream in streams])
    last = storage.map_lists(
        [f"{names.stream(folder, stream)}/{_last(found)}" for stream, found in zip(streams, groups, strict=True)]
    )
    sealed: dict[str, int] = {}
    last_clock: dict[str, int] = {}
    files: dict[str, list[Segment]] | None = {}
    for stream, found, infos in zip(streams, groups, last, strict=True):
        segments = parse(infos)
        if not segments:  # only what is no segment, or a group whose folder outlived its segments
            segments = list_segments(storage, folder, stream)
        if not segments:
            continue
        end = max(segments, key=lambda segment: (segment.name.last, segment.name.first_clock))
        sealed[stream] = end.name.last
        last_clock[stream] = end.name.last_clock
        if len(found) > 1:
            files = None
        elif files is not None:
            files[stream] = cover(segments, end.name.last)
    return Seal(sealed, last_clock, files)


def seal_at(storage: Storage, folder: str, sealed: Mapping[str, int]) -> Seal:
    """Return the end of a folder that was sealed before: what was put there since does not count."""
    found = seal(storage, folder)
    if found.sealed == sealed:
        return found
    files = {stream: cover(list_segments(storage, folder, stream), flush) for stream, flush in sealed.items()}
    clocks = {stream: chosen[-1].name.last_clock for stream, chosen in files.items() if chosen}
    return Seal(dict(sealed), clocks, files)


def list_segments(storage: Storage, folder: str, stream: str) -> list[Segment]:
    """Return every segment of a stream, superseded ones too, with one listing for each thousand flushes."""
    at = names.stream(folder, stream)
    groups = [info.name for info in storage.list(at) if info.size is None]
    return [segment for infos in storage.map_lists([f"{at}/{group}" for group in groups]) for segment in parse(infos)]


def parse(infos: Iterable[ObjectInfo]) -> list[Segment]:
    """Return the segments of a listing, passing over names that are none."""
    found = ((SegmentName.parse(info.name), info.size) for info in infos)
    return [Segment(name, size) for name, size in found if name is not None and size is not None]


def cover(segments: Iterable[Segment], sealed: int | None) -> list[Segment]:
    """Choose the segments to read: the widest ranges that do not overlap, in order.

    A compacted segment supersedes its parts. One that ends beyond the seal was put by a writer that no longer owned
    the run, over parts of which only some count: it is ignored, and its parts are there.

    Args:
        segments: All segments of one stream of a folder.
        sealed: The last flush that counts (inclusive); None for a folder that is not sealed.
    """
    chosen: list[Segment] = []
    next_flush = 0
    for segment in sorted(segments, key=lambda s: (s.name.first, -s.name.last)):
        if segment.name.first >= next_flush and (sealed is None or segment.name.last <= sealed):
            chosen.append(segment)
            next_flush = segment.name.last + 1
    return chosen


def missing(chosen: Iterable[Segment], sealed: int | None) -> list[tuple[int, int]]:
    """Return the flushes that no chosen segment holds, as inclusive ranges: flush numbers have no gaps."""
    gaps: list[tuple[int, int]] = []
    next_flush = 0
    for segment in chosen:
        if segment.name.first > next_flush:
            gaps.append((next_flush, segment.name.first - 1))
        next_flush = segment.name.last + 1
    if sealed is not None and next_flush <= sealed:
        gaps.append((next_flush, sealed))
    return gaps


def plan_of(files: Mapping[str, Iterable[Segment]]) -> dict[str, list[tuple[str, int]]]:
    """Write chosen segments as the plan of a base does."""
    return {stream: [(str(segment.name), segment.size) for segment in chosen] for stream, chosen in files.items()}


def from_plan(files: Iterable[tuple[str, int]]) -> list[Segment]:
    """Read what `plan_of` wrote."""
    parsed = ((SegmentName.parse(name), size) for name, size in files)
    return [Segment(name, size) for name, size in parsed if name is not None]


def _last(groups: Iterable[ObjectInfo]) -> str:
    """Return the name of the newest group; a stream's folder that is empty has none, and lists as nothing."""
    return max((info.name for info in groups if info.size is None), default="000000")
