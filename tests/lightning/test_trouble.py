"""Training waits for no store that is away, and loses nothing for it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer

from rewind_logger import RewindLogger, open_store
from rewind_logger.errors import CorruptError, TransientStorageError
from rewind_logger.lightning import fit as fit_module
from rewind_logger.lightning import logger as logger_module
from rewind_logger.storage import open_storage
from rewind_logger.storage.faults import Fault, FaultyStorage, Request
from tests.disks import Disk, disk
from tests.lightning.small import Model, checkpoint, column, every, exact, fit, logger, trainer


class Away(Callback):
    """A store that is away until, or from, the start of a step."""

    def __init__(self, *, until: int | None = None, since: int | None = None) -> None:
        self.until, self.since = until, since
        self.away = since is None

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        step = trainer.global_step
        self.away = (self.until is not None and step < self.until) or (self.since is not None and step >= self.since)

    def of(self, mine: RewindLogger, store: str) -> RewindLogger:
        """Let a logger have this store."""
        mine._storage = FaultyStorage(open_storage(store), self._plan)
        return mine

    def _plan(self, request: Request) -> Fault | None:
        return Fault("before", TransientStorageError("The network is down.")) if self.away else None


@pytest.fixture(autouse=True)
def no_checkpoint_waits_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_module, "CHECKPOINT_WAIT_S", 0.02)


def test_away_at_the_start(store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    away = Away(until=3)
    fit(away.of(logger(store), store), tmp_path, away, every(5), steps=8)
    assert "Run p/a could not be opened: The network is down. Training goes on" in caplog.text
    assert column(store, "p/a") == exact(8), "it was opened at the first checkpoint"
    assert caplog.text.count("Run p/a was opened after ") == 1
    assert [one.next_step for one in open_store(store).run("p/a").checkpoints] == [5]


def test_away_at_the_start_and_no_checkpoint(store: str, tmp_path: Path) -> None:
    away = Away(until=3)
    fit(away.of(logger(store), store), tmp_path, away, steps=8)
    assert column(store, "p/a") == exact(8), "it was opened at the end"


def test_away_at_the_start_of_a_resume(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    away = Away(until=6)
    mine = away.of(logger(store), store)
    mine.log_hyperparams({"lr": 0.5})
    fit(mine, tmp_path, away, every(4), steps=10, ckpt_path=checkpoint(store, "p/a", 5))
    assert column(store, "p/a") == exact(10)
    assert [one.cut for one in open_store(store).run("p/a").revisions] == [None, 5]
    assert open_store(store).run("p/a").config == {"lr": 0.5}


def test_away_in_the_middle(
    store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger_module, "FINISH_TIMEOUT_S", 0.02)
    away = Away(since=3)
    mine = away.of(logger(store), store)
    made = fit(mine, tmp_path, away, every(5), steps=8)
    assert made.global_step == 8
    assert "A checkpoint is saved before its history is in the store" in caplog.text
    assert f"What is not in the store is kept in {store}/p/a/j/" in caplog.text
    assert max(column(store, "p/a"), default=-1) < 3
    away.away = False
    assert mine.experiment.flush(60)
    assert column(store, "p/a") == exact(8)
    assert [one.next_step for one in open_store(store).run("p/a").checkpoints] == [5]


def test_an_outage_is_told_of_once_however_many_checkpoints_are_saved_meanwhile(
    store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger_module, "FINISH_TIMEOUT_S", 60.0)
    away = Away(since=2)
    until = Away(until=20)
    away._plan = lambda request: until._plan(request) if away.away else None  # type: ignore[method-assign]
    mine = away.of(logger(store), store)
    fit(mine, tmp_path, away, until, every(3), steps=24)
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "A checkpoint is saved before its history" in text]) == 1
    assert len([text for text in said if "goes on in its journal" in text]) == 1
    assert len([text for text in said if "in its store again after" in text]) == 1
    assert column(store, "p/a") == exact(24)


def test_away_for_the_whole_of_a_fit(store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    away = Away(until=100)
    mine = away.of(logger(store), store)
    assert fit(mine, tmp_path, away, every(5), steps=8).global_step == 8
    assert caplog.text.count("could still not be opened") <= 2, "once a fit"
    assert "could still not be opened" in caplog.text
    fit(mine, tmp_path, away, steps=3)
    away.away = False
    fit(mine, tmp_path, steps=2)
    assert list(column(store, "p/a").values()) == [*range(8), 0, 1, 2, 0, 1], "the next fit brings its rows in"


def test_away_for_an_evaluation(store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    away = Away(until=0)
    away.away = True
    found = trainer(tmp_path, away.of(logger(store), store)).test(Model(), verbose=False)
    assert found == [{"test_epoch": 0.5}]
    assert "rows of test were not kept, since the store was away" in caplog.text


class Fills(Callback):
    """Fills a disk for some steps."""

    def __init__(self, disk: Disk, first: int, last: int) -> None:
        self.disk, self.first, self.last = disk, first, last
        self.filled = contextlib.ExitStack()

    def fill(self) -> None:
        self.filled.enter_context(self.disk.full())

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.first:
            self.fill()
        elif trainer.global_step == self.last:
            self.filled.close()


@pytest.mark.parametrize("first", [0, 3])
def test_the_disk_of_the_store_is_full_for_a_while(
    first: int, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the start on, so that the run cannot be opened; or in the midst of it."""
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    with disk(tmp_path / "small") as small:
        store = str(small.path / "store")
        fills = Fills(small, first or -1, 8)
        if not first:
            fills.fill()
        fit(logger(store), tmp_path, fills, steps=16)
        assert ("could not be opened" in caplog.text) == (not first)
        assert column(store, "p/a") == exact(16)
        assert open_store(store).run("p/a").state == "finished"


@pytest.mark.parametrize("error", [CorruptError("It is damaged."), OSError(5, "Input/output error")])
def test_an_error_that_nobody_expects_of_a_store_ends_no_training(
    error: Exception, store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logger_module, "FINISH_TIMEOUT_S", 0.02)
    away = Away(since=3)
    mine = away.of(logger(store), store)
    mine._storage = FaultyStorage(open_storage(store), lambda _: Fault("before", error) if away.away else None)
    assert fit(mine, tmp_path, away, every(5), steps=8).global_step == 8
    assert str(error) in caplog.text
    away.away = False
    assert mine.experiment.flush(60)
    assert column(store, "p/a") == exact(8)
