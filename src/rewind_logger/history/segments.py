"""The segments of one folder: which there are, which of them count, and where it can be sealed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from rewind_logger.errors import CorruptError
from rewind_logger.format import documents, names
from rewind_logger.format.names import SegmentName
from rewind_logger.format.segment import Identity
from rewind_logger.history.damage import report
from rewind_logger.storage.base import ObjectInfo, Storage
from rewind_logger.types import OPENING_CLOCK, Entry


class Segment(NamedTuple):
    """A segment as a listing shows it."""

    name: SegmentName
    size: int
    """In bytes."""


@dataclass(frozen=True, slots=True)
class Seal:
    """The end of a folder."""

    sealed: dict[str, int]
    """Per stream the last flush that counts (inclusive)."""
    last_clock: dict[str, int]
    """Per stream the largest clock of its last rows; of all its rows, as long as clocks do not run backwards."""
    files: dict[str, list[Segment]] | None
    """Per stream the segments to read, where one listing a stream showed them all; None where there are more, or where
    some are missing: then whoever reads lists them, and finds those that somebody restored."""


def seal(storage: Storage, folder: str, sealed: Mapping[str, int] | None = None) -> Seal:
    """Look up the last flush of each stream of a folder.

    Costs one listing, and two for each stream, however many segments there are.

    Args:
        storage: The store.
        folder: Of a term, an evaluation or merged ancestors.
        sealed: Where it was sealed before: what was put there since does not count. None: where it ends now.
    """
    if sealed is None:
        listed = storage.list(names.streams(folder))
        streams = [info.name for info in listed if info.size is None and names.is_stream(info.name)]
    else:
        streams = list(sealed)
    groups = storage.map_lists([names.stream(folder, stream) for stream in streams])
    last = storage.map_lists(
        [
            f"{names.stream(folder, stream)}/{_last(found)}"
            if sealed is None
            else names.group(folder, stream, sealed[stream])
            for stream, found in zip(streams, groups, strict=True)
        ]
    )
    end: dict[str, int] = {}
    last_clock: dict[str, int] = {}
    files: dict[str, list[Segment]] | None = {}
    for stream, found, infos in zip(streams, groups, last, strict=True):
        limit = None if sealed is None else sealed[stream]
        chosen = cover(parse(infos), limit)
        last_flush = chosen[-1].name.last if chosen and limit is None else limit
        of_opening = all(segment.name.last_clock == OPENING_CLOCK for segment in chosen)
        if (
            not chosen
            or missing(chosen, last_flush, chosen[0].name.first if len(found) > 1 else 0)
            or (len(found) > 1 and of_opening)
        ):
            # a group whose folder outlived its segments, or whose last flush lies in one that began in an earlier
            # group; or a flush was passed over; or there are only rows that an opening was given late, after others
            chosen = cover(list_whole(storage, folder, stream, last_flush), last_flush)
        if not chosen and limit is None:
            continue
        end[stream] = chosen[-1].name.last if limit is None else limit
        last_clock[stream] = max((one.name.last_clock for one in chosen), default=-1)
        if len(found) > 1 or missing(chosen, end[stream]):
            files = None
        elif files is not None:
            files[stream] = chosen
    return Seal(end, last_clock, files)


def _last(groups: Iterable[ObjectInfo]) -> str:
    """Return the name of the newest group; a stream's folder that is empty has none, and lists as nothing."""
    named = [info.name for info in groups if info.size is None and info.name.isdecimal()]
    return max(named, key=lambda name: (len(name), name), default="000000")


def list_segments(storage: Storage, folder: str, stream: str) -> list[Segment]:
    """Return every segment of a stream, superseded ones too, with one listing for each thousand flushes."""
    at = names.stream(folder, stream)
    groups = [info.name for info in storage.list(at) if info.size is None and info.name.isdecimal()]
    return [segment for infos in storage.map_lists([f"{at}/{group}" for group in groups]) for segment in parse(infos)]


def list_whole(storage: Storage, folder: str, stream: str, sealed: int | None) -> list[Segment]:
    """Return the same, once more if flushes are missing: it may be that they were passed over.

    A file that comes while its folder is listed is seen or not, on a local disk by the hash of its name: a listing may
    show flush f + 1 without f. But f was there before it, so all up to the last flush of one listing is in the next.

    Args:
        storage: The store.
        folder: Of the stream.
        stream: The stream.
        sealed: The last flush that counts (inclusive); None where the listing tells.
    """
    found = list_segments(storage, folder, stream)
    chosen = cover(found, sealed)
    last = chosen[-1].name.last if chosen and sealed is None else sealed
    if not missing(chosen, last):
        return found
    return [one for one in list_segments(storage, folder, stream) if last is None or one.name.last <= last]


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


def parts(found: Iterable[Segment], whole: SegmentName) -> list[Segment]:
    """Choose what a merged segment was put together from, as far as that is there: to be read in its place."""
    within = (
        one
        for one in found
        if whole.first <= one.name.first
        and one.name.last <= whole.last
        and one.name.last - one.name.first < whole.last - whole.first
    )
    return cover(within, whole.last)


def missing(chosen: Iterable[Segment], sealed: int | None, first: int = 0) -> list[tuple[int, int]]:
    """Return the flushes that no chosen segment holds, as inclusive ranges: flush numbers have no gaps.

    Args:
        chosen: In order.
        sealed: The last flush that has to be there (inclusive); None where the last segment tells.
        first: The first one.
    """
    gaps: list[tuple[int, int]] = []
    next_flush = first
    for segment in chosen:
        if segment.name.first > next_flush:
            gaps.append((next_flush, segment.name.first - 1))
        next_flush = segment.name.last + 1
    if sealed is not None and next_flush <= sealed:
        gaps.append((next_flush, sealed))
    return gaps


def identity(path: str, name: SegmentName) -> Identity:
    """Return what the segment at a path has to say of itself."""
    folder, _, stream, _, _ = path.rsplit("/", 4)
    return Identity(stream, name.first, name.last, names.writer(folder))


def lost(storage: Storage, entry: Entry, chosen: Iterable[Segment], sealed: int | None) -> list[tuple[int, int]]:
    """Return the same, but for flushes that were removed because they lie wholly behind the cut of an entry."""
    gaps = missing(chosen, sealed)
    if not gaps or entry.cut is None:
        return gaps
    path = names.trimmed(entry.folder)
    try:
        trim = documents.decode_trim(storage.read(path), path)
    except FileNotFoundError:
        return gaps
    except CorruptError as error:
        report(f"{error} Until then what was removed behind the cut of {entry.folder} counts as missing.")
        return gaps
    return gaps if entry.cut > trim.cut else []


def is_whole(files: Mapping[str, Iterable[Segment]], sealed: Mapping[str, int]) -> bool:
    """Say whether chosen segments hold every flush up to a seal: only then may a plan name them."""
    return not any(missing(files.get(stream, ()), last) for stream, last in sealed.items())


def plan_of(files: Mapping[str, Iterable[Segment]]) -> dict[str, list[tuple[str, int]]]:
    """Write chosen segments as the plan of a base does."""
    return {stream: [(str(segment.name), segment.size) for segment in chosen] for stream, chosen in files.items()}


def from_plan(files: Iterable[tuple[str, int]]) -> list[Segment]:
    """Read what `plan_of` wrote."""
    parsed = ((SegmentName.parse(name), size) for name, size in files)
    return [Segment(name, size) for name, size in parsed if name is not None]
