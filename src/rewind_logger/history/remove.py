"""Removal: of a run, or of an archived revision. Why no writer can undo it: `design/009-collect.md`."""

from __future__ import annotations

import math
import secrets
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rewind_logger.errors import ConfigError, CorruptError, RunNotFoundError
from rewind_logger.format import names
from rewind_logger.format.documents import Removal, encode_removal
from rewind_logger.format.names import RunPaths
from rewind_logger.history import catalog, claims, store_clock
from rewind_logger.history.collect import GRACE_S, Remover, needed, needs_of
from rewind_logger.history.collecting.garbage import Garbage, Sweep
from rewind_logger.history.collecting.needs import Needs, Roots, is_old, roots
from rewind_logger.history.opening import new_claim, now_ms
from rewind_logger.history.pins import Pin, pins
from rewind_logger.storage.base import Storage
from rewind_logger.types import Progress, RunRef

OPENING_S = 86400.0
"""An opening that has a claim and no base after this time was cut short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What a removal removed, or would."""

    url: str
    name: str
    """The run, or the revision."""
    dry_run: bool
    objects: int
    bytes: int
    forks: tuple[str, ...] = ()
    """The forks that need rows of it. These rows stay where they are, and are theirs from now on."""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return some lines."""
        done = "would be removed" if self.dry_run else "was removed"
        lines = [f"{self.name} in {self.url} {done}: {self.objects:,} objects, {self.bytes / 1e6:,.1f} MB."]
        if self.forks:
            lines.append(f"What these forks need of it stays, as theirs: {', '.join(self.forks)}.")
        lines += self.notes
        if self.dry_run:
            lines.append("Nothing was removed: call it with dry_run=False.")
        else:
            lines.append("Files of artifacts and media that nothing else needs go with the next collect.")
        return "\n".join(lines)


def remove_run(
    storage: Storage, run: RunRef, *, dry_run: bool = True, adopt: bool = False, progress: Progress | None = None
) -> Removed:
    """Remove a run. It is gone from one request on, a claim that ends it; what follows frees room.

    Args:
        storage: The store.
        run: The run; one of which the removal was cut short is removed further.
        dry_run: Whether only to say what would be removed.
        adopt: Whether it may be removed although forks need rows of it: these rows stay, as theirs.
        progress: Is told how far it is.

    Raises:
        RunNotFoundError: If there is no such run.
        ConfigError: If forks need rows of it and `adopt` is not set, or if a fork is being made: they are listed.
        CorruptError: If it cannot be known what others need.
        StorageError: If the store fails; it can be removed further then.
    """
    tell = progress or (lambda what, done, total: None)
    paths = RunPaths(run)
    known = {f"{paths.pins}/{info.name}" for info in storage.list(paths.pins)}
    existing = claims.count(storage, paths)
    life = claims.life(storage, run, existing)
    if life.first == existing and (not existing or not _leftovers(storage, run)):
        raise catalog.not_found(storage, run)
    now, notes = store_clock.now_unless(storage, dry_run)
    limit = now - GRACE_S
    if life.first < existing:
        _refuse_unfinished(storage, run, str(run), pins(storage, run), limit)
    forks = _dependents(storage, run, limit, lambda folder, need: False)
    if life.first < existing:
        _refuse_needed(storage, str(run), forks, adopt)
        if not dry_run:
            storage.put(paths.removed, encode_removal(Removal(run=run, at_ms=now_ms(), host=socket.gethostname())))
            claim = new_claim(secrets.token_hex(8), claims.REMOVED, "remove")
            existing = claims.fence(storage, paths, claim, existing) + 1
    # From here on it is not there: nobody begins a fork any more, and who did so before has put a pin. What comes later
    # is of another run, which may be begun under that name at any moment.
    ended = math.inf if dry_run else storage.info(paths.claim(existing - 1)).modified
    found = Roots(run, dict.fromkeys(range(existing), 0.0), first=existing, ended=ended)
    left = pins(storage, run)
    young = [pin for pin in left if _may_be_made(pin, limit)]
    remover = Remover(storage, dry_run)
    notes += _journal_notes(storage, run)
    if young and not dry_run:
        notes.append(f"{_listed({str(pin.child) for pin in young})} is being forked from it. Its rows stay until then.")
    else:
        shared = needs_of(storage, _others(storage, run), limit, tell)
        needs = needed(found, shared)
        sweep = Sweep(storage, found, needs, math.inf, lambda path, stream, size: None, below=existing)
        # A range that was put a moment ago may be unknown to who reads its parts.
        remover.remove(one for one in sweep.garbage() if one.reason != "superseded segments")
        remover.remove(Garbage(pin.path, pin.size, "removed runs and revisions") for pin in left if pin.path in known)
    return _report(storage, str(run), remover, forks, notes)


def remove_revision(
    storage: Storage,
    run: RunRef,
    revision: int,
    *,
    dry_run: bool = True,
    adopt: bool = False,
    progress: Progress | None = None,
) -> Removed:
    """Remove an archived revision: what only it shows. Rows that it shares with others stay.

    Args:
        storage: The store.
        run: The run.
        revision: The revision's number.
        dry_run: Whether only to say what would be removed.
        adopt: As for `remove_run`.
        progress: Is told how far it is.

    Raises:
        RunNotFoundError: If there is no such run or revision.
        ConfigError: If it is the run's present revision; else as `remove_run`, whose other errors these are too.
    """
    tell = progress or (lambda what, done, total: None)
    name = f"{run}@{revision}"
    existing = claims.count(storage, RunPaths(run))
    head = claims.newest_base(storage, run, existing)
    if head is None:
        raise catalog.not_found(storage, run)
    if not 1 <= revision <= head.revision:
        raise RunNotFoundError(f"Run {run} has no revision {revision}: it has revisions 1 to {head.revision}.")
    if revision == head.revision:
        raise ConfigError(
            f"{name} is the run's present revision, which cannot be removed alone: go back in the run, or restore an "
            f"archived revision, which archives it; or remove the whole run, {str(run)!r}."
        )
    now, notes = store_clock.now_unless(storage, dry_run)
    limit = now - GRACE_S
    folder = head.revisions[revision - 1].folder
    assert folder is not None
    forks = _dependents(storage, run, limit, roots(storage, run, limit, without=folder).needs.covers)
    base = _read(storage, names.base(folder))
    if base is not None:
        of_it = [pin for pin in pins(storage, run) if pin.source is None or pin.source.revision == revision]
        _refuse_unfinished(storage, run, name, of_it, limit)
        _refuse_needed(storage, name, forks, adopt)
        if not dry_run:
            # Kept, for the collector has to know what it showed.
            storage.put(names.removed(folder), base)
            storage.delete(names.base(folder))
    elif _read(storage, names.removed(folder)) is None:
        if claims.was_removed(storage, run, head.number):
            raise catalog.not_found(storage, run)
        raise CorruptError(f"{names.base(folder)} in {storage.url} is missing, on which {name} rests.")
    # From here on it is not there. Who looked before, to go back to it or to fork it, has made a claim or put a pin.
    remover = Remover(storage, dry_run)
    if not dry_run and _is_being_opened(storage, run, limit):
        notes.append("The run is being opened, or a fork is begun: rows go with the next removal of it, or collect.")
    else:
        # What forks need before what the run does: a term that only a fork is known to need seems to end at its cut.
        shared = needs_of(storage, _others(storage, run), limit, tell)
        found = roots(storage, run, limit, without=folder)
        needs, below = needed(found, shared), max(found.claims) + 1
        sweep = Sweep(storage, found, needs, math.inf, lambda path, stream, size: None, below=below)
        remover.remove(one for one in sweep.garbage() if one.reason == "removed runs and revisions")
    return _report(storage, name, remover, forks, notes)


def _leftovers(storage: Storage, run: RunRef) -> bool:
    """Whether the removal of a run was cut short, or zombies put something since."""
    paths = RunPaths(run)
    return any(_objects(storage, folder) for folder in (paths.terms, paths.evaluations, paths.pins))


def _objects(storage: Storage, folder: str) -> bool:
    """Whether there is any object below a folder: a disk may keep empty ones."""
    return any(info.size is not None or _objects(storage, f"{folder}/{info.name}") for info in storage.list(folder))


def _may_be_made(pin: Pin, limit: float) -> bool:
    """Whether a fork may yet be made that will need what is there now."""
    return pin.state == "begun" or (pin.state == "none" and not is_old(pin.modified, limit))


def _refuse_unfinished(storage: Storage, run: RunRef, name: str, found: Iterable[Pin], limit: float) -> None:
    begun = sorted({str(pin.child) for pin in found if pin.state == "begun"})
    if begun:
        raise ConfigError(
            f"{name} cannot be removed from {storage.url}: the fork {_listed(begun)} was begun and not finished. Open "
            "it once, which finishes it, or remove it first."
        )
    young = sorted({str(pin.child) for pin in found if _may_be_made(pin, limit)})
    if young:
        raise ConfigError(
            f"{name} cannot be removed from {storage.url} now: {_listed(young)} is being forked from it, or was to be "
            "a short time ago. Try again once it is there; what never came to be is forgotten after a week."
        )


def _refuse_needed(storage: Storage, name: str, forks: list[str], adopt: bool) -> None:
    if forks and not adopt:
        raise ConfigError(
            f"{name} cannot be removed from {storage.url}: {_listed(forks)} need{'s' if len(forks) == 1 else ''} rows "
            "of it. Remove these first; or give adopt=True, and what they need stays, as theirs."
        )


def _others(storage: Storage, run: RunRef) -> list[RunRef]:
    """Return all other runs, as of now: a fork may have come since they were last looked for."""
    return [other for other in catalog.runs(storage, removed=True, unread=None) if other != run]


def _dependents(storage: Storage, run: RunRef, limit: float, covered: Callable[..., bool]) -> list[str]:
    """Return the runs that need rows of a run which nothing else would keep."""
    own = f"{RunPaths(run).terms}/"
    found = []
    for other in _others(storage, run):
        theirs = Needs()
        theirs.take(roots(storage, other, limit).needs, within=own)
        if any(not covered(folder, need) for folder in theirs.folders() for need in theirs.of(folder)):
            found.append(str(other))
    return found


def _is_being_opened(storage: Storage, run: RunRef, limit: float) -> bool:
    """Whether an opening has a claim and no base, or a fork only a pin."""
    paths = RunPaths(run)
    made = claims.made(storage, paths)
    last = max(made)
    claim = claims.read(storage, paths, last)
    if claim is not None and _read(storage, names.base(paths.term(last, claim.nonce))) is None:
        modified = made[last]
        if modified is None or modified > limit + GRACE_S - OPENING_S:
            return True
    return any(_may_be_made(pin, limit) for pin in pins(storage, run))


def _read(storage: Storage, path: str) -> bytes | None:
    try:
        return storage.read(path)
    except FileNotFoundError:
        return None


def _journal_notes(storage: Storage, run: RunRef) -> list[str]:
    """Say of journals that are left: their rows lie nowhere else."""
    left = [info for info in storage.list(RunPaths(run).journals) if info.size is None]
    if not left:
        return []
    return [
        f"Journals of its writers are left in {storage.url}/{RunPaths(run).journals}: rows that never came into it."
    ]


def _listed(found: Iterable[str]) -> str:
    return ", ".join(sorted(found))


def _report(storage: Storage, name: str, remover: Remover, forks: list[str], notes: list[str]) -> Removed:
    return Removed(
        url=storage.url,
        name=name,
        dry_run=remover.dry_run,
        objects=sum(remover.objects.values()),
        bytes=sum(remover.bytes.values()),
        forks=tuple(forks),
        notes=tuple(notes),
    )
