"""Superseded writers: what one had that its run went on without becomes a run of its own.

That run refers to rows of the other, as every fork does, and has those that only the journal holds. While it is being
made nothing but the other run keeps the rows that it is to refer to: so it refers to what that shows, and to nothing
else, even if more is there still.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple, cast

from rewind_logger.errors import CorruptError, RunNotFoundError
from rewind_logger.format import segment
from rewind_logger.format.documents import Base, Recovery, Source, encode_pin
from rewind_logger.format.names import RunPaths
from rewind_logger.format.run_names import MAX_NAME_BYTES, MAX_NAME_CHARACTERS
from rewind_logger.history import claims, reader, recovery, segments
from rewind_logger.history.collecting.needs import Need
from rewind_logger.history.journals.abandoned import Abandoned
from rewind_logger.history.opening import build, new_claim, nothing, now_ms, publish
from rewind_logger.history.view import View, effective_lineage, of_base, of_term
from rewind_logger.storage.base import Storage
from rewind_logger.types import Entry, Position, RevisionRecord, Row, RunRef, Stream


def fork_of(run: RunRef, nonce: str) -> RunRef:
    """Return the name of the run that the rows of a superseded writer become."""
    suffix = f"-{nonce[:8]}"
    room = MAX_NAME_BYTES - len(suffix)
    kept = run.id[: MAX_NAME_CHARACTERS - len(suffix)].encode()[:room].decode(errors="ignore")
    return RunRef(run.project, kept.rstrip() + suffix)


def fork(storage: Storage, run: RunRef, child: RunRef, one: Abandoned) -> Base | None:
    """Make the run that is to hold what a superseded writer had: what it built on, what it stored, and its journal.

    Every step can be made again: whoever finds the fork half made completes it.

    Returns:
        Its newest base; None if there is another run of that name.
    """
    paths = RunPaths(child)
    # The same for every attempt, so that it is known whose the claim is.
    nonce = hashlib.sha256(one.nonce.encode()).hexdigest()[:16]
    n = claims.count(storage, paths)
    life = claims.life(storage, child, n)
    first = claims.first_of(storage, paths, life.first, n)
    if first is not None and first.nonce != nonce:
        return None
    if life.head is not None:
        return life.head
    reason = f"rows of the journal {one.nonce}, without whose writer run {run} went on"
    record = RevisionRecord(number=1, parent=None, cut=None, created_ms=now_ms(), reason=reason)
    view, source, parent, missing = nothing(child, record), None, None, _first_kept(one)
    base = _base(storage, run, one)
    if base is not None:
        pin = RunPaths(run).pin(nonce)
        # Before the look: who removes what it shows looks for pins afterwards.
        storage.put(pin, encode_pin(child, run, nonce))
        shown = _shown(storage, run, base, one)
        if shown is None:
            storage.delete(pin)
        else:
            view, missing = shown
            source = Source(run=str(run), revision=view.revision, cut=view.next_step)
            parent = Position(run, view.revision, view.next_step)
            record = replace(record, parent=(str(run), view.revision), cut=view.next_step)
    claim = replace(new_claim(nonce, "recovered" if source is None else "forked", reason), source=source)
    if not claims.take(storage, paths, claim, n):
        return None
    taken = Recovery(nonce=one.nonce, first=missing, start=0 if base is None else base.start)
    opened = build(child, "forked", n, nonce, view, view.next_step, (record,), parent, taken, begun=life.first)
    publish(storage, opened, None)
    return opened.base


def _base(storage: Storage, run: RunRef, one: Abandoned) -> Base | None:
    """Return the base of a superseded writer's term, which a removal of its revision may have put aside.

    None if it began none, or if its run was removed.
    """
    if one.claimed is None or claims.was_removed(storage, run, one.claimed):
        return None
    folder = RunPaths(run).term(one.claimed, one.nonce)
    for read in (claims.base_of, claims.base_aside):
        with suppress(FileNotFoundError):
            return read(storage, run, folder)
    return None  # its opening was cut short


def _shown(storage: Storage, run: RunRef, base: Base, one: Abandoned) -> tuple[View, dict[str, int]] | None:
    """Return what the run shows of what a superseded writer built on and stored, and which flushes come after it.

    None if all of it was removed.
    """
    existing = claims.count(storage, RunPaths(run))
    head = claims.newest_base(storage, run, existing)
    if head is None or head.begun != base.begun:
        return None
    line = _line(run, base, head)
    if line is None:
        return None
    try:
        kept = of_base(storage, run, head, line.number)
    except RunNotFoundError:
        return None
    folder = RunPaths(run).term(base.number, base.nonce)
    if kept.folder == folder:  # with which its revision ends
        return kept, recovery.after(kept.entries[-1].sealed)
    later = list(_later(storage, run, existing, base.number))
    for sealed, heirs in _ends(later, folder):
        end = segments.seal(storage, folder, sealed)
        own = replace(of_term(storage, run, base, folder, end, base.revisions), plan={}, revision=line.number)
        # The same rows, as merged by its writer, as found by it, and as merged by who went on after it.
        ways = [own.entries, (*base.lineage, own.entries[-1])]
        for heir in heirs:
            ways.append(effective_lineage(storage, run, heir, RunPaths(run).term(heir.number, heir.nonce))[0])
        for entries in ways:
            if all(_is_shown(entry, kept) for entry in entries):
                return replace(own, entries=entries), recovery.after(end.sealed)
    cut = _left(later, line, base)
    if _is_whole(one):  # what there is from where it began is not its own, but what other openings found
        cut = base.start if cut is None else min(cut, base.start)
    kept = kept.before(cut)
    return kept, _first_not_shown(storage, kept, one, base.start)


class _Line(NamedTuple):
    """Where the line of a term lies in its run."""

    number: int
    """Of the last revision of it that the run has."""
    cut: int | None
    """At which step the line left that (exclusive); None if it did not."""


def _line(run: RunRef, base: Base, head: Base) -> _Line | None:
    """Return where a line lies: an opening that was overtaken may have begun revisions that never came to be."""
    number, cut = base.revision, None
    while not _is_of(head, number, base):
        record = base.revisions[number - 1]
        if record.parent is None or record.parent[0] != str(run):
            return None
        cuts = [each for each in (cut, record.cut) if each is not None]
        number, cut = record.parent[1], min(cuts, default=None)
    return _Line(number, cut)


def _is_of(head: Base, number: int, base: Base) -> bool:
    """Say whether a revision is the same for two bases."""
    if number > head.revision:
        return False
    one, other = head.revisions[number - 1], base.revisions[number - 1]
    return (one.parent, one.cut) == (other.parent, other.cut) and (number == 1 or one.created_ms == other.created_ms)


def _later(storage: Storage, run: RunRef, existing: int, n: int) -> Iterator[Base]:
    """Yield the bases of the claims after claim `n`, the newest first."""
    for found in claims.bases(storage, run, existing):
        if isinstance(found, CorruptError):
            continue
        if found.number <= n:
            return
        yield found


def _left(later: Iterable[Base], line: _Line, base: Base) -> int | None:
    """Return from which step on what a revision shows is not of the line (exclusive); None if all of it is.

    Where several openings found different ends, what lies between is in the journal: nobody was told that it is stored.
    """
    went_on = [each.start for each in later if each.revision == line.number and _is_of(each, line.number, base)]
    return min((each for each in (line.cut, *went_on) if each is not None), default=None)


def _ends(later: Iterable[Base], folder: str) -> list[tuple[Mapping[str, int], list[Base]]]:
    """Return where a term was sealed, and the bases that built on it there as it was; an empty term is not named.

    There are several if one opening overtook another.
    """
    found: dict[Need, tuple[Mapping[str, int], list[Base]]] = {}
    for base in later:
        ends = [*base.lineage, *(Entry(one.folder, one.sealed, None) for one in base.revisions if one.folder)]
        for end in ends:
            if end.folder == folder:
                _, heirs = found.setdefault(Need.of(replace(end, cut=None)), (end.sealed, []))
                if base.lineage[-1:] == (end,) and end.cut is None:
                    heirs.append(base)
    return list(found.values()) or [({}, [])]


def _is_shown(entry: Entry, kept: View) -> bool:
    """Say whether a view shows all of an entry of a lineage."""
    need = Need.of(entry)
    shown = (Need.of(other) for other in kept.entries if other.folder == entry.folder)
    return not entry.sealed or any(other.covers(need) for other in shown)


def _is_whole(one: Abandoned) -> bool:
    """Say whether a journal has every row that was logged to it: no part was let go of, as none was stored."""
    first = next(one.batches(0), None)
    return first is not None and not any(first.flushes.values())


def _first_kept(one: Abandoned) -> dict[str, int]:
    """Return per stream the first flush that a journal has rows of; those before are not to be had any more."""
    first: dict[str, int] = {}
    for batch in one.batches(0):
        for stream in batch.rows:
            first.setdefault(stream, batch.flushes[stream])
    return first


def _first_not_shown(storage: Storage, view: View, one: Abandoned, start: int) -> dict[str, int]:
    """Return per stream the first flush of a journal that a view shows nothing of, whatever bases say of its folder.

    An opening that was itself overtaken may have sealed the folder elsewhere than the run did.
    """
    flushes: dict[str, dict[int, set[bytes]]] = {}
    span: dict[str, tuple[int, int]] = {}
    for batch in one.batches(start):
        for stream, rows in batch.rows.items():
            flushes.setdefault(stream, {})[batch.flushes[stream]] = {_told(row) for row in rows}
            clocks = [row.clock for row in rows]
            low, high = span.get(stream, (clocks[0], clocks[0]))
            span[stream] = min(low, *clocks), max(high, *clocks)
    first: dict[str, int] = {}
    for stream, told in flushes.items():
        shown = _shown_of(storage, view, cast(Stream, stream), set().union(*told.values()), *span[stream])
        for flush, rows_of_it in told.items():
            first[stream] = flush
            if rows_of_it.isdisjoint(shown):
                break
            first[stream] += 1
    return first


def _shown_of(storage: Storage, view: View, stream: Stream, told: set[bytes], low: int, high: int) -> set[bytes]:
    """Return which rows a view shows of those with clocks from `low` to `high` (both inclusive); no others are held."""
    wanted = reader.files(storage, view, stream, start=low, stop=high + 1)
    tables = reader.visible_tables(storage, wanted, start=low, stop=high + 1)
    return {digest for _, table in tables for row in segment.to_rows(table) if (digest := _told(row)) in told}


def _told(row: Row) -> bytes:
    """Return what tells a row from others, wherever it lies: a digest of it as text, in which a NaN equals itself."""
    text = repr((row.clock, row.step, row.time_ms, sorted(row.values.items())))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
