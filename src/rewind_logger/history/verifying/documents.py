"""The small documents of a run, as a verification reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from rewind_logger.errors import CorruptError, FormatVersionError
from rewind_logger.format import documents, names
from rewind_logger.format.documents import Base, Claim, Merge
from rewind_logger.format.names import RunPaths
from rewind_logger.history.claims import REMOVED, made
from rewind_logger.history.together import batches
from rewind_logger.history.verifying.look import Look, Shown, unreadable
from rewind_logger.history.verifying.report import Harm
from rewind_logger.types import RunRef

T = TypeVar("T")

TOGETHER = 256
"""Documents that are asked for at the same time."""

_UNKNOWN_ROWS = "what rests on it cannot be read"
_NOT_CHECKED = "it is not checked here"


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
    numbers = sorted(made(storage, paths))
    for first, last in _gaps(numbers):
        look.wrong(
            paths.claim(first),
            f"Claims {first} to {last} are missing, though there are later ones.",
            f"what the terms of these claims wrote to {ref} is found by no later look, and a writer that was stopped by"
            " them may go on",
            harm="risk",
        )
    empty = set()
    for n, claim in _read_each(look, "claims", numbers, paths.claim, _decode_claim):
        if claim is None:
            empty.add(n)
        nonce = "" if claim is None else claim.nonce
        run.terms[n] = Term(n, claim, paths.term(n, nonce) if nonce else "")
        if claim is not None and claim.kind == REMOVED:
            run.first = max(run.first, n + 1)
    for number in numbers:
        run.terms.setdefault(number, Term(number, None, ""))
    known = {term.folder.rpartition("/")[2] for term in run.terms.values() if term.folder}
    for name in sorted(folders - known):
        parsed = paths.parse_term(name)
        if parsed is None:
            continue  # none of ours
        number, _ = parsed
        if number in empty:
            look.wrong(
                paths.claim(number),
                f"It is empty, and {name} is the folder of a term that it began.",
                f"nothing yet: what that holds is read all the same, and found by its number; {_NOT_CHECKED}",
                harm="risk",
            )
        elif number not in run.terms:
            look.wrong(
                f"{paths.terms}/{name}",
                f"Its claim is missing, {paths.claim(number)}.",
                f"what its writer stored is in no revision of {ref}, unless a later opening built on it",
                "Restore the claim from a backup or from a copy of the store, before anybody opens the run.",
            )
        elif run.terms[number].claim is not None:  # else it is damaged, which was said
            look.wrong(
                f"{paths.terms}/{name}",
                "No claim bears the number and nonce of this folder.",
                f"what its writer stored is in no revision of {ref}: two writers took the run at the same moment, in a"
                " store that replaces what it was asked only to create; or the claim was deleted, and made anew by"
                " another opening",
                "See `rewind_logger.doctor`, and give each job a run id of its own.",
            )
    _read_terms(look, run)
    _read_evaluations(look, run)
    pins = _read_each(
        look,
        "pins",
        [info.name for info in storage.list(paths.pins) if info.size is not None and paths.parse_pin(info.name)],
        lambda name: f"{paths.pins}/{name}",
        documents.decode_pin,
        cost=lambda name: f"nothing yet; but whoever removes {ref} is not told that a fork needs its rows",
        harm="risk",
    )
    run.children = [child for _, child in pins]
    for _ in _read_each(
        look,
        "removal records",
        [paths.removed],
        str,
        documents.decode_removal,
        cost=lambda path: "nothing: the claims say whether a run was removed",
        optional=True,
        harm="none",
    ):
        pass
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
        look.plan(base.plan, base.lineage)
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
            if "s" in present and term.base is None and not excused and not look.has(names.base(term.folder)):
                look.wrong(
                    names.base(term.folder),
                    "It is missing, and its writer stored rows, which it does only after it.",
                    f"these rows are in no revision of {run.ref}, unless a later opening built on them",
                )
            _read_beside(look, run, term, present)


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
    end = read_one("closing marks", names.end(term.folder), documents.decode_end, state)
    alive = read_one("life signs", names.alive(term.folder), documents.decode_alive, state)
    for mark in (end, alive):
        for stream, flush in mark.acknowledged.items() if mark is not None else ():
            acknowledged = look.folder(term.folder).acknowledged
            acknowledged[stream] = max(flush, acknowledged.get(stream, -1))
    merge = read_one(
        "merge records",
        names.merge(term.folder),
        lambda data, path: documents.decode_merge(data, run.ref, path),
        f"{_UNKNOWN_ROWS}: the rows of the openings of {run.ref} from claim {term.number} on",
    )
    if merge is not None:
        look.plan(merge.plan, merge.lineage)
        term.merge = replace(merge, plan={})
    trimmed = [f"{term.folder}/{name}" for name in sorted(present) if names.is_merged(name)]
    if "trimmed.json" in present:
        trimmed.insert(0, term.folder)
    for _ in _read_each(
        look,
        "trim records",
        trimmed,
        names.trimmed,
        documents.decode_trim,
        cost=lambda _: "nothing yet; but segments that were removed, and nothing shows, are taken for lost",
        optional=True,
        harm="risk",
    ):
        pass


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
