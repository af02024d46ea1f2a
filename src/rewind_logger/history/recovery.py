"""Recovery: rows that a killed writer left in its journal come into the run before anything is cut.

The rows become a term of their own, without a cut. Only the journal of the newest term is replayed: the run went on
without the others, whose rows are kept and can be forked (`sync`).
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from rewind_logger.errors import CorruptError, FencedError
from rewind_logger.format.documents import Base, Recovery
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims
from rewind_logger.history.claims import Life
from rewind_logger.history.journals import locks
from rewind_logger.history.journals.abandoned import Abandoned, abandoned
from rewind_logger.history.journals.part import Batch
from rewind_logger.history.journals.place import OWNER
from rewind_logger.history.journals.roots import further_roots, journal_root
from rewind_logger.history.opening import OpenRequest, build, new_claim, nothing, now_ms, publish
from rewind_logger.history.rescue import sync_command
from rewind_logger.history.term import Term
from rewind_logger.history.uploads import Uploads
from rewind_logger.history.view import View, of_base
from rewind_logger.storage.base import Storage
from rewind_logger.types import OPENING_CLOCK, RevisionRecord, RunRef

WAIT_S = 60.0
"""How long an opening waits for another process that is bringing in the rows of a killed writer."""


class Recovered(NamedTuple):
    """What became of a journal."""

    state: Literal["brought in", "empty", "kept", "unsettled", "overtaken"]
    """Its rows came into the run; all of them were there; the run went on without them; or they may be there, and it is
    not known yet: somebody is opening the run; or that began after one had looked."""
    rows: int
    """How many were missing in the run."""


def recover_before(storage: Storage, run: RunRef, root: Path | None, request: OpenRequest) -> list[str]:
    """Bring in what an opening finds, of the run and of the one that it forks; the result is that of `recover`."""
    begin = request.resume != "never" and (request.at is None or request.at_own(run) is not None)
    notes = recover(storage, run, root, begin=begin)
    if request.at is not None and request.at.run != run and request.source is None:
        notes += recover(storage, request.at.run, journal_root(storage, request.at.run), opening=False)
    return notes


def recover(
    storage: Storage, run: RunRef, root: Path | None, *, opening: bool = True, begin: bool = False
) -> list[str]:
    """Bring in the rows of every journal of the run whose writer is gone and that still belong to its head.

    Args:
        storage: The store.
        run: The run; it need not exist.
        root: The folder of its journals on this machine.
        opening: Whether the run is about to be opened, which ends the turn of whoever writes it now. If not (it is
            about to be forked), only the journal of its last writer is looked at: then that one is gone.
        begin: Whether a run that was never opened, because the store was away, is begun with the rows that wait for it.

    Returns:
        Sentences for people: what was brought in, what was not and where it is kept.
    """
    notes = []
    roots = [root, *further_roots(storage, run)]
    with abandoned(*roots, wait_s=WAIT_S if opening else 0.0) as found:
        if not found:
            return []
        last = claims.now(storage, run).head
        held = {one.nonce for one in found}
        # That of the last writer first: what is replayed ends its term, and with it the right of its rows to be there.
        for one in sorted(found, key=lambda one: not is_last_writers(one, last)):
            if is_elsewhere(storage, run, one):
                continue
            while (recovered := _recover(storage, run, roots, held, one, opening, begin)).state == "overtaken":
                pass  # who opens the run takes it over from whoever came between
            note = _note(storage, one, recovered)
            if note is not None:
                notes.append(note)
    return notes


def _recover(
    storage: Storage,
    run: RunRef,
    roots: Iterable[Path | None],
    held: Collection[str],
    one: Abandoned,
    opening: bool,
    begin: bool,
) -> Recovered:
    """Bring in the rows of one journal, unless it has nothing to do with what is opened or forked."""
    life = claims.now(storage, run)
    if life.head is None:
        # What has no steps was logged before the run is first opened, and belongs to that opening.
        can_begin = begin and one.has_steps() and not claims.was_removed(storage, run, one.claimed)
        if not can_begin or was_to_be_a_fork(storage, run, life):
            return Recovered("unsettled", 0)
        if not begin_with(storage, run, life, one):
            return Recovered("overtaken", 0)
        life = claims.now(storage, run)
    if not opening and not (is_last_writers(one, life.head) and is_over(storage, run, life, one, held, roots)):
        return Recovered("unsettled", 0)
    recovered = recover_one(storage, run, life, one)
    return Recovered("unsettled", 0) if recovered.state == "overtaken" and not opening else recovered


def _note(storage: Storage, one: Abandoned, recovered: Recovered) -> str | None:
    """Say what became of a journal, if there is anything to say that was not said before."""
    if recovered.state == "brought in":
        return f"Rows that a killed writer had left in its journal were brought in: {recovered.rows:,}."
    if recovered.state == "kept":
        return one.note_once(
            f"Rows of a writer that the run went on without are kept in {one.where}: {recovered.rows:,}. To have them "
            f"as a fork: {sync_command(storage.url, as_fork=True)}"
        )
    return None


def recover_one(storage: Storage, run: RunRef, life: Life, one: Abandoned) -> Recovered:
    """Bring in the rows of one journal if they belong to the head; remove it if nothing of it is missing then.

    Whoever opens the run after one has looked keeps it: the rows come in under the very next claim, or not at all.
    """
    if life.head is None:  # it was removed
        return Recovered("unsettled", 0)
    state, rows = look(storage, run, life.head, one)
    if state == "empty" and claims.count(storage, RunPaths(run)) > life.head.number + 1:
        # Who made that claim may have looked before the last rows came, and seal the term without them.
        return Recovered("unsettled", 0)
    if state == "brought in":
        state = _replay(storage, run, life, one)
    if state in ("brought in", "empty"):
        one.remove()
    return Recovered(state, rows)


def look(storage: Storage, run: RunRef, head: Base, one: Abandoned) -> Recovered:
    """Say what `recover_one` would do; nothing changes in the store."""
    recovery, belongs = _state(one, head, of_base(storage, run, head))
    rows = count(missing(one.batches(recovery.start), recovery.first))
    return Recovered(("brought in" if belongs else "kept") if rows else "empty", rows)


def was_to_be_a_fork(storage: Storage, run: RunRef, life: Life) -> bool:
    """Say whether a run without a base was to be a fork: whoever opens it as such completes it."""
    first = claims.first_of(storage, RunPaths(run), life.first, life.existing)
    return first is not None and first.source is not None


def begin_with(storage: Storage, run: RunRef, life: Life, one: Abandoned) -> bool:
    """Begin a run that nobody has opened yet, such that what follows takes the rows of a journal.

    Returns:
        Whether it is begun, if only by somebody who opened it meanwhile; False if somebody else is just opening it.
    """
    paths = RunPaths(run)
    n = life.existing
    nonce = secrets.token_hex(8)
    if not claims.take(storage, paths, new_claim(nonce, "recovered", _reason(one)), n):
        return False
    # Only now is it certain: who had made the last claim may have put its base since, and logged.
    if claims.newest_base(storage, run, n) is not None:
        return True
    record = RevisionRecord(number=1, parent=None, cut=None, created_ms=now_ms(), reason=_reason(one))
    recovery = Recovery(nonce=one.nonce, first={}, start=0)
    opened = build(run, "new", n, nonce, nothing(run, record), 0, (record,), None, recovery, begun=life.first)
    try:
        publish(storage, opened, None)
    except FencedError:
        return False
    return True


def _replay(storage: Storage, run: RunRef, life: Life, one: Abandoned) -> Literal["brought in", "kept", "overtaken"]:
    """Open a term without a cut and flush the rows there."""
    n = life.existing
    nonce = secrets.token_hex(8)
    if not claims.take(storage, RunPaths(run), new_claim(nonce, "recovered", _reason(one)), n):
        return "overtaken"
    # Only now: the last request of a killed writer may have been on its way, and have come through meanwhile.
    head = claims.newest_base(storage, run, n)
    if head is None:  # it was removed
        return "kept"
    view = of_base(storage, run, head)
    recovery, belongs = _state(one, head, view)
    if not belongs:
        return "kept"
    opened = build(run, "recovered", n, nonce, view, view.next_step, head.revisions, None, recovery, begun=head.begun)
    try:
        publish(storage, opened, None)
        Uploads(storage).send(one.blobs())
        term = Term(storage, opened)
        for batch in missing(one.batches(recovery.start), recovery.first):
            term.flush({s: flush - recovery.first.get(s, 0) for s, flush in batch.flushes.items()}, batch.rows)
    except FencedError:
        return "overtaken"  # by somebody who goes on without the rest; or was killed before that
    return "brought in"


def _reason(one: Abandoned) -> str:
    """Return what a claim says that is made to bring in a journal, which is locked as long as that goes on."""
    return f"rows of the journal {one.nonce}"


def is_over(
    storage: Storage,
    run: RunRef,
    life: Life,
    one: Abandoned,
    held: Collection[str],
    roots: Iterable[Path | None],
) -> bool:
    """Say whether whoever claimed the run last is surely gone: a replay ends their turn.

    Args:
        storage: The store.
        run: The run.
        life: What its claims come to.
        one: The journal that is to be replayed, which we have locked, …
        held: … with those of these nonces.
        roots: The folders of its journals.
    """
    if not life.disputed and is_last_writers(one, life.head):
        return True  # it is this very journal
    try:
        claim = claims.read(storage, RunPaths(run), life.existing - 1)
    except CorruptError:
        return False
    if claim is None:
        return False
    if (claim.kind, claim.reason) == ("recovered", _reason(one)):
        return True  # who made it had this very journal locked, as we have now
    if claim.host != socket.gethostname() or _is_alive(claim.pid):
        return False
    owners = (locks.look(root / claim.nonce / OWNER) for root in roots if root is not None)
    return claim.nonce in held or all(owner is None or not owner[0] for owner in owners)


def _is_alive(pid: int) -> bool:
    """Say whether there is a process of that number, or may be."""
    if sys.platform == "win32":
        return True  # where a signal of number 0 is no question
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # somebody else's, or a system that does not tell
    return True


def _state(one: Abandoned, head: Base, view: View) -> tuple[Recovery, bool]:
    """Return from where on a journal is not in the store, and whether it belongs to the head."""
    end = view.entries[-1].sealed
    if one.nonce == head.nonce:
        return Recovery(nonce=one.nonce, first=after(end), start=head.start), True
    earlier = head.recovery
    if earlier is not None and earlier.nonce == one.nonce:  # perhaps cut short
        first = {s: earlier.first.get(s, 0) + after(end).get(s, 0) for s in (*earlier.first, *end)}
        return Recovery(nonce=one.nonce, first=first, start=earlier.start), True
    seals = [(entry.folder, entry.sealed) for entry in view.entries]
    seals += [(record.folder, record.sealed) for record in view.revisions if record.folder is not None]
    first = {}
    for folder, sealed in seals:
        if folder.endswith(f"-{one.nonce}"):
            first = after(sealed)
    return Recovery(nonce=one.nonce, first=first, start=view.next_step), not first and _follows(one, head, view)


def _follows(one: Abandoned, head: Base, view: View) -> bool:
    """Say whether a journal whose writer never came to open the run has its place at the end of it.

    It holds what was logged before the opening, such as hyperparameters; or everything, where the store was away. It
    has its place if nobody opened the run since, and if its steps follow those of the run: else it was to be rewound.
    """
    since = one.created_ms >= head.created_ms if one.claimed is None else one.claimed > head.number
    return since and all(
        batch.unopened or not 0 <= row.clock < view.next_step
        for batch in one.batches(OPENING_CLOCK)
        for rows in batch.rows.values()
        for row in rows
    )


def is_elsewhere(storage: Storage, run: RunRef, one: Abandoned) -> bool:
    """Say whether a journal is of a store at another endpoint under the same URL: its claim is not to be found here."""
    if one.claimed is None or None in (one.endpoint, storage.endpoint) or one.endpoint == storage.endpoint:
        return False
    try:
        claim = claims.read(storage, RunPaths(run), one.claimed)
    except CorruptError:
        return False
    return claim is None or claim.nonce != one.nonce


def is_last_writers(one: Abandoned, head: Base | None) -> bool:
    """Say whether a journal is that of the head's writer, or of whom the head recovers."""
    return head is not None and one.nonce in (head.nonce, head.recovery and head.recovery.nonce)


def after(sealed: Mapping[str, int]) -> dict[str, int]:
    """Return per stream the first flush beyond a seal."""
    return {stream: last + 1 for stream, last in sealed.items()}


def missing(batches: Iterable[Batch], first: Mapping[str, int]) -> Iterator[Batch]:
    """Yield the batches, each without the streams whose flush is in the run."""
    for batch in batches:
        rows = {s: rows for s, rows in batch.rows.items() if batch.flushes[s] >= first.get(s, 0)}
        if rows:
            yield Batch(batch.flushes, rows)


def count(batches: Iterable[Batch]) -> int:
    """Return the number of rows."""
    return sum(len(rows) for batch in batches for rows in batch.rows.values())
