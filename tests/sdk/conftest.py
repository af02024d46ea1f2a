"""Fixtures for what a person types."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewind_logger.sdk import open_runs
from rewind_logger.sdk.artifacts import uploads
from rewind_logger.storage.faults import CountingStorage
from rewind_logger.storage.memory import MemoryStorage
from tests.sdk.uploading import Far


@pytest.fixture(autouse=True)
def no_run_stays_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Finish what a test leaves open, and read nothing from the environment that the tests were started in."""
    for name in ("REWIND_LOGGER_STORE", "REWIND_LOGGER_QUIET"):
        monkeypatch.delenv(name, raising=False)
    yield
    for run in list(open_runs._open.values()):
        run.finish()


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store on disk."""
    return str(tmp_path / "store")


@pytest.fixture(params=["local", "memory"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of each kind that needs no server."""
    return str(tmp_path / "store") if request.param == "local" else f"memory://test-{secrets.token_hex(6)}"


@pytest.fixture
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where journals of remote stores lie."""
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    return tmp_path / "spool"


@pytest.fixture
def far(spool: Path, monkeypatch: pytest.MonkeyPatch) -> Far:
    """A store that is not on this machine."""
    monkeypatch.setattr(uploads, "FIRST_WAIT_S", 0.01)
    return Far(CountingStorage(MemoryStorage(f"memory://{secrets.token_hex(8)}")))
