"""Where a fork begins: the rows of another run, up to a position."""

from __future__ import annotations

from dataclasses import dataclass

from rewind_logger.errors import CorruptError, RunExistsError, RunNotFoundError
from rewind_logger.format.documents import Source
from rewind_logger.format.names import RunPaths
from rewind_logger.history import catalog, claims
from rewind_logger.history.view import View, of_base, resolve
from rewind_logger.storage.base import Storage
from rewind_logger.types import Position, RunRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a fork begins."""

    view: View
    """The rows that it begins with."""
    source: Source
    """What its first claim says, so that whoever comes next can finish it."""
    storage: Storage | None
    """The other store that the rows are copied from; None: this one, in which they are shared."""
    claimed: int
    """How many claims that run had when its rows were looked up."""
    notes: tuple[str, ...] = ()


def origin(storage: Storage, at: Position, other: Storage | None, *, typed: bool) -> Origin:
    """Look up where a fork begins.

    Args:
        storage: The store of the fork.
        at: A position of another run …
        other: … in another store, or None in this one.
        typed: Whether it must be a step that the run has.

    Raises:
        RunNotFoundError: If there is no such run or revision.
        PositionError: If a typed position is not in the run.
    """
    claimed = claims.count(other or storage, RunPaths(at.run))
    view = _view(other or storage, at.run, at.revision, claimed)
    if typed and at.next_step is not None:
        view.check_step(at.next_step - 1)
    view = view.before(at.next_step)
    store = None if other is None else other.url
    source = Source(store=store, run=str(at.run), revision=view.revision, cut=view.next_step)
    return Origin(view=view, source=source, storage=other, claimed=claimed)


def check_there(storage: Storage, begin: Origin) -> None:
    """See that what a fork begins with was not removed before its pin was put; whoever removes it now sees the pin.

    Raises:
        RunNotFoundError: If it was.
    """
    run = begin.view.run
    if claims.read(storage, RunPaths(run), begin.claimed) is not None:
        if claims.was_removed(storage, run, begin.claimed - 1):  # another run of that name may be there
            raise catalog.not_found(storage, run)
        resolve(storage, run, begin.source.revision)
    elif begin.view.revision != begin.view.revisions[-1].number:
        _view(storage, run, begin.source.revision, begin.claimed)


def _view(storage: Storage, run: RunRef, revision: int | None, claimed: int) -> View:
    """Return the view of a revision of a run that has so many claims.

    Of a run whose newest base is damaged an archived revision is known all the same, from an earlier base: where each
    ends was decided once.
    """
    damaged: CorruptError | None = None
    for found in claims.bases(storage, run, claimed):
        if isinstance(found, claims.Aside) and damaged is None:
            return of_base(storage, run, found.base, revision)  # whose rows may go: `check_there` tells
        if isinstance(found, CorruptError):
            damaged = damaged or found
        elif damaged is None or (revision is not None and revision < found.revision):
            return of_base(storage, run, found, revision)
        if revision is None:
            break
    raise damaged or catalog.not_found(storage, run)


def unfinished(storage: Storage, run: RunRef, source: Source, other: Storage | None) -> Origin:
    """Look up where a fork begins whose claim was made and whose opening was then cut short.

    Args:
        storage: The store of the fork.
        run: The fork.
        source: What its first claim says.
        other: The other store, if the opening that finishes it knows one.

    Raises:
        RunNotFoundError: If the rows lie in another store, which was not given.
    """
    if source.store is not None and other is None:
        raise RunNotFoundError(
            f"Run {run} in {storage.url} is a copy of {source} that was not finished: fork it from there again, under"
            " this id, to finish it."
        )
    parent = RunRef.split(source.run)
    claimed = claims.count(other or storage, RunPaths(parent))
    view = _view(other or storage, parent, source.revision, claimed).before(source.cut)
    note = f"The fork from {source}, which was cut short, was completed."
    return Origin(view=view, source=source, storage=other, claimed=claimed, notes=(note,))


def check_same(run: RunRef, found: Source | None, at: Position, other: Storage | None) -> None:
    """Refuse to fork onto a run that exists, unless it is the very fork that is asked for.

    Args:
        run: The fork.
        found: Where it began, as its first claim says; None if it is no fork.
        at: Where it should have begun.
        other: The other store that `at` lies in, if it does.

    Raises:
        RunExistsError: If it is another one; the message names both.
    """
    asked = str(at) if other is None else f"{other.url}/{at}"
    if found is None:
        raise RunExistsError(
            f"Run {run} exists and is no fork, so it cannot be forked from {asked}: choose another id."
        )
    if not is_from(found, at, other):
        raise RunExistsError(f"Run {run} exists and was forked from {found}, not from {asked}: choose another id.")


def is_from(found: Source, at: Position, other: Storage | None) -> bool:
    """Say whether a fork began at this position; `other` is the other store that it lies in, if it does."""
    store = None if other is None else other.url
    return (
        (found.store, found.run) == (store, str(at.run))
        and at.revision in (None, found.revision)
        and at.next_step in (None, found.cut)
    )
