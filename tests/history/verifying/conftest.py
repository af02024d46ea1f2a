"""Fixtures for the tests of `verify`."""

from __future__ import annotations

import pytest

from rewind_logger.history import compact, view
from rewind_logger.storage.memory import MemoryStorage
from tests.history.verifying.verified import fill


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make everything happen after a few rows that else takes thousands."""
    monkeypatch.setattr(compact, "CLOSING_PARTS", 4)
    monkeypatch.setattr(view, "LONG_LINEAGE", 3)


@pytest.fixture
def filled(memory: MemoryStorage) -> MemoryStorage:
    fill(memory)
    return memory
