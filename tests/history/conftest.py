"""Fixtures for the tests of what a run becomes over time."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewind_logger.history import compact, live, recovery, store_clock
from rewind_logger.storage.base import Storage
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from tests.history.clocked import Clocked
from tests.history.machine import Machine


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    """End the threads that a test leaves, so that none runs into the next test."""
    yield
    for left in list(live.writers):
        if left._flusher is not None:
            left.close()


@pytest.fixture
def local(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


@pytest.fixture
def memory() -> MemoryStorage:
    return MemoryStorage(f"memory://test-{secrets.token_hex(6)}")


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest) -> Storage:
    """A store of each kind that needs no server."""
    found: Storage = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def machine(memory: MemoryStorage, tmp_path: Path) -> Machine:
    """A machine with a disk of its own, and the store `memory`."""
    return Machine(memory, tmp_path / "disk")


@pytest.fixture(autouse=True)
def nobody_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """In most tests who brings in a journal and who opens the run meanwhile are steps of one thread."""
    monkeypatch.setattr(recovery, "WAIT_S", 0.0)


@pytest.fixture
def store(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> Clocked:
    """A store with a clock of its own, which a test moves; a dry run, which does not ask it, finds the same here."""
    store_clock._answers.clear()
    clocked = Clocked(memory)
    monkeypatch.setattr(store_clock, "_here", lambda: clocked.time)
    return clocked


@pytest.fixture
def one_segment_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep each flush a segment of its own at the end of a term."""
    monkeypatch.setattr(compact, "CLOSING_PARTS", 1000)
