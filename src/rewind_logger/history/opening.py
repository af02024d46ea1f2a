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

from rewind_logger.errors import CorruptError, RunExistsError
from rewind_logger.format import names
from rewind_logger.format.documents import MAX_CLOCK, Base, Claim, Plan, Recovery, encode_base, encode_pin
from rewind_logger.format.names import RunPaths
from rewind_logger.history import catalog, claims, copying, forking
from rewind_logger.history.claims import Life
from rewind_logger.history.forking import Origin
from rewind_logger.history.view import View, archived_base, effective_lineage, of_base
from rewind_logger.storage.base import Storage
from rewind_logger.types import OPENING_CLOCK, Entry, Position, RevisionRecord, RunRef

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

    def at_own(self, run: RunRef) -> Position | None:
        """Return `at` if it is a position of `run` itself: of a fork that exists, the opening only goes on."""
        return self.at if self.at is not None and self.at.run == run and self.source is None else None


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
    while True:
        life = claims.now(storage, run)
        existing = life.existing
        # All that can be refused is refused before the claim, which ends the turn of whoever writes now.
        origin = _check(storage, run, request, life)
        claim = new_claim(nonce, "opened", request.reason)
        if origin is not None:
            claim = replace(claim, kind="forked", source=origin.source)
            if origin.source.store is None:
                storage.put(RunPaths(origin.view.run).pin(nonce), encode_pin(run, origin.view.run, nonce))
                forking.check_there(storage, origin)
        if existing > life.first:
            n = claims.fence(storage, paths, claim, existing)
            break
        if claims.take(storage, paths, claim, existing):
            n = existing
            break
        # Somebody began the run since it was looked for: now it exists, and what was asked may mean another thing.
    on_claim(n)
    # The fence is up: from here on nothing that an older writer puts is acknowledged. Only now look where it ends. Its
    # base alone may be known from before, for a base never changes.
    if life.head is None or life.head.number != n - 1:
        life = claims.life(storage, run, n)
    if life.head is not None:
        opened = _continue(storage, run, life.head, request.at_own(run), n, nonce, request.reason)
    elif origin is not None:
        opened = _fork(storage, run, life.first, n, nonce, origin, request.reason)
    elif request.at is not None or request.resume == "must":  # it was removed since it was looked for
        raise catalog.not_found(storage, run)
    else:
        opened = begun(run, n, nonce, request.reason, first=life.first)
    weakness = claims.weakness(storage, paths, claim, n)
    if weakness is not None:
        opened = replace(opened, notes=(*opened.notes, weakness))
    publish(storage, opened, journal)
    return opened


def check(storage: Storage, run: RunRef, request: OpenRequest) -> None:
    """Refuse what `open_run` would refuse as the run is now, with its errors; nothing is written."""
    _check(storage, run, request, claims.now(storage, run))


def built_on(storage: Storage, opened: Opened) -> View:
    """Return the view of what an opening builds on, without the term that it began."""
    entries, plan = effective_lineage(storage, opened.run, opened.base, opened.folder)
    return View(
        run=opened.run,
        revision=opened.revision,
        head=False,
        entries=entries,
        plan=plan,
        start=opened.start,
        next_step=opened.start,
        newest_clock=opened.base.newest_clock,
        revisions=opened.base.revisions,
        folder=opened.folder,
    )


def publish(storage: Storage, opened: Opened, journal: str | None) -> None:
    """Put the base of an opening, which makes it the run's head, and see that nobody claimed the run meanwhile."""
    storage.put(names.base(opened.folder), encode_base(opened.base, opened.run))
    claims.check_owner(storage, RunPaths(opened.run), opened.base.number, journal)


def _check(storage: Storage, run: RunRef, request: OpenRequest, life: Life) -> Origin | None:
    """Refuse what cannot be; return where the run begins, if it is a fork that is not there yet."""
    at, head, existing = request.at, life.head, life.existing > life.first
    if existing and request.resume == "never":
        raise RunExistsError(
            f"Run {run} exists in {storage.url}, and resume='never' was asked for: choose another id, or resume it."
        )
    if not existing and request.resume == "must":
        raise catalog.not_found(storage, run)
    if request.at_own(run) is not None:
        assert at is not None
        if head is None:
            raise catalog.not_found(storage, run)
        if request.typed and at.next_step is not None:
            of_base(storage, run, head, at.revision).check_step(at.next_step - 1)
        elif at.revision not in (None, head.revision):
            archived_base(storage, run, head, at.revision)
        return None
    looked_at = existing and (at is not None or head is None)
    first = claims.read(storage, RunPaths(run), life.first) if looked_at else None
    source = first.source if first is not None else None
    if at is not None and existing:
        forking.check_same(run, source, at, request.source)
    if head is not None:
        return None
    if source is not None:  # its opening was cut short: whoever comes next makes the fork that was meant
        return forking.unfinished(storage, run, source, request.source)
    return forking.origin(storage, at, request.source, typed=request.typed) if at is not None else None


def _continue(
    storage: Storage, run: RunRef, predecessor: Base, at: Position | None, n: int, nonce: str, reason: str
) -> Opened:
    """Build on the term before: go on, rewind or restore."""
    head = of_base(storage, run, predecessor)
    end = head.entries[-1]
    # Looked at once: a fenced writer may still put what a second look would see, and a folder has one seal.
    present = at is None or at.revision in (None, head.revision)
    target = head if at is None or present else of_base(storage, run, predecessor, at.revision)
    cut = at.next_step if at is not None else None
    # A cut beyond everything there is removes nothing, so it opens no revision.
    nothing_cut = cut is None or (cut >= head.start and cut > head.newest_clock)
    if target.revision == head.revision and nothing_cut:
        start = head.next_step if cut is None else cut
        return build(run, "resumed", n, nonce, head, start, predecessor.revisions, None, begun=predecessor.begun)
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
    return build(run, kind, n, nonce, target.before(cut), start, revisions, parent, begun=predecessor.begun)


def begun(run: RunRef, n: int, nonce: str, reason: str, *, first: int = 0) -> Opened:
    """Return the opening of a new run; `first` is the number of its first claim."""
    record = RevisionRecord(number=1, parent=None, cut=None, created_ms=now_ms(), reason=reason)
    return build(run, "new", n, nonce, nothing(run, record), 0, (record,), None, begun=first)


def nothing(run: RunRef, record: RevisionRecord) -> View:
    """Return the view of what a new run builds on."""
    return View(
        run=run,
        revision=1,
        head=True,
        entries=(),
        plan={},
        start=0,
        next_step=0,
        newest_clock=OPENING_CLOCK,
        revisions=(record,),
        folder=RunPaths(run).root,
    )


def _fork(storage: Storage, run: RunRef, first: int, n: int, nonce: str, origin: Origin, reason: str) -> Opened:
    """Begin a run with the rows of another, or finish that."""
    view, notes, name = origin.view, list(origin.notes), str(origin.view.run)
    if origin.storage is not None:
        name = f"{origin.storage.url}/{name}"
        view = copying.copy_view(origin.storage, view, storage, RunPaths(run).term(n, nonce))
        notes.append(f"The rows of {name}@{view.revision} were copied, since they lie in another store.")
    record = RevisionRecord(
        number=1, parent=(name, view.revision), cut=view.next_step, created_ms=now_ms(), reason=reason
    )
    parent = Position(view.run, view.revision, view.next_step)
    opened = build(run, "forked", n, nonce, view, view.next_step, (record,), parent, begun=first)
    return replace(opened, notes=tuple(notes))


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
    *,
    begun: int = 0,
) -> Opened:
    """Return an opening that builds on everything in `parent_view`; nothing is written yet."""
    if not 0 <= start <= MAX_CLOCK:
        raise CorruptError(f"Run {run} is said to have come to step {start - 1:,}, where nothing can follow.")
    lineage = tuple(entry for entry in parent_view.entries if entry.sealed)  # the others have no rows
    base = Base(
        number=n,
        nonce=nonce,
        revision=revisions[-1].number,
        start=start,
        newest_clock=parent_view.newest_clock,
        lineage=lineage,
        plan=planned(parent_view.plan, lineage),
        revisions=revisions,
        recovery=recovery,
        created_ms=now_ms() if kind in ("resumed", "recovered") else revisions[-1].created_ms,
        begun=begun,
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


def new_claim(nonce: str, kind: str, reason: str) -> Claim:
    """Return a claim of this process."""
    return Claim(
        nonce=nonce,
        kind=kind,
        created_ms=now_ms(),
        host=socket.gethostname(),
        pid=os.getpid(),
        reason=reason,
    )


def now_ms() -> int:
    """Return the wall time in milliseconds."""
    return time.time_ns() // 1_000_000
