"""The small documents of a run, and what the protocol promises of them (`design/004-protocol.md`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from rewind_logger.errors import CorruptError, FormatVersionError
from rewind_logger.format import documents, names
from rewind_logger.format.documents import Base, Claim, Merge
from rewind_logger.format.names import RunPaths
from rewind_logger.history.claims import REMOVED
from rewind_logger.history.together import batches
from rewind_logger.history.verifying.look import RESTORE, Look, Shown, unreadable
from rewind_logger.history.verifying.report import Harm
from rewind_logger.types import Entry, RunRef

T = TypeVar("T")

TOGETHER = 256
"""Documents that are asked for at the same time."""

_UNKNOWN_ROWS = "what rests on it cannot be read"


@dataclass(slots=True)
class Term:
    """A claim, and what lies in the folder of its term."""

    number: int
    claim: Claim | None
    """None: it is damaged, or an empty one."""
    folder: str
    base: Base | None = None
    """Without its plan."""
    merge: Merge | None = None
    damaged: bool = False
    """Whether there is a base that cannot be read."""
    removed: bool = False
    """Whether its revision was removed, and with it its base."""


@dataclass(slots=True)
class Run:
    """The documents of one run."""

    ref: RunRef
    terms: dict[int, Term] = field(default_factory=dict)
    first: int = 0
    """The number of its first claim; those before are of runs of that name that were removed."""
    children: list[str] = field(default_factory=list)
    """The runs that its pins name."""

    @property
    def head(self) -> Term | None:
        """The newest term with a base that can be read."""
        return max((term for term in self.terms.values() if term.base), key=lambda term: term.number, default=None)

    def at(self, folder: str) -> Term | None:
        """Return the term that has this folder."""
        paths = RunPaths(self.ref)
        parsed = paths.parse_term(folder.removeprefix(f"{paths.terms}/"))
        term = None if parsed is None else self.terms.get(parsed[0])
        return term if term is not None and term.folder == folder else None


def read(look: Look, ref: RunRef) -> Run:
    """Read every document of a run, and note what is damaged or missing."""
    storage, paths, run = look.storage, RunPaths(ref), Run(ref)
    # Folders before claims, and claims before all that follows a claim: who writes meanwhile does it in that order.
    folders = {info.name for info in storage.list(paths.terms) if info.size is None}
    numbers = sorted(n for info in storage.list(paths.claims) if (n := paths.parse_claim(info.name)) is not None)
    for first, last in _gaps(numbers):
        look.wrong(
            paths.claim(first),
            f"Claims {first} to {last} are missing, though there are later ones.",
            f"what the terms of these claims wrote to {ref} is found by no later look, and a writer that was stopped by"
            " them may go on",
            harm="risk",
        )
    for n, claim in _read_each(look, "claims", numbers, paths.claim, _decode_claim):
        nonce = "" if claim is None else claim.nonce
        run.terms[n] = Term(n, claim, paths.term(n, nonce) if nonce else "")
        if claim is not None and claim.kind == REMOVED:
            run.first = max(run.first, n + 1)
    for number in numbers:
        run.terms.setdefault(number, Term(number, None, ""))
    known = {term.folder.rpartition("/")[2] for term in run.terms.values() if term.folder}
    for name in sorted(folders - known):
        parsed = paths.parse_term(name)
        if parsed is None or (parsed[0] in run.terms and run.terms[parsed[0]].claim is None):
            continue  # none of ours; or its claim is damaged, which was said
        look.wrong(
            f"{paths.terms}/{name}",
            "No claim bears the number and nonce of this folder.",
            f"what its writer stored is in no revision of {ref}: two writers took the run at the same moment, in a"
            " store that replaces what it was asked only to create; or the claim was deleted",
            "See `rewind_logger.doctor`, and give each job a run id of its own.",
        )
    _read_terms(look, run)
    _read_evaluations(look, run)
    pins = _read_each(
        look,
        "pins",
        [info.name for info in storage.list(paths.pins) if info.name.endswith(".json")],
        lambda name: f"{paths.pins}/{name}",
        documents.decode_pin,
        cost=lambda name: f"nothing yet; but whoever removes {ref} is not told that a fork needs its rows",
        harm="risk",
    )
    run.children = [child for _, child in pins]
    return run


def _decode_claim(data: bytes, path: str) -> Claim | None:
    return documents.decode_claim(data, path) if data else None


def _read_terms(look: Look, run: Run) -> None:
    """Read what lies directly in the folders of terms, and note the folders of segments."""
    storage = look.storage
    terms = [term for term in run.terms.values() if term.folder and term.number >= run.first]
    bases = _read_each(
        look,
        "bases",
        terms,
        lambda term: names.base(term.folder),
        lambda data, path: documents.decode_base(data, run.ref, path),
        cost=lambda term: f"{_UNKNOWN_ROWS}: the rows of the openings of {run.ref} from claim {term.number} on",
        optional=True,
        on_damage=_set_damaged,
    )
    for term, base in bases:
        for folder, streams in base.plan.items():
            planned = look.folder(folder).planned
            for stream, files in streams.items():
                planned.setdefault(stream, {}).update(files)
        term.base = replace(base, plan={})
    for group in batches(terms, TOGETHER):
        for term, infos in zip(group, storage.map_lists([term.folder for term in group]), strict=True):
            present = {info.name for info in infos}
            term.removed = "removed.json" in present
            if "s" in present:
                look.folder(term.folder)
            for info in infos:
                if info.size is None and names.is_merged(info.name):
                    look.folder(f"{term.folder}/{info.name}")
            excused = term.damaged or term.removed
            if "s" in present and term.base is None and not excused and not _has_base(look, term):
                look.wrong(
                    names.base(term.folder),
                    "It is missing, and its writer stored rows, which it does only after it.",
                    f"these rows are in no revision of {run.ref}, unless a later opening built on them",
                )
            _read_beside(look, run, term, present)


def _has_base(look: Look, term: Term) -> bool:
    """Say whether a base has come since it was looked for."""
    return _is_there(look, names.base(term.folder))


def _is_there(look: Look, path: str) -> bool:
    try:
        look.storage.size(path)
    except FileNotFoundError:
        return False
    return True


def _set_damaged(term: Term) -> None:
    term.damaged = True


def _read_beside(look: Look, run: Run, term: Term, present: set[str]) -> None:
    """Read what lies beside a base."""

    def read_one(kind: str, path: str, decode: Callable[[bytes, str], T], cost: str) -> T | None:
        if path.rpartition("/")[2] not in present:
            return None
        return next(
            (value for _, value in _read_each(look, kind, [path], str, decode, cost=lambda _: cost, optional=True)),
            None,
        )

    state = f"whether the opening of {run.ref} with claim {term.number} ended well is not known"
    read_one("closing marks", names.end(term.folder), documents.decode_end, state)
    read_one("signs of life", names.alive(term.folder), documents.decode_alive, state)
    merge = read_one(
        "merge records",
        names.merge(term.folder),
        lambda data, path: documents.decode_merge(data, run.ref, path),
        f"{_UNKNOWN_ROWS}: the rows of the openings of {run.ref} from claim {term.number} on",
    )
    if merge is not None:
        for folder, streams in merge.plan.items():
            for stream, files in streams.items():
                look.folder(folder).planned.setdefault(stream, {}).update(files)
        term.merge = replace(merge, plan={})


def _read_evaluations(look: Look, run: Run) -> None:
    paths = RunPaths(run.ref)
    folders = [paths.evaluation(info.name) for info in look.storage.list(paths.evaluations) if info.size is None]
    for folder, about in _read_each(
        look,
        "evaluations",
        folders,
        names.about,
        documents.decode_evaluation,
        cost=lambda folder: f"the rows of this evaluation of {run.ref} are not found",
    ):
        look.folder(folder).shown.append(
            Shown(f"an evaluation ({about.kind}) of {run.ref}@{about.revision}", None, None)
        )


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
        sealed = [(entry.folder, entry.sealed) for entry in term.base.lineage]
        sealed += [(record.folder, record.sealed) for record in term.base.revisions if record.folder is not None]
        for folder, seal in sealed:
            first, number = seals.setdefault(folder, (dict(seal), term.number))
            if dict(seal) != first:
                look.wrong(
                    names.base(term.folder),
                    f"It says that {folder} is sealed at {dict(seal)}, and the base of claim {number} says {first}.",
                    f"revisions of {run.ref} show other rows than they did, or two show different rows of one opening",
                    "Report it as a bug.",
                )


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
    source = first.claim.source if first is not None and first.claim is not None else None
    if source is None:
        return
    assert first is not None and first.claim is not None
    record = head.revisions[0]
    parent = source.run if source.store is None else f"{source.store}/{source.run}"
    if (record.parent, record.cut) != ((parent, source.revision), source.cut):
        look.wrong(
            names.base(first.folder),
            f"It was to be forked from {source}, and was from {record.parent} cut at {record.cut}.",
            f"{run.ref} begins with other rows than it should",
            "Report it as a bug.",
        )
    if source.store is not None:
        return
    paths = RunPaths(RunRef.split(source.run))
    pin = paths.pin(first.claim.nonce)
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
    if child is None and _is_there(look, paths.removed):
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


def _what_is_read_by(run: Run, term: Term) -> str:
    revision = term.base.revision if term.base is not None else "?"
    return f"rows of {run.ref}@{revision} may be missing, doubled or in a wrong place"


def _below(first: int | None, second: int | None) -> bool:
    """Say whether a cut lies before another; None lies behind all."""
    return first is not None and (second is None or first < second)


def _gaps(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the numbers from 0 that are missing, as inclusive ranges."""
    next_number = 0
    for n in numbers:
        if n > next_number:
            yield next_number, n - 1
        next_number = n + 1


K = TypeVar("K")


def _read_each(
    look: Look,
    kind: str,
    items: Sequence[K],
    path_of: Callable[[K], str],
    decode: Callable[[bytes, str], T],
    *,
    cost: Callable[[K], str] = lambda item: _UNKNOWN_ROWS,
    optional: bool = False,
    on_damage: Callable[[K], None] = lambda item: None,
    harm: Harm = "loss",
) -> Iterator[tuple[K, T]]:
    """Read documents and yield those that are whole; note the others, but for missing ones that are `optional`."""
    for group in batches(items, TOGETHER):
        paths = [path_of(item) for item in group]
        for item, path, outcome in zip(group, paths, look.storage.read_each(paths), strict=True):
            if optional and isinstance(outcome, FileNotFoundError):
                continue
            what = unreadable(outcome)
            if what is None:
                assert isinstance(outcome, bytes)
                look.took(kind, len(outcome))
                try:
                    yield item, decode(outcome, path)
                    continue
                except (CorruptError, FormatVersionError) as error:
                    what = str(error)
            on_damage(item)
            look.wrong(path, what, cost(item), harm=harm)
