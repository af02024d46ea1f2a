"""What waits in journals, and what a sync makes of it."""

from __future__ import annotations

from rewind_logger.history.sync import Synced
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.history.lines import RUN, log, opened
from tests.history.machine import Machine, die


def only(found: list[Synced]) -> Synced:
    assert len(found) == 1, found
    return found[0]


def logged(storage: Storage, stored: range, kept: range) -> Writer:
    """Open the run and log rows of which the last are in the journal only."""
    writer = opened(storage)
    log(writer, stored)
    writer.flush()
    log(writer, kept)
    return writer


def logged_early(machine: Machine, name: str) -> Writer:
    writer = Writer(machine, RunRef("p", name), background=False)
    log(writer, [0])
    return writer


def superseded(machine: Machine, memory: MemoryStorage) -> tuple[Writer, str]:
    """Leave three rows in the journal of a writer without whom another machine goes on; return that and the journal."""
    first = logged(machine, range(3), range(3, 6))
    other = opened(memory)
    log(other, range(3, 5), turn=2)
    other.flush()
    die(first)
    assert first._outbox is not None
    return other, first._outbox.nonce


def claims_of(storage: Storage, run: RunRef = RUN) -> int:
    return len(storage.list(f"{run}/m"))
