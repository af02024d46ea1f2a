"""Fixtures for tests that train."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewind_logger.sdk import open_runs
from tests.lightning import matrix


@pytest.fixture(autouse=True)
def no_run_stays_open(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Finish what a test leaves open, and read nothing from the environment that the tests were started in."""
    for name in ("REWIND_LOGGER_QUIET", "REWIND_LOGGER_RUN_ID", "REWIND_LOGGER_CALLBACK", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    yield
    open_runs._last_calls.clear()
    for run in list(open_runs._open.values()):
        run.finish()


@pytest.fixture(autouse=True)
def lightning_is_quiet() -> Iterator[None]:
    with matrix.quiet():
        for message in _SILENCED:
            warnings.filterwarnings("ignore", message=message)
        yield


_SILENCED = (
    "Be aware that when using `ckpt_path`, callbacks used to create the checkpoint need to be provided",
    "The dirpath has changed",  # what a fork is told: the folder of its checkpoints is its own
    ".*does not have many workers",
)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store on disk."""
    return str(tmp_path / "store")
