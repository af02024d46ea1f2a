"""The invariants of the protocol (`design/004-protocol.md`), as far as the documents of a run can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from rewind_logger.errors import CorruptError, FormatVersionError
from rewind_logger.format import documents, names
from rewind_logger.format.documents import Base, Source
from rewind_logger.format.names import RunPaths
from rewind_logger.history.verifying.documents import Run, Term
from rewind_logger.history.verifying.look import RESTORE, Look, Shown
from rewind_logger.types import Entry, RunRef


def check(look: Look, run: Run, elsewhere: Callable[[str], Term | None]) -> None:
    """Note what of the documents of a run breaks an invariant.

    Args:
        look: The verification.
        run: Its documents.
        elsewhere: Returns the term of another run that has a folder, None where there is none.
    """
    for term in run.terms.values():
        if term.base is not None:
            for what in _wrong_by_itself(run, term, term.base):
                look.wrong(names.base(term.folder), what, _what_is_read_by(run, term), harm="loss")
    newest = max((n for n, term in run.terms.items() if term.base or term.damaged), default=None)
    head = run.head
    if head is None or head.base is None:
        return
    if newest != head.number:
        look.notes.append(
            f"The newest base of {run.ref} is damaged; what is said of its revisions is taken from claim {head.number}."
        )
    chain = _chain(look, run, head)
    _check_seals(look, run, chain)
    for term in chain:
        _check_revisions(look, run, term, head.base)
        for what in _wrong_ancestors(term, lambda folder: run.at(folder) or elsewhere(folder)):
            look.wrong(names.base(term.folder), what, _what_is_read_by(run, term), "Report it as a bug.")
    _check_fork(look, run, head.base)
    shown(look, run)


def shown(look: Look, run: Run) -> None:
    """Note which folders the revisions of a run show."""
    head = run.head
    if head is None or head.base is None:
        return
    for record in head.base.revisions:
        label = f"{run.ref}@{record.number}"
        last = head if record.folder is None else run.at(record.folder)
        if last is None or last.base is None:
            continue  # it was said
        for entry in (*last.base.lineage, *(last.merge.lineage if last.merge else ())):
            look.folder(entry.folder).shown.append(Shown(label, entry.sealed, entry.cut))
        own = Shown(label, None if record.folder is None else record.sealed, None)
        look.folder(last.folder).shown.append(own)


def _wrong_by_itself(run: Run, term: Term, base: Base) -> Iterator[str]:
    """Yield what is wrong with a base, whatever others say."""
    if term.claim is not None and (base.number, base.nonce) != (term.number, term.claim.nonce):
        yield f"It says that it is the base of claim {base.number} with nonce {base.nonce}."
    if [record.number for record in base.revisions] != list(range(1, base.revision + 1)):
        yield f"It is of revision {base.revision}, and lists revisions {[one.number for one in base.revisions]}."
    elif any((record.folder is None) != (record.number == base.revision) for record in base.revisions):
        yield "It does not say where each earlier revision ends."
    if any(_below(later.cut, earlier.cut) for earlier, later in zip(base.lineage, base.lineage[1:], strict=False)):
        yield "A part of its lineage is cut at a later step than what was built on it."
    folders = [entry.folder for entry in base.lineage]
    if len(set(folders)) < len(folders) or term.folder in folders:
        yield "Its lineage names a folder twice: its rows are doubled."


def _chain(look: Look, run: Run, head: Term) -> list[Term]:
    """Return the terms that the run's revisions rest on: an opening that was overtaken may have left others."""
    found: dict[int, Term] = {}
    waiting = [head]
    while waiting:
        term = waiting.pop()
        if term.number in found or term.base is None:
            continue
        found[term.number] = term
        for record in term.base.revisions:
            if record.folder is None:
                continue
            last = run.at(record.folder)
            if last is not None and last.base is not None:
                waiting.append(last)
            elif last is None or not (last.damaged or last.removed):
                look.wrong(
                    names.base(record.folder),
                    f"It is missing, and revision {record.number} of {run.ref} rests on it.",
                    f"{run.ref}@{record.number} cannot be read",
                )
        waiting += [last for entry in term.base.lineage if (last := run.at(entry.folder)) is not None]
    for folder in sorted({entry.folder for term in found.values() if term.base for entry in term.base.lineage}):
        last = run.at(folder)
        if last is not None and last.base is None and not (last.damaged or last.removed):
            look.wrong(
                names.base(folder),
                "It is missing, and later openings build on it.",
                f"nothing yet: later bases of {run.ref} name the rows that are read by way of it",
                harm="risk",
            )
    return sorted(found.values(), key=lambda term: term.number)


def _check_seals(look: Look, run: Run, chain: Sequence[Term]) -> None:
    """See that a folder is sealed at one place for ever."""
    seals: dict[str, tuple[Mapping[str, int], int]] = {}
    for term in chain:
        assert term.base is not None
        for folder, seal in _sealed(term.base):
            first, number = seals.setdefault(folder, (dict(seal), term.number))
            if dict(seal) != first:
                look.wrong(
                    names.base(term.folder),
                    f"It says that {folder} is sealed at {dict(seal)}, and the base of claim {number} says {first}.",
                    f"revisions of {run.ref} show other rows than they did, or two show different rows of one opening",
                    "Report it as a bug.",
                )
    unknown = max((term.number for term in run.terms.values() if term.removed or term.damaged), default=-1)
    named = {folder for term in run.terms.values() if term.base is not None for folder, _ in _sealed(term.base)}
    for term in run.terms.values():
        # Who finds nothing in a folder does not name it. What named those before it may be gone, or not to be read.
        if term.base is not None and term.folder not in named and unknown < term.number < chain[-1].number:
            later = next(one.number for one in chain if one.number > term.number)
            seals[term.folder] = ({}, later)
    for folder, (first, number) in seals.items():
        if run.at(folder) is None:
            continue  # another run's, which a fork may seal before its owner comes to its end
        for stream, flush in look.folder(folder).acknowledged.items():
            if (last := first.get(stream, -1)) < flush:
                look.wrong(
                    names.stream(folder, stream),
                    f"Flushes {last + 1} to {flush} were stored, as its writer's marks say, and were gone when claim"
                    f" {number} was made.",
                    f"rows of {stream} that this opening of {run.ref} had last are in none of its revisions",
                )


def _sealed(base: Base) -> list[tuple[str, Mapping[str, int]]]:
    """Return the folders that a base names, and where they are sealed."""
    archived = [(record.folder, record.sealed) for record in base.revisions if record.folder is not None]
    return [*((entry.folder, entry.sealed) for entry in base.lineage), *archived]


def _check_revisions(look: Look, run: Run, term: Term, head: Base) -> None:
    """See that what a base says of the revisions before it is what the head says of them."""
    assert term.base is not None
    count = term.base.revision
    own, known = term.base.revisions[:count], head.revisions[:count]
    archived = own[:-1] != known[:-1]
    if archived or [(r.created_ms, r.cut, r.parent) for r in own] != [(r.created_ms, r.cut, r.parent) for r in known]:
        look.wrong(
            names.base(term.folder),
            f"It says other things of revisions 1 to {count} than the head does.",
            f"archived revisions of {run.ref} may read otherwise than they did",
            "Report it as a bug.",
        )


def _wrong_ancestors(term: Term, at: Callable[[str], Term | None]) -> Iterator[str]:
    """Yield where a lineage is not that of what it builds on, cut where it was cut or before."""
    assert term.base is not None
    lineage = term.base.lineage
    for index, entry in enumerate(lineage):
        parent = at(entry.folder)
        if parent is None or parent.base is None:
            continue
        before = lineage[:index]
        choices = [parent.base.lineage, *([parent.merge.lineage] if parent.merge else [])]
        if not any(_continues(before, choice) for choice in choices):
            yield f"Its lineage up to {entry.folder} is not what that folder was built on."


def _continues(before: Sequence[Entry], built_on: Sequence[Entry]) -> bool:
    """Say whether entries are those that a term was built on, each cut where it was cut or before."""
    return len(before) == len(built_on) and all(
        (one.folder, dict(one.sealed)) == (other.folder, dict(other.sealed)) and not _below(other.cut, one.cut)
        for one, other in zip(before, built_on, strict=True)
    )


def _check_fork(look: Look, run: Run, head: Base) -> None:
    """See that a fork begins where its first claim says, and that its parent knows of it."""
    first = run.terms.get(run.first)
    claim = first.claim if first is not None else None
    if first is None or claim is None:
        return
    # A sync that was killed is made again by one of the same nonce, which may find that its parent was removed.
    claims = (term.claim for term in run.terms.values())
    attempts = {_beginning(one.source): one.source for one in claims if one is not None and one.nonce == claim.nonce}
    record = head.revisions[0]
    if claim.source is not None and (record.parent, record.cut) not in attempts:
        look.wrong(
            names.base(first.folder),
            f"It was to be forked from {claim.source}, and was from {record.parent} cut at {record.cut}.",
            f"{run.ref} begins with other rows than it should",
            "Report it as a bug.",
        )
    source = attempts.get((record.parent, record.cut), claim.source)
    if source is None or source.store is not None:
        return
    paths = RunPaths(RunRef.split(source.run))
    pin = paths.pin(claim.nonce)
    try:
        data = look.storage.read(pin)
    except FileNotFoundError:
        data = b""
    child = None
    if data:
        try:
            child = documents.decode_pin(data, pin)
        except (CorruptError, FormatVersionError):
            return  # said where the pins of its run are read
    if child is None and look.has(paths.removed):
        return  # its parent was removed, and left it what it needs
    if child != str(run.ref):
        look.wrong(
            pin,
            f"It should say that {run.ref} was forked from {source.run}, and "
            + ("is missing." if child is None else f"names {child}."),
            f"nothing yet; but whoever removes {source.run} is not told that {run.ref} needs its rows",
            RESTORE,
            harm="risk",
        )


def _beginning(source: Source | None) -> tuple[tuple[str, int] | None, int | None]:
    """Return what a fork's first revision says of where it was forked from."""
    if source is None:
        return None, None
    parent = source.run if source.store is None else f"{source.store}/{source.run}"
    return (parent, source.revision), source.cut


def _what_is_read_by(run: Run, term: Term) -> str:
    revision = term.base.revision if term.base is not None else "?"
    return f"rows of {run.ref}@{revision} may be missing, doubled or in a wrong place"


def _below(first: int | None, second: int | None) -> bool:
    """Say whether a cut lies before another; None lies behind all."""
    return first is not None and (second is None or first < second)
