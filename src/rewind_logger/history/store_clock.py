"""The clock of a store: what it says of when objects were written, which machines need not agree with."""

from __future__ import annotations

import secrets
import time

from rewind_logger.errors import StorageError
from rewind_logger.format import names
from rewind_logger.storage.base import Storage

_here = time.time

ASKED_AGAIN_S = 600.0
"""How long an answer is good for."""

_answers: dict[str, tuple[float, float]] = {}
"""By the place of a store what it said, and when by the wall time of this machine. Read and set in one step each: a
lock around that would be held for ever in a child that is forked in the midst of it."""


def now(storage: Storage) -> float:
    """Ask a store what time it is, by an object that is put, looked at and deleted: three requests.

    Returns:
        Seconds since 1970-01-01 UTC.

    Raises:
        StorageError: If it cannot tell when its objects were written, or fails.
    """
    path = names.probe(secrets.token_hex(8))
    storage.put(path, b"now")
    try:
        modified = storage.info(path).modified
    finally:
        storage.delete(path)
    if modified is None:
        raise StorageError(f"{storage.url} does not say when its objects were written, so none can be told to be old.")
    return modified


def now_unless(storage: Storage, dry_run: bool) -> tuple[float, list[str]]:
    """Return what time it is, and sentences for people about that: in a dry run, which writes nothing, by this machine.

    Raises:
        StorageError: As `now` does.
    """
    return (_here(), [_BY_THIS_MACHINE]) if dry_run else (now(storage), [])


_BY_THIS_MACHINE = (
    "What is old enough is told by the clock of this machine, for a dry run writes nothing, and the store would have to"
    " be asked by an object."
)


def about_now(storage: Storage) -> float:
    """Return the same, to a second or two; the store is asked once in ten minutes."""
    asked = _answers.get(storage.place)
    here = time.time()
    # The wall time, for it goes on while a machine sleeps; one that was set back asks anew.
    if asked is None or not 0 <= here - asked[1] < ASKED_AGAIN_S:
        asked = now(storage), here
        _answers[storage.place] = asked
    return asked[0] + here - asked[1]
