"""The forks of a run: which runs began from it, and where."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

from rewind_logger.errors import CorruptError
from rewind_logger.format import names
from rewind_logger.format.documents import decode_pin
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims
from rewind_logger.history.damage import report
from rewind_logger.storage.base import Storage
from rewind_logger.types import Position, RunRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A run that was forked from another, in the same store."""

    run: str
    """`project/id` of the fork."""
    revision: int
    """The revision of its parent that it was forked from."""
    step: int
    """The last step of the parent that it kept (inclusive); −1: none."""
    created: datetime
    """In UTC."""
    reason: str
    """What was asked for."""


def forks(storage: Storage, position: Position) -> list[Fork]:
    """Return the runs that were forked from a run, oldest first; of those in other stores it knows nothing.

    Costs a listing, and two requests a fork.

    Args:
        storage: The store.
        position: The run; or a revision, of which only the forks are returned; or a position, likewise of those that
            began up to there.
    """
    paths = RunPaths(position.run)
    pins = [info.name for info in storage.list(paths.pins) if info.name.endswith(".json")]
    found = []
    for name, data in zip(pins, storage.read_each([f"{paths.pins}/{name}" for name in pins]), strict=True):
        if isinstance(data, FileNotFoundError):
            continue
        if isinstance(data, Exception):
            raise data
        try:
            child = decode_pin(data, f"{paths.pins}/{name}")
            fork = _fork(storage, position.run, name.removesuffix(".json"), child)
        except CorruptError as error:
            report(f"{error} Until then the fork is left out.")
            continue
        if fork is None or position.revision not in (None, fork.revision):
            continue
        if position.next_step is None or fork.step < position.next_step:
            found.append(fork)
    return sorted(found, key=lambda fork: (fork.created, fork.run))


def _fork(storage: Storage, parent: RunRef, nonce: str, child: str) -> Fork | None:
    """Return what the first claim of a fork says; None if the fork was never made, or is gone."""
    claim = claims.first(storage, RunRef.split(names.absolute(child, parent)))
    source = None if claim is None else claim.source
    if claim is None or source is None or claim.nonce != nonce or source.run != str(parent):
        return None
    return Fork(
        run=child,
        revision=source.revision,
        step=source.cut - 1,
        created=datetime.fromtimestamp(claim.created_ms / 1000, timezone.utc),
        reason=claim.reason,
    )
