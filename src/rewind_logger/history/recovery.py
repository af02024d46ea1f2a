"""Recovery: rows that a killed writer left in its journal come into the run before anything is cut.

The rows become a term of their own, without a cut. Only the journal of the newest term is replayed: the run went on
without the others, whose rows are kept and can be forked.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from rewind_logger.format.documents import Base, Recovery
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims
from rewind_logger.history.abandoned import Abandoned, abandoned
from rewind_logger.history.journal import Batch
from rewind_logger.history.opening import build, new_claim, publish
from rewind_logger.history.term import Term
from rewind_logger.history.uploads import Uploads
from rewind_logger.history.view import View, of_base
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef


def recover(storage: Storage, run: RunRef, root: Path | None, *, opening: bool = True) -> list[str]:
    """Bring in the rows of every journal of the run whose writer is gone and that still belong to its head.

    Args:
        storage: The store.
        run: The run; it need not exist.
        root: The folder of its journals on this machine.
        opening: Whether the run is about to be opened, which ends the turn of whoever writes it now. If not (it is
            about to be forked), only the journal of its last writer is looked at: then that one is gone.

    Returns:
        Sentences for people: what was brought in, what was not and where it is kept.
    """
    notes = []
    with abandoned(root) as found:
        if not found:
            return []
        head = claims.newest_base(storage, run, claims.count(storage, RunPaths(run)))
        # That of the last writer first: what is replayed ends its term, and with it the right of its rows to be there.
        for one in sorted(found, key=lambda one: head is None or one.nonce not in _writers(head)):
            head = claims.newest_base(storage, run, claims.count(storage, RunPaths(run)))
            if head is None:
                break  # logged before the run was first opened
            if not opening and one.nonce not in _writers(head):
                continue
            note = _recover_one(storage, run, head, one)
            if note is not None:
                notes.append(note)
    return notes


def _recover_one(storage: Storage, run: RunRef, head: Base, one: Abandoned) -> str | None:
    """Bring in what a journal holds, or leave it; return what there is to say."""
    recovery, belongs = _state(one, head, of_base(storage, run, head))
    rows = _count(_missing(one.batches(recovery.start), recovery.first))
    if rows and not (belongs and _replay(storage, run, one)):
        return one.note_once(f"Rows of a writer that the run went on without are kept in {one.folder}: {rows:,}.")
    one.remove()
    return f"Rows that a killed writer had left in its journal were brought in: {rows:,}." if rows else None


def _replay(storage: Storage, run: RunRef, one: Abandoned) -> bool:
    """Open a term without a cut and flush the rows there; False if another writer came between."""
    paths = RunPaths(run)
    nonce = secrets.token_hex(8)
    n = claims.count(storage, paths)
    if not claims.take(storage, paths, new_claim(nonce, "recovered", f"rows of the journal {one.nonce}"), n):
        return False
    # Only now: the last request of a killed writer may have been on its way, and have come through meanwhile.
    head = claims.newest_base(storage, run, n)
    assert head is not None
    view = of_base(storage, run, head)
    recovery, belongs = _state(one, head, view)
    if not belongs:
        return False
    opened = build(run, "recovered", n, nonce, view, view.next_step, head.revisions, None, recovery)
    publish(storage, opened, None)
    Uploads(storage).send(one.blobs())
    term = Term(storage, opened)
    for batch in _missing(one.batches(recovery.start), recovery.first):
        term.flush({s: flush - recovery.first.get(s, 0) for s, flush in batch.flushes.items()}, batch.rows)
    return True


def _state(one: Abandoned, head: Base, view: View) -> tuple[Recovery, bool]:
    """Return from where on a journal is not in the store, and whether it belongs to the head."""
    end = view.entries[-1].sealed
    if one.nonce == head.nonce:
        return Recovery(nonce=one.nonce, first=_after(end), start=head.start), True
    earlier = head.recovery
    if earlier is not None and earlier.nonce == one.nonce:  # perhaps cut short
        first = {s: earlier.first.get(s, 0) + _after(end).get(s, 0) for s in (*earlier.first, *end)}
        return Recovery(nonce=one.nonce, first=first, start=earlier.start), True
    seals = [(entry.folder, entry.sealed) for entry in view.entries]
    seals += [(record.folder, record.sealed) for record in view.revisions if record.folder is not None]
    first = {}
    for folder, sealed in seals:
        if folder.endswith(f"-{one.nonce}"):
            first = _after(sealed)
    # One that never came to claim the run holds what was logged before its opening, such as hyperparameters. It has its
    # place if nobody opened the run since.
    belongs = one.claimed is None and not first and one.created_ms >= head.created_ms
    return Recovery(nonce=one.nonce, first=first, start=view.next_step), belongs


def _writers(head: Base) -> set[str]:
    """Return whose rows a term takes: its own, and those of the journal that it recovers."""
    return {head.nonce} | ({head.recovery.nonce} if head.recovery is not None else set())


def _after(sealed: Mapping[str, int]) -> dict[str, int]:
    return {stream: last + 1 for stream, last in sealed.items()}


def _missing(batches: Iterable[Batch], first: Mapping[str, int]) -> Iterator[Batch]:
    """Yield the batches, each without the streams whose flush is in the run."""
    for batch in batches:
        rows = {s: rows for s, rows in batch.rows.items() if batch.flushes[s] >= first.get(s, 0)}
        if rows:
            yield Batch(batch.flushes, rows)


def _count(batches: Iterable[Batch]) -> int:
    return sum(len(rows) for batch in batches for rows in batch.rows.values())
