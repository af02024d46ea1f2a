"""Claims: who owns a run. The one place where create-if-absent decides anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from rewind_logger.errors import CorruptError, FencedError, FormatVersionError, StorageError, TransientStorageError
from rewind_logger.format.documents import Base, Claim, decode_base, decode_claim, encode_claim
from rewind_logger.format.names import RunPaths, base, removed, streams
from rewind_logger.history.damage import report
from rewind_logger.history.rescue import sync_command
from rewind_logger.storage import probe
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef

_TRIES_A_NUMBER = 3
"""How often one number is tried where the store neither created the claim nor shows one."""

_EMPTY = Claim(nonce="torn", kind="opened", created_ms=0, host="an unknown machine", pid=0)
"""What a claim without content is taken for: `LocalStorage` leaves one where links are refused and the machine dies."""

REMOVED = "removed"
"""The kind of a claim that ends a run: nothing before it counts."""

_conditional: dict[str, bool] = {}
"""By the place of each store that had to be asked, whether `create` never replaces an object there."""


def count(storage: Storage, paths: RunPaths) -> int:
    """Return the number of claims of a run, 0 where there is no such run."""
    return max(made(storage, paths), default=-1) + 1


def made(storage: Storage, paths: RunPaths) -> dict[int, float | None]:
    """Return by number when each claim of a run was made, by the store's clock."""
    found = ((paths.parse_claim(info.name), info.modified) for info in storage.list(paths.claims))
    return {n: modified for n, modified in found if n is not None}


def fence(storage: Storage, paths: RunPaths, claim: Claim, n: int) -> int:
    """Make a claim of the first free number from `n` on, and return that number.

    Raises:
        StorageError: If the store fails for good.
    """
    while not take(storage, paths, claim, n):
        n += 1
    return n


def take(storage: Storage, paths: RunPaths, claim: Claim, n: int) -> bool:
    """Make claim `n`, unless it is taken; return whether it is ours.

    Whatever the attempt came back with, it is the claim in the store that tells who made it: a reply can be lost after
    the store did what it was asked, and the client's own second attempt then finds the name taken.

    Raises:
        StorageError: If the store fails for good.
    """
    if paths.parse_claim(paths.claim(n).rpartition("/")[2]) is None:
        raise CorruptError(
            f"There are claims up to number {n - 1:,} of {paths.root} in {storage.url}, which nobody can have made, and"
            " none can follow: remove those that are not yours."
        )
    data = encode_claim(claim)
    failure: StorageError | None = None
    for _ in range(_TRIES_A_NUMBER):
        try:
            if storage.create(paths.claim(n), data):
                return True
        except StorageError as error:
            failure = error
        try:
            found = read(storage, paths, n)
        except CorruptError:
            return False  # were it ours, it would be one without a base: an opening that was cut short
        if found is not None:
            return found.nonce == claim.nonce
    raise failure or TransientStorageError(
        f"Claim {n} of {paths.root} in {storage.url} can be neither made nor read. Try again later."
    )


def read(storage: Storage, paths: RunPaths, n: int) -> Claim | None:
    """Return claim `n`, None if there is none."""
    try:
        data = storage.read(paths.claim(n))
    except FileNotFoundError:
        return None
    return decode_claim(data, paths.claim(n)) if data else _EMPTY


def weakness(storage: Storage, paths: RunPaths, claim: Claim, n: int) -> str | None:
    """Say what a store lacks whose `create` replaces what exists; None if there is nothing to say.

    Costs one request in the first opening of a process where only a probe can tell, and none in later ones.

    Args:
        storage: The store.
        paths: Of the run.
        claim: A claim that was just made there …
        n: … under this number.
    """
    known = storage.conditional if storage.conditional is not None else _conditional.get(storage.place)
    if known is None:
        try:
            known = probe.is_conditional(storage, paths.claim(n), encode_claim(claim))
        except StorageError:
            return None  # the next opening asks again
        _conditional[storage.place] = known
    return None if known else probe.weakness(storage.url)


@dataclass(frozen=True, slots=True)
class Life:
    """A run since it was begun, or begun anew after it was removed."""

    first: int
    """The number of its first claim, or of the one that would be."""
    head: Base | None
    """The newest base; None where it has none."""
    existing: int
    """How many claims there were, and so the number of the next."""

    @property
    def disputed(self) -> bool:
        """Whether the last claim has no base: somebody is opening the run, or was cut short."""
        return self.existing > (self.first if self.head is None else self.head.number + 1)


def now(storage: Storage, run: RunRef) -> Life:
    """Look up what the claims of a run come to that there are; the same errors as those of `life`."""
    return life(storage, run, count(storage, RunPaths(run)))


def newest_base(storage: Storage, run: RunRef, below: int) -> Base | None:
    """Return the base of the newest claim below number `below` that has one, None where there is no such run."""
    return life(storage, run, below).head


def life(storage: Storage, run: RunRef, below: int) -> Life:
    """Look up what the claims below number `below` come to.

    A claim without a base is a torn opening: it fenced what came before it and is then passed over.

    Raises:
        CorruptError: If that base is damaged or missing: what the run is made of cannot be known without it.
        StorageError: If the store fails.
    """
    for found in bases(storage, run, below):
        if isinstance(found, Aside):
            return Life(found.base.begun, found.base, below)
        if isinstance(found, CorruptError):
            raise found
        return Life(found.begun, found, below)
    return Life(_after_removal(storage, RunPaths(run), below), None, below)


def _after_removal(storage: Storage, paths: RunPaths, below: int) -> int:
    """Return the number after the newest claim below number `below` that ended a run; 0 where none did."""
    for n in range(below - 1, -1, -1):
        with suppress(CorruptError):
            claim = read(storage, paths, n)
            if claim is not None and claim.kind == REMOVED:
                return n + 1
    return 0


def first(storage: Storage, run: RunRef) -> Claim | None:
    """Return the first claim of a run, None where there is no such run."""
    paths = RunPaths(run)
    existing = count(storage, paths)
    return first_of(storage, paths, _first_number(storage, run, existing), existing)


def first_of(storage: Storage, paths: RunPaths, number: int, existing: int) -> Claim | None:
    """Return the first claim of a run whose life begins with claim `number`, None if it was not made yet."""
    return read(storage, paths, number) if number < existing else None


def exists(storage: Storage, run: RunRef) -> bool:
    """Whether there is such a run, if only an opening of it that was cut short."""
    existing = count(storage, RunPaths(run))
    return existing > 0 and _first_number(storage, run, existing) < existing


def was_removed(storage: Storage, run: RunRef, n: int | None) -> bool:
    """Whether the run that claim `n` was made for has been removed."""
    return n is not None and n < _first_number(storage, run, count(storage, RunPaths(run)))


def _first_number(storage: Storage, run: RunRef, existing: int) -> int:
    """Return the number of a run's first claim; one request where no run of that name was ever removed."""
    if not existing:
        return 0
    try:
        storage.size(RunPaths(run).removed)
    except FileNotFoundError:
        return 0
    return life(storage, run, existing).first


def bases(storage: Storage, run: RunRef, below: int) -> Iterator[Base | CorruptError]:
    """Yield the bases of the claims below number `below`, the newest first, down to a removal; or why one is damaged.

    A claim that is damaged, missing or another's costs nothing: the folder of its term has its number too.
    """
    paths = RunPaths(run)
    known: dict[int, set[str]] | None = None
    n = below
    while n > 0:
        n -= 1
        nonce, why = _nonce(storage, paths, n)
        if why == REMOVED:
            return
        found = None if nonce is None else _base(storage, run, paths.term(n, nonce))
        if found is not None:
            yield found
            continue
        # Only now, for it takes requests: a claim whose opening was cut short is rare, and so is damage.
        if known is None:
            known, claimed = terms(storage, paths), made(storage, paths)
        for other in known.get(n, ()):
            folder = paths.term(n, other)
            found = _base(storage, run, folder) or _without_base(storage, run, folder)
            if found is not None and other != nonce:
                report(
                    f"The claim {paths.claim(n)} in {storage.url} {why or 'is that of another term'}: what {folder} "
                    "holds, the term that it began, is read all the same."
                )
            if found is not None:
                yield found
        if why == _MISSING:  # numbers that nobody claimed may be without number
            n = max((number for number in {*known, *claimed} if number < n), default=-1) + 1


def base_of(storage: Storage, run: RunRef, folder: str) -> Base:
    """Return the base of a term.

    Raises:
        FileNotFoundError: If it has none.
        CorruptError: If it is damaged, or that of another term.
    """
    return _read_base(storage, run, folder, base(folder))


def base_aside(storage: Storage, run: RunRef, folder: str) -> Base:
    """Return the base of a term that a removal of its revision put aside; the errors are those of `base_of`."""
    return _read_base(storage, run, folder, removed(folder))


def _read_base(storage: Storage, run: RunRef, folder: str, path: str) -> Base:
    found = decode_base(storage.read(path), run, path)
    if RunPaths(run).term(found.number, found.nonce).rpartition("/")[2] != folder.rpartition("/")[2]:
        raise CorruptError(
            f"The base {path} is that of term {found.number:08d}-{found.nonce}: objects were mixed up. Restore it from"
            " a backup."
        )
    return found


_MISSING = "is missing"


def _nonce(storage: Storage, paths: RunPaths, n: int) -> tuple[str | None, str]:
    """Return the nonce of claim `n`; or None, and what is wrong with it."""
    try:
        claim = read(storage, paths, n)
    except CorruptError:
        return None, "is damaged"
    if claim is None:
        return None, _MISSING
    return claim.nonce, REMOVED if claim.kind == REMOVED else ""


def _base(storage: Storage, run: RunRef, folder: str) -> Base | CorruptError | None:
    """Return the base of a term, or what is wrong with it; None if it has none."""
    try:
        return base_of(storage, run, folder)
    except FileNotFoundError:
        return None
    except CorruptError as error:
        return CorruptError(
            f"{error} Until then run {run} can neither be read as it is now nor written, for nothing else says what it"
            f" is made of; its archived revisions can be read, as '{run}@1'."
        )


class Aside(CorruptError):
    """A base that is not in its place, for its revision was archived and removed since the claims were counted."""

    def __init__(self, folder: str, aside: Base) -> None:
        super().__init__(f"The revision that ends with {folder} was removed.")
        self.base = aside


def _aside(storage: Storage, run: RunRef, folder: str) -> CorruptError | None:
    """Return the base that a removal of its revision put aside, or what is wrong with it; None if none did."""
    try:
        return Aside(folder, base_aside(storage, run, folder))
    except FileNotFoundError:
        return None
    except CorruptError as error:
        return error


def _without_base(storage: Storage, run: RunRef, folder: str) -> Base | CorruptError | None:
    """Say whether a term is one that lost its base: it has rows, which no term has before it has a base."""
    if (aside := _aside(storage, run, folder)) is not None:
        return aside
    if not storage.list(streams(folder)):
        return None
    # It may have come, and rows after it, since it was looked for; or have gone with the run, and left rows to a fork.
    found, paths = _base(storage, run, folder), RunPaths(run)
    term = paths.parse_term(folder.rpartition("/")[2])
    if found is not None or (term is not None and term[0] < _after_removal(storage, paths, count(storage, paths))):
        return found
    return CorruptError(
        f"The base {base(folder)} in {storage.url} is missing, while rows of its term are there. Restore it from a"
        f" backup. Until then run {run} can neither be read as it is now nor written; its archived revisions can be"
        f" read, as '{run}@1'."
    )


def terms(storage: Storage, paths: RunPaths) -> dict[int, set[str]]:
    """Return by number the nonces of the terms that have a folder."""
    found: dict[int, set[str]] = {}
    for info in storage.list(paths.terms):
        term = paths.parse_term(info.name)
        if term is not None:
            found.setdefault(term[0], set()).add(term[1])
    return found


def check_owner(storage: Storage, paths: RunPaths, n: int, journal: str | None) -> None:
    """Return if claim `n` is the last one.

    Args:
        storage: The store.
        paths: Of the run.
        n: The number of the claim.
        journal: Where rows that are not in the store lie, for the message.

    Raises:
        FencedError: If there is a claim `n + 1`; the message names who made it.
    """
    try:
        successor = read(storage, paths, n + 1)
    except (CorruptError, FormatVersionError) as error:
        # Whoever made it, it is there: the run is theirs.
        raise FencedError(f"Run {paths.root} was taken over. {error}{kept(journal)}") from error
    if successor is not None:
        if successor.kind == REMOVED:
            raise FencedError(
                f"Run {paths.root} was removed by process {successor.pid} on {successor.host}: this writer no longer"
                f" writes to the store.{kept(journal)}"
            )
        as_fork = f" To have those rows as a fork: {sync_command(storage.url, as_fork=True)}" if journal else ""
        raise FencedError(
            f"Run {paths.root} was taken over by process {successor.pid} on {successor.host}, which {successor.kind}"
            f" it: this writer no longer writes to the store.{kept(journal)} If both were meant to log, give each a"
            f" run id of its own.{as_fork}"
        )


def kept(journal: str | None) -> str:
    """Say where rows are kept, as a sentence that follows another."""
    return f" Its rows that were not stored yet are kept in {journal}." if journal else ""
