"""Recovery: rows that a killed writer left in its journal come into the run before anything is cut.

The rows become a term of their own, without a cut. Only the journal of the newest term is replayed: the run went on
without the others, whose rows are kept and can be forked.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from rewind_logger.format.documents import Base, Recovery
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims, journal
from rewind_logger.history.journal import Abandoned, Batch
from rewind_logger.history.opening import build, new_claim, publish
from rewind_logger.history.term import Term
from rewind_logger.history.view import View, of_base
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef

LOG = logging.getLogger("rewind_logger")


def recover(storage: Storage, run: RunRef, root: Path | None) -> list[str]:
    """Bring in the rows of every journal of the run whose writer is gone and that still belong to its head.

    Args:
        storage: The store.
        run: The run; it need not exist.
        root: The folder of its journals on this machine.

    Returns:
        Sentences for people: what was brought in, what was not and where it is kept.
    """
    notes = []
    with journal.abandoned(root) as found:
        for one in found:
            head = claims.newest_base(storage, run, claims.count(storage, RunPaths(run)))
            if head is None:
                break  # logged before the run was first opened; the run's next opening finds them again
            first, belongs = _first_missing(one, head, of_base(storage, run, head))
            batches = _missing(one.batches(head.start), first)
            if batches and not (belongs and _replay(storage, run, head, one, first)):
                notes.append(f"Rows of a writer that the run went on without are kept in {one.folder}.")
                continue
            if batches:
                rows = sum(len(rows) for batch in batches for rows in batch.rows.values())
                notes.append(f"{rows} rows that a killed writer had left in its journal were brought in.")
            journal.remove(one.folder)
    return notes


def _first_missing(one: Abandoned, head: Base, view: View) -> tuple[dict[str, int], bool]:
    """Return per stream the first flush of a journal that is not in the store, and whether it belongs to the head."""
    end = view.entries[-1].sealed
    if one.nonce == head.nonce:
        return _after(end), True
    if head.recovery is not None and head.recovery.nonce == one.nonce:  # an earlier recovery, perhaps cut short
        first = dict(head.recovery.first)
        for stream, following in _after(end).items():
            first[stream] = first.get(stream, 0) + following
        return first, True
    sealed = [(entry.folder, entry.sealed) for entry in view.entries]
    sealed += [(record.folder, record.sealed) for record in view.revisions if record.folder is not None]
    for folder, seal in sealed:
        if folder.endswith(f"-{one.nonce}"):
            return _after(seal), False
    return {}, one.claimed is None


def _after(seal: Mapping[str, int]) -> dict[str, int]:
    return {stream: last + 1 for stream, last in seal.items()}


def _missing(batches: Iterable[Batch], first: Mapping[str, int]) -> list[Batch]:
    """Return the batches, each without the streams whose flush is in the run."""
    missing = []
    for batch in batches:
        rows = {s: rows for s, rows in batch.rows.items() if batch.flushes[s] >= first.get(s, 0)}
        if rows:
            missing.append(Batch(batch.flushes, rows))
    return missing


def _replay(storage: Storage, run: RunRef, head: Base, one: Abandoned, first: Mapping[str, int]) -> bool:
    """Open a term without a cut and flush the rows there; False if another writer came between."""
    nonce = secrets.token_hex(8)
    claim = new_claim(nonce, "recovered", f"rows of the journal {one.nonce}")
    n = claims.fence(storage, RunPaths(run), claim, head.number + 1)
    predecessor = claims.newest_base(storage, run, n)
    if predecessor is None or predecessor.nonce != head.nonce:
        return False
    view = of_base(storage, run, predecessor)
    recovery = Recovery(nonce=one.nonce, first=dict(first))
    opened = build(run, "recovered", n, nonce, view, view.next_step, predecessor.revisions, None, recovery)
    publish(storage, opened, None)
    term = Term(storage, opened)
    for batch in _missing(one.batches(view.next_step), first):
        term.flush({s: flush - first.get(s, 0) for s, flush in batch.flushes.items()}, batch.rows)
    return True
