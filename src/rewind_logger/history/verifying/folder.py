"""The segments of one folder: each against its checksums and its name, and together against what revisions show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rewind_logger.errors import CorruptError, FormatVersionError
from rewind_logger.format import documents, names
from rewind_logger.format.names import SegmentName
from rewind_logger.history import segments
from rewind_logger.history.segments import Segment
from rewind_logger.history.together import together
from rewind_logger.history.verifying.files import Files
from rewind_logger.history.verifying.look import RESTORE, Folder, Look, Shown, unreadable
from rewind_logger.history.verifying.report import Problem, listed
from rewind_logger.history.verifying.rows import Checked, Reference, check_segment
from rewind_logger.history.verifying.state import Facts, State, Step
from rewind_logger.storage.base import Storage

TOGETHER_BYTES = 64 << 20
"""Segments are held in memory up to this many bytes at a time, or one that is larger."""

TOGETHER = 512
"""… and up to this many, however small."""


class Stream(NamedTuple):
    """A stream of a folder, with what its revisions show of it."""

    path: str
    """Of the folder with its groups."""
    name: str
    folder: str
    about: Folder
    found: list[Segment]
    covers: dict[int | None, list[Segment]]
    """By where it is sealed the segments that count."""

    def shown_by(self, segment: Segment) -> list[Shown]:
        """Return who shows rows of a segment."""
        return [
            one
            for one in self.about.shown
            if segment in self.covers.get(one.limit(self.name), ())
            and (one.cut is None or segment.name.first_clock < one.cut)
        ]

    def cost(self, flushes: Iterable[tuple[int, int]], clocks: tuple[int, int] | None) -> str:
        """Say which rows are affected, as the cost of a problem.

        Args:
            flushes: Inclusive ranges of the flushes in question.
            clocks: The smallest and largest clock of their rows (inclusive); None where that is not known.
        """
        ranges = list(flushes)
        labels = {}
        for one in self.about.shown:
            limit = one.limit(self.name)
            if not any(limit is None or first <= limit for first, _ in ranges):
                continue
            if clocks is None:
                labels[one.label] = one.label
            elif one.cut is None or clocks[0] < one.cut:
                last = clocks[1] if one.cut is None else min(clocks[1], one.cut - 1)
                labels[one.label] = f"{one.label} ({_steps(clocks[0], last)})"
        if not labels:
            return "nothing: no revision shows these rows"
        return f"rows of {self.name} in {listed(labels.values())}"

    def cost_of(self, segment: Segment) -> str:
        """Say which rows of a segment anybody reads."""
        name = segment.name
        return self.cost([(name.first, name.last)], (name.first_clock, name.last_clock))

    def path_of(self, segment: Segment) -> str:
        """Return where a segment lies."""
        return names.segment(self.folder, self.name, segment.name)


def check_folder(look: Look, state: State, files: Files, folder: str) -> None:
    """Check every segment of a folder of a term, an evaluation or merged ancestors; the state is told."""
    about = look.folder(folder)
    present = [info.name for info in look.storage.list(names.streams(folder)) if info.size is None]
    sealed = {stream for one in about.shown for stream in one.sealed or {}}
    for stream in sorted({*present, *sealed, *about.planned, *about.acknowledged}):
        _check_stream(look, state, files, folder, about, stream)


def _check_stream(look: Look, state: State, files: Files, folder: str, about: Folder, name: str) -> None:
    path = names.stream(folder, name)
    stream = _list(look, folder, about, name)
    known = state.segments.get(path, {})
    facts: dict[str, Facts | None] = {}
    for _ in range(3):
        waiting = [one for one in stream.found if str(one.name) not in facts and str(one.name) not in known]
        gone = False
        for group in together(waiting, lambda one: max(one.size, TOGETHER_BYTES // TOGETHER), TOGETHER_BYTES):
            gone |= _check_group(look, state, files, stream, group, facts)
        if not gone:
            break
        # Somebody collected superseded segments meanwhile: look anew at what is there.
        stream = _list(look, folder, about, name)
    facts = {**known, **facts}
    _check_covers(look, stream, facts)
    _check_plans(look, stream, facts)
    _check_gaps_of_plans(look, stream)


def _list(look: Look, folder: str, about: Folder, name: str) -> Stream:
    found = segments.list_whole(look.storage, folder, name, None)
    limits = {one.limit(name) for one in about.shown}
    covers = {limit: segments.cover(found, limit) for limit in limits}
    return Stream(names.stream(folder, name), name, folder, about, found, covers)


def _check_group(
    look: Look, state: State, files: Files, stream: Stream, group: Sequence[Segment], facts: dict[str, Facts | None]
) -> bool:
    """Read some segments and check each; return whether one is gone that was just listed."""
    paths = [stream.path_of(one) for one in group]
    step = Step(folder=stream.path)
    gone = False
    for one, path, outcome in zip(group, paths, look.storage.read_each(paths), strict=True):
        if isinstance(outcome, FileNotFoundError):
            gone = True
            continue
        what = unreadable(outcome)
        checked: Checked | None = None
        if isinstance(outcome, bytes):
            step.took("segments", len(outcome))
            shown = stream.shown_by(one)
            cuts = [other.cut for other in shown]
            visible = None if None in cuts else max((cut for cut in cuts if cut is not None), default=None)
            checked = check_segment(outcome, path, one.name, references=bool(shown), before=visible)
            what = checked.wrong
        step.segments[str(one.name)] = None if checked is None else checked.facts
        if checked is None or what is not None:
            step.problems.append(_damaged(look, stream, one, path, what or ""))
            continue
        step.rows += checked.facts[2] if checked.facts else 0
        for blob, wrong, reference in files.referred(checked.references, step):
            step.problems.append(_lacking(stream, one, blob, wrong, reference))
    facts.update(step.segments)
    state.add(step)
    return gone


def _lacking(stream: Stream, segment: Segment, blob: str, what: str, one: Reference) -> Problem:
    """Describe a blob that a row refers to and that is not what it should be."""
    rows = stream.cost([(segment.name.first, segment.name.last)], (one.clock, one.clock))
    return Problem(
        path=blob,
        what=what,
        cost=f"what {one.key!r} refers to: {rows}",
        remedy="Log it again from where it came, which gives it the same name; or restore it from a backup.",
    )


def _damaged(look: Look, stream: Stream, segment: Segment, path: str, what: str) -> Problem:
    if not stream.shown_by(segment):
        return Problem(
            path=path,
            what=what,
            cost="nothing: no revision shows it (it was superseded by a merged one, or its writer was fenced)",
            remedy="Nothing needs to be done.",
            harm="none",
        )
    if _has_parts(look.storage, stream, segment):
        return Problem(
            path=path,
            what=what,
            cost="nothing as yet: what it was put together from is still there, and is read in its place",
            remedy="Delete it.",
            harm="risk",
        )
    return Problem(path=path, what=what, cost=stream.cost_of(segment), remedy=RESTORE)


def _has_parts(storage: Storage, stream: Stream, segment: Segment) -> bool:
    """Whether what a segment was put together from can be read."""
    if not _is_in_parts(stream, segment.name):
        return False
    for part in segments.parts(stream.found, segment.name):
        path = stream.path_of(part)
        body = storage.read_each([path])[0]
        if not isinstance(body, bytes) or check_segment(body, path, part.name).wrong is not None:
            return False
    return True


def _check_covers(look: Look, stream: Stream, facts: Mapping[str, Facts | None]) -> None:
    """See that the flushes up to each seal are there, and that no row comes twice."""
    said: set[tuple[int, int]] = set()
    for limit, chosen in stream.covers.items():
        if limit == -1:
            continue
        end = stream.about.acknowledged.get(stream.name) if limit is None else limit
        gaps = [gap for gap in segments.missing(chosen, end) if gap not in said]
        if gaps and _was_trimmed(look, stream, limit):
            continue
        for first, last in gaps:
            said.add((first, last))
            look.wrong(
                stream.path,
                f"{_flushes(first, last)} missing.",
                stream.cost([(first, last)], _between(chosen, first, last)),
                f"{RESTORE} If a damaged batch of a journal was reported when they were logged, its file is kept.",
            )
    if not stream.about.shown:
        return
    widest = max(stream.covers.values(), key=lambda chosen: chosen[-1].name.last if chosen else -1)
    last_row, absent, begun = -1, 0, False
    for one in widest:
        found = facts.get(str(one.name))
        if found is None or found[2] == 0:
            begun = begun and found is not None  # where a damaged one ends is not known
            continue
        if found[0] <= last_row:
            look.wrong(
                stream.path_of(one),
                f"It begins with row {found[0]}, and the segment before it ends with row {last_row}.",
                f"doubled {stream.cost_of(one)}",
                "Report it as a bug.",
            )
        absent += found[1] - found[0] + 1 - found[2] + (max(0, found[0] - last_row - 1) if begun else 0)
        begun = True
        last_row = max(last_row, found[1])
    # Merged or copied ancestors are numbered with gaps where they were cut.
    if absent and not names.is_merged(stream.folder.rpartition("/")[2]):
        look.notes.append(
            f"{stream.path}: the numbers of {absent:,} rows are left out. So it is after calls that a Ctrl-C"
            " interrupted, and where a damaged part of a journal was passed over."
        )


def _check_plans(look: Look, stream: Stream, facts: Mapping[str, Facts | None]) -> None:
    """See that what a base names is there, or what it was put together from: readers go by it and do not list."""
    planned = stream.about.planned.get(stream.name, {})
    if not planned:
        return
    sizes = {str(one.name): one.size for one in stream.found}
    for name, size in planned.items():
        if sizes.get(name) == size or (name in facts and facts[name] is None):
            continue  # as it should be; or damaged, which was said
        parsed = names.SegmentName.parse(name)
        assert parsed is not None
        if name not in sizes and (_is_in_parts(stream, parsed) or _was_collected(look, stream, parsed)):
            continue
        there = f"has {sizes[name]:,} bytes" if name in sizes else "is missing"
        look.wrong(
            f"{stream.path}/{parsed.first // names.GROUP_SIZE:06d}/{name}",
            f"A base says that it is read and has {size:,} bytes, and it {there}.",
            stream.cost([(parsed.first, parsed.last)], (parsed.first_clock, parsed.last_clock)),
        )


def _is_in_parts(stream: Stream, name: SegmentName) -> bool:
    """Say whether all is there that a segment was put together from: it is read in its place, and was checked."""
    parts = segments.parts(stream.found, name)
    return bool(parts) and not segments.missing(parts, name.last, name.first)


def _check_gaps_of_plans(look: Look, stream: Stream) -> None:
    """See that a base names all that there is up to its seal, or nothing."""
    for first, last, sealed in sorted(stream.about.passed_over.get(stream.name, ())):
        if (first, last) in segments.missing(segments.cover(stream.found, sealed), sealed):
            continue  # it is not there either, which was said
        look.notes.append(
            f"{stream.path}: a base names what is read up to flush {sealed}, and not flushes {first} to {last}, which"
            " are there: they are looked for, and read."
        )


def _was_trimmed(look: Look, stream: Stream, limit: int | None) -> bool:
    """Say whether what is missing up to a flush was removed because no revision shows it."""
    cuts = [one.cut for one in stream.about.shown if one.limit(stream.name) == limit]
    trim = _trim(look, stream)
    return trim is not None and all(cut is not None and cut <= trim for cut in cuts)


def _trim(look: Look, stream: Stream) -> int | None:
    """Return the clock from which on segments of a folder were removed, None where none were."""
    path = names.trimmed(stream.folder)
    try:
        return documents.decode_trim(look.storage.read(path), path).cut
    except (FileNotFoundError, CorruptError, FormatVersionError):  # said where what lies beside a base is read
        return None


def _was_collected(look: Look, stream: Stream, name: SegmentName) -> bool:
    """Say whether a segment that is gone may be: one that a base names which nobody reads any more."""
    superseded = any(one.name.first <= name.first and name.last <= one.name.last for one in stream.found)
    if superseded or not stream.about.shown:
        return True
    trim = _trim(look, stream)
    return trim is not None and name.first_clock >= trim


def _between(chosen: Sequence[Segment], first: int, last: int) -> tuple[int, int] | None:
    """Return between which clocks the rows of missing flushes lie, as their neighbours tell; None without both."""
    before = [one.name.last_clock for one in chosen if one.name.last < first]
    after = [one.name.first_clock for one in chosen if one.name.first > last]
    return (before[-1], after[0]) if before and after and before[-1] <= after[0] else None


def _flushes(first: int, last: int) -> str:
    return f"Flush {first} is" if first == last else f"Flushes {first} to {last} are"


def _steps(first: int, last: int) -> str:
    if last < 0:
        return "of the opening"
    return f"step {last}" if max(first, 0) == last else f"steps {max(first, 0)} to {last}"
