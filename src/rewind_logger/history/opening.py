"""Openings: how a writer comes to own a run, and where its term begins.

*Fence, then seal*: first the claim, then a look at what was there. In the other order an older writer can acknowledge
rows after they were looked for, and they are lost.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from rewind_logger.errors import RunExistsError, RunNotFoundError
from rewind_logger.format import names
from rewind_logger.format.documents import Base, Claim, Plan, Recovery, Source, encode_base, encode_pin
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims, copying
from rewind_logger.history.view import View, of_base, resolve
from rewind_logger.storage.base import Storage
from rewind_logger.types import Entry, Position, RevisionRecord, RunRef

PLANNED_FILES = 256
"""A base carries the names of a sealed folder's files up to this number; beyond it a reader lists the folder."""

Kind = Literal["new", "resumed", "rewound", "forked", "restored", "recovered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """What an opening wants."""

    at: Position | None = None
    """Where to go on. None: at the run's end, or in a new run. A position of this very run: rewind it, or restore the
    archived revision that is named without a step. A position of another run: fork from there into this run, which is
    new."""
    typed: bool = False
    """Whether a person typed `at`: then it must be a step that the run has. A checkpoint's position may lie beyond the
    last row."""
    resume: Literal["allow", "must", "never"] = "allow"
    """Whether the run may, must or must not exist."""
    reason: str = ""
    """Why, for people who look at the revisions later."""
    source: Storage | None = None
    """The store of `at.run`, if it is another one: the rows are then copied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A run that was opened for writing."""

    run: RunRef
    kind: Kind
    revision: int
    start: int
    """The clock at which the term begins (inclusive): the first step that will be logged."""
    parent: Position | None
    """Where a rewound, restored or forked revision begins."""
    base: Base
    folder: str
    """Of the term."""
    notes: tuple[str, ...] = ()
    """Sentences for people."""


def open_run(
    storage: Storage,
    run: RunRef,
    request: OpenRequest,
    *,
    nonce: str,
    on_claim: Callable[[int], None] = lambda n: None,
    journal: str | None = None,
) -> Opened:
    """Open a run for writing: take it over from whoever has it, in a number of requests that does not grow.

    Args:
        storage: The store.
        run: The run.
        request: What is wanted of it.
        nonce: Of the writer; names its claim, its term and its journal.
        on_claim: Called with the claim's number before anything is written that a reader sees.
        journal: Where the writer's journal lies, for messages.

    Raises:
        RunNotFoundError: If a run, revision or position's run does not exist but should.
        RunExistsError: If the run exists but must not, or is another fork.
        PositionError: If a typed position is not in the run.
        FencedError: If yet another writer took the run over meanwhile.
        StorageError: If the store fails for good.
    """
    paths = RunPaths(run)
    existing = claims.count(storage, paths)
    if existing and request.resume == "never":
        raise RunExistsError(
            f"Run {run} exists in {storage.url}, and resume='never' was asked for: choose another id, or resume it."
        )
    if not existing and request.resume == "must":
        raise RunNotFoundError(f"There is no run {run} in {storage.url} to resume.")
    at, origin = request.at, None
    if at is not None and (at.run != run or request.source is not None):
        if existing:
            _check_same_fork(storage, paths, at, request.source)
            if claims.newest_base(storage, run, existing) is not None:
                at = None
        if at is not None:
            origin = _origin(storage, at, request)
    elif at is not None:
        if not existing:
            raise RunNotFoundError(f"There is no run {run} in {storage.url} to go back in.")
        if request.typed and at.next_step is not None:
            resolve(storage, run, at.revision).check_step(at.next_step - 1)
    source = None
    if origin is not None:
        source = _source_of(origin, request)
        if request.source is None:
            storage.put(RunPaths(origin.run).pin(nonce), encode_pin(run))
    claim = new_claim(nonce, "opened" if source is None else "forked", request.reason, source)
    n = claims.fence(storage, paths, claim, existing)
    on_claim(n)
    # The fence is up: from here on nothing that an older writer puts is acknowledged. Only now look at what is there.
    predecessor = claims.newest_base(storage, run, n)
    if predecessor is not None:
        if origin is not None:  # another process made the same fork a moment ago, or another run of this name
            assert request.at is not None
            _check_same_fork(storage, paths, request.at, request.source)
            at = None
        opened = _continue(storage, run, predecessor, at, n, nonce, request.reason)
    else:
        opened = _begin(storage, run, n, nonce, request, origin)
    publish(storage, opened, journal)
    return opened


def publish(storage: Storage, opened: Opened, journal: str | None) -> None:
    """Put the base of an opening, which makes it the run's head, and see that nobody claimed the run meanwhile."""
    storage.put(names.base(opened.folder), encode_base(opened.base, opened.run))
    claims.check_owner(storage, RunPaths(opened.run), opened.base.number, journal)


def _continue(
    storage: Storage, run: RunRef, predecessor: Base, at: Position | None, n: int, nonce: str, reason: str
) -> Opened:
    """Build on the term before: go on, rewind or restore."""
    head = of_base(storage, run, predecessor)
    end = head.entries[-1]
    target = head if at is None or at.revision is None else of_base(storage, run, predecessor, at.revision)
    cut = at.next_step if at is not None else None
    # A cut beyond everything there is removes nothing, so it opens no revision.
    nothing_cut = cut is None or (cut >= head.start and cut > head.newest_clock)
    if target.revision == head.revision and nothing_cut:
        start = head.next_step if cut is None else cut
        return build(run, "resumed", n, nonce, head, start, predecessor.revisions, None)
    start = target.next_step if cut is None else cut
    parent = Position(run, target.revision, start)
    archived = replace(predecessor.revisions[-1], folder=end.folder, sealed=dict(end.sealed))
    record = RevisionRecord(
        number=head.revision + 1,
        parent=(str(run), target.revision),
        cut=cut,
        created_ms=now_ms(),
        reason=reason,
    )
    revisions = (*predecessor.revisions[:-1], archived, record)
    kind: Kind = "restored" if cut is None else "rewound"
    return build(run, kind, n, nonce, _cut(target, cut), start, revisions, parent)


def _begin(storage: Storage, run: RunRef, n: int, nonce: str, request: OpenRequest, origin: View | None) -> Opened:
    """Begin a run, or the fork that an earlier opening of it was killed in."""
    notes: tuple[str, ...] = ()
    first = claims.read(storage, RunPaths(run), 0) if n > 0 else None
    source_store = request.source
    if first is not None and first.source is not None:
        source = first.source
        if "://" in source.run and origin is None:
            raise RunNotFoundError(
                f"Run {run} is a copy of {source.run} that was not finished: fork it from there again to finish it."
            )
        if "://" not in source.run:
            project, _, run_id = source.run.rpartition("/")
            origin = resolve(storage, RunRef(project, run_id), source.revision, source.cut)
            source_store = None
            notes = (f"The fork from {source.run}@{source.revision}, which was cut short, was completed.",)
    if origin is None:
        record = RevisionRecord(number=1, parent=None, cut=None, created_ms=now_ms(), reason=request.reason)
        folder = RunPaths(run).term(n, nonce)
        empty = View(
            run=run,
            revision=1,
            head=True,
            entries=(),
            plan={},
            start=0,
            next_step=0,
            newest_clock=-1,
            revisions=(record,),
            folder=folder,
        )
        return build(run, "new", n, nonce, empty, 0, (record,), None)
    name = str(origin.run)
    if source_store is not None:
        folder = RunPaths(run).term(n, nonce)
        name = f"{source_store.url}/{name}"
        origin = copying.copy_view(source_store, origin, storage, folder)
        notes = (f"The rows of {name}@{origin.revision} were copied, since they lie in another store.",)
    record = RevisionRecord(
        number=1,
        parent=(name, origin.revision),
        cut=origin.next_step,
        created_ms=now_ms(),
        reason=request.reason,
    )
    parent = Position(origin.run, origin.revision, origin.next_step)
    opened = build(run, "forked", n, nonce, origin, origin.next_step, (record,), parent)
    return replace(opened, notes=notes)


def _origin(storage: Storage, at: Position, request: OpenRequest) -> View:
    """Return the view of the run that a fork begins from."""
    view = resolve(request.source or storage, at.run, at.revision)
    if at.next_step is None:
        return view
    if request.typed:
        view.check_step(at.next_step - 1)
    return _cut(view, at.next_step)


def _cut(view: View, cut: int | None) -> View:
    """Cut a view at the position of an opening, which unlike a reader's may lie beyond its end."""
    return view if cut is None else replace(view.cut_at(cut), next_step=cut)


def _source_of(origin: View, request: OpenRequest) -> Source:
    name = str(origin.run) if request.source is None else f"{request.source.url}/{origin.run}"
    return Source(run=name, revision=origin.revision, cut=origin.next_step)


def _check_same_fork(storage: Storage, paths: RunPaths, at: Position, source: Storage | None) -> None:
    """Refuse to fork onto a run that exists, unless it is the very fork that is asked for."""
    first = claims.read(storage, paths, 0)
    wanted = str(at.run) if source is None else f"{source.url}/{at.run}"
    found = first.source if first is not None else None
    asked = f"{wanted}{'' if at.revision is None else f'@{at.revision}'}"
    asked += "" if at.next_step is None else f"?_step={at.next_step - 1}"
    if found is None:
        raise RunExistsError(
            f"Run {paths.root} exists and is no fork, so it cannot be forked from {asked}: choose another id."
        )
    same = (
        found.run == wanted
        and at.revision in (None, found.revision)
        and (at.next_step is None or at.next_step == found.cut)
    )
    if not same:
        raise RunExistsError(
            f"Run {paths.root} exists and was forked from {found.run}@{found.revision}"
            f"{'' if found.cut is None else f'?_step={found.cut - 1}'}, not from {asked}: choose another id."
        )


def build(
    run: RunRef,
    kind: Kind,
    n: int,
    nonce: str,
    parent_view: View,
    start: int,
    revisions: tuple[RevisionRecord, ...],
    parent: Position | None,
    recovery: Recovery | None = None,
) -> Opened:
    """Return an opening that builds on everything in `parent_view`; nothing is written yet."""
    lineage = parent_view.entries
    base = Base(
        number=n,
        nonce=nonce,
        revision=revisions[-1].number,
        start=start,
        lineage=lineage,
        plan=planned(parent_view.plan, lineage),
        revisions=revisions,
        recovery=recovery,
        created_ms=now_ms(),
    )
    return Opened(
        run=run,
        kind=kind,
        revision=base.revision,
        start=start,
        parent=parent,
        base=base,
        folder=RunPaths(run).term(n, nonce),
    )


def planned(plan: Plan, lineage: tuple[Entry, ...]) -> Plan:
    """Return the part of a plan that a base carries: of its own lineage, and bounded."""
    kept = {entry.folder: plan[entry.folder] for entry in lineage if entry.folder in plan}
    return {
        folder: streams
        for folder, streams in kept.items()
        if sum(len(files) for files in streams.values()) <= PLANNED_FILES
    }


def new_claim(nonce: str, kind: str, reason: str, source: Source | None = None) -> Claim:
    """Return a claim of this process."""
    return Claim(
        nonce=nonce,
        kind=kind,
        created_ms=now_ms(),
        host=socket.gethostname(),
        pid=os.getpid(),
        reason=reason,
        source=source,
    )


def now_ms() -> int:
    """Return the wall time in milliseconds."""
    return int(time.time() * 1000)
