"""Training waits for no store that is away, and loses nothing for it."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from lightning.pytorch import Callback, Trainer

from rewind_logger import RewindLogger, Text, init, open_store
from rewind_logger.errors import ConfigError, CorruptError, TransientStorageError
from rewind_logger.history import evaluation
from rewind_logger.history.verify import verify
from rewind_logger.lightning import entry
from rewind_logger.lightning import evaluation as lightning_evaluation
from rewind_logger.lightning import fit as fit_module
from rewind_logger.lightning import logger as logger_module
from rewind_logger.sdk import run as run_module
from rewind_logger.storage import open_storage
from rewind_logger.storage.faults import Fault, FaultyStorage, Request
from tests.disks import Disk, disk
from tests.lightning import processes
from tests.lightning.small import DiesAt, Model, checkpoint, column, every, exact, fit, logger, trainer


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


@pytest.fixture
def a_checkpoint_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a store that is back."""
    monkeypatch.setattr(fit_module, "CHECKPOINT_WAIT_S", 60.0)


@pytest.mark.usefixtures("a_checkpoint_waits")
def test_away_at_the_start(store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    away = Away(until=3)
    fit(away.of(logger(store), store), tmp_path, away, every(5), steps=8)
    assert "Run p/a goes on in its journal: The network is down." in caplog.text
    assert column(store, "p/a") == exact(8), "it was opened at the first checkpoint"
    assert caplog.text.count("Run p/a is in its store again after ") == 1
    assert [one.next_step for one in open_store(store).run("p/a").checkpoints] == [5]


def verified(store: str) -> bool:
    return verify(open_storage(store)).ok


@pytest.mark.usefixtures("a_checkpoint_waits")
def test_away_at_the_start_of_a_fit_that_begins_anew_in_a_run_that_exists(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows, checkpoints and what is said are those of a fit whose store was there."""
    said = []
    for url, until in ((f"{store}-there", 0), (store, 3)):
        fit(logger(url), tmp_path, every(5), steps=8)
        capsys.readouterr()
        away = Away(until=until)
        away.away = until > 0
        fit(away.of(logger(url), url), tmp_path, away, every(5), steps=8)
        said.append(capsys.readouterr().err.replace(url, "store"))
        assert list(column(url, "p/a")) == list(range(16))
        assert [one.next_step for one in open_store(url).run("p/a").checkpoints] == [5, 13]
        with init(dir=url, resume_from="p/a?_step=3", console=False, system_metrics=False):
            pass
        assert column(url, "p/a") == exact(4)
        assert verified(url)
    lines = [[line for line in text.splitlines() if line.startswith("rewind-logger")] for text in said]
    assert sorted(lines[0]) == sorted(lines[1])
    assert any("training begins anew in run p/a, which has 8 steps" in line for line in lines[1])


def goes_on_from(store: str, folder: Path, path: str | Path, steps: int, version: str | None = "a") -> None:
    """Resume from a checkpoint that was saved while the store was away, in a run that had eight steps then."""
    fit(logger(store, version), folder, steps=steps, ckpt_path=path)
    seen = column(store, "p/a")
    assert list(seen) == list(range(8 + steps))
    assert list(seen.values()) == [*range(8), *range(steps)], "as if it had never stopped"
    assert verified(store)


def test_a_checkpoint_that_was_saved_while_the_store_was_away_is_resumed_exactly(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, steps=8)
    away = Away(until=5)
    saver = every(2, dirpath=tmp_path / "saved")
    fit(away.of(logger(store), store), tmp_path, away, saver, steps=8)
    assert list(column(store, "p/a")) == list(range(16))
    path = tmp_path / "saved" / "step=2.ckpt"
    goes_on_from(store, tmp_path, path, steps=6)
    assert [one.cut for one in open_store(store).run("p/a").revisions] == [None, 10]
    with init(dir=store, resume_from=path, console=False, system_metrics=False) as run:
        assert run.starting_step == 10
    found = trainer(tmp_path, logger(store)).test(Model(), ckpt_path=path, verbose=False)
    assert found
    assert [one.next_step for one in open_store(store).run("p/a").evaluations] == [10]
    goes_on_from(store, tmp_path, path, steps=4, version=None)


@contextlib.contextmanager
def nobody_waits() -> Iterator[None]:
    """For a store that does not come back."""
    with (
        mock.patch.object(logger_module, "FINISH_TIMEOUT_S", 0.02),
        mock.patch.object(run_module, "FINISH_TIMEOUT_S", 0.02),
    ):
        yield


@pytest.mark.parametrize("lost", [False, True])
def test_a_checkpoint_whose_run_was_never_opened_is_resumed_exactly_or_refused(
    lost: bool, store: str, tmp_path: Path
) -> None:
    """Its rows are still in the journal of the process that saved it; or lost with its machine."""
    fit(logger(store), tmp_path, steps=8)
    away = Away(until=100)
    mine = away.of(logger(store), store)
    with nobody_waits():
        fit(mine, tmp_path, away, every(5, dirpath=tmp_path / "saved"), steps=8)
        mine.experiment.finish()
    path = tmp_path / "saved" / "step=5.ckpt"
    away.away = True
    with pytest.raises(TransientStorageError, match=r"The network is down\. .*it has to answer"):
        fit(away.of(logger(store), store), tmp_path, steps=10, ckpt_path=path)
    if not lost:
        goes_on_from(store, tmp_path, path, steps=10)
        return
    shutil.rmtree(Path(store, "p", "a", "j"))
    with pytest.raises(ConfigError, match=r"step=5.ckpt was saved while .* was away, .*rewind_logger.sync"):
        fit(logger(store), tmp_path, steps=10, ckpt_path=path)
    with pytest.raises(ConfigError, match="was saved while"):
        init(dir=store, resume_from=path)
    assert column(store, "p/a") == exact(8)
    fit(logger(store, None, resume_from="p/a?_step=7"), tmp_path, steps=10, ckpt_path=path)
    assert len(column(store, "p/a")) == 13, "where it stands can be said"


def test_a_checkpoint_that_was_saved_in_a_resume_before_its_run_was_opened(store: str, tmp_path: Path) -> None:
    """It stands in the revision that was opened later, and not in the one that was the head when it was saved."""
    fit(logger(store), tmp_path, every(5), steps=8)
    away = Away(until=8)
    saver = every(2, dirpath=tmp_path / "saved")
    fit(away.of(logger(store), store), tmp_path, away, saver, steps=10, ckpt_path=checkpoint(store, "p/a", 5))
    fit(logger(store), tmp_path, every(3), steps=7)
    assert [one.cut for one in open_store(store).run("p/a").revisions] == [None, 5]
    fit(logger(store), tmp_path, steps=9, ckpt_path=tmp_path / "saved" / "step=6.ckpt")
    assert column(store, "p/a") == exact(9)
    assert [(one.number, one.cut) for one in open_store(store).run("p/a").revisions] == [(1, None), (2, 5), (3, 6)]
    assert verified(store)


def test_what_only_the_store_can_tell_is_refused_while_it_is_away(store: str, tmp_path: Path) -> None:
    """Rows of a fit that goes back would be no one knows where."""
    fit(logger(store), tmp_path, every(5), steps=8)
    away = Away(until=100)
    for asked in ({"resume_from": "p/a?_step=3"}, {"version": "b", "fork_from": "p/a?_step=3"}):
        away.away = True
        with pytest.raises(TransientStorageError, match="it has to answer"):
            fit(away.of(logger(store, **{"version": "a", **asked}), store), tmp_path, away, steps=8)
    mine = away.of(logger(store), store)
    with nobody_waits():
        fit(mine, tmp_path, away, steps=4)
    with nobody_waits(), pytest.raises(TransientStorageError, match="it has to answer"):
        fit(mine, tmp_path, away, steps=8, ckpt_path=checkpoint(store, "p/a", 5))
    away.away = False
    fit(mine, tmp_path, steps=8, ckpt_path=checkpoint(store, "p/a", 5))
    assert column(store, "p/a") == exact(8)
    assert len(open_store(store).run("p/a@1").history()) == 12, "what was logged meanwhile was archived with it"
    fit(mine, tmp_path, Away(since=0), steps=2)
    assert len(column(store, "p/a")) == 10
    assert verified(store)


@pytest.mark.filterwarnings("ignore:Step 0 was logged")
def test_rows_without_a_trainer_go_on_where_the_run_ends(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they would have if the store had been there: steps that lie before are kept beside them."""
    monkeypatch.setattr(entry, "_made", "fabric")
    for until in (0, 3):
        url = f"{store}-{until}"
        for turn in range(2):
            away = Away()
            away.away = bool(until and turn)
            mine = away.of(logger(url), url)
            for step in range(8):
                away.away = away.away and step < until
                mine.log_metrics({"seen": float(step)}, step=step)
            mine.finalize("success")
            mine.experiment.finish()
        table = open_store(url).run("p/a").history("seen").to_arrow().to_pylist()
        assert [row["seen"] for row in table] == 2 * list(map(float, range(8)))
        clocks = [row["_step"] for row in table]
        assert clocks == sorted(clocks) and clocks[:8] == list(range(8)) and min(clocks[8:]) >= 8
        assert verified(url)


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


def test_away_at_the_start_of_a_resume_of_two_loggers_at_different_steps(store: str, tmp_path: Path) -> None:
    """Each counts from its own place."""
    fit(logger(store, "b"), tmp_path, steps=8)
    path = tmp_path / "both.ckpt"
    fit([logger(store), logger(store, "b")], tmp_path, steps=5).save_checkpoint(path)
    away = Away(until=8)
    fit([logger(store), away.of(logger(store, "b"), store)], tmp_path, away, steps=10, ckpt_path=path)
    assert column(store, "p/a") == exact(10)
    assert list(column(store, "p/b")) == list(range(18))
    assert list(column(store, "p/b").values())[8:] == list(range(10))


@pytest.mark.parametrize("until", [3, 100])
def test_a_checkpoint_that_is_saved_when_a_run_is_finished_whose_store_was_away(
    until: int, store: str, tmp_path: Path
) -> None:
    """At the start, or to the end: then its rows wait in the journal of the run."""
    fit(logger(store), tmp_path, steps=8)
    away = Away(until=until)
    mine = away.of(logger(store), store)
    with nobody_waits() if until == 100 else contextlib.nullcontext():
        made = fit(mine, tmp_path, away, steps=8)
        mine.experiment.finish()
    made.save_checkpoint(tmp_path / "final.ckpt")
    goes_on_from(store, tmp_path, tmp_path / "final.ckpt", steps=10)


def test_a_run_whose_store_was_away_at_the_start_may_be_finished_within_the_fit(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, steps=8)
    away = Away(until=3)
    fit(away.of(logger(store), store), tmp_path, away, Finishes(6), every(4), steps=12, log_every_n_steps=4)
    assert list(column(store, "p/a").items())[8:] == [(11, 3), (15, 7), (19, 11)]


class Finishes(Callback):
    """Finishes the run after a step of which nothing is logged."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            assert isinstance(trainer.logger, RewindLogger)
            trainer.logger.experiment.finish()


def trains_without_its_store(store: str, folder: Path) -> None:
    away = Away(until=100)
    with mock.patch.object(fit_module, "CHECKPOINT_WAIT_S", 0.02):
        mine = away.of(logger(store), store)
        fit(mine, folder, away, every(5, dirpath=folder / "saved"), DiesAt(7, "SIGKILL"), steps=8)


def test_an_evaluation_of_a_checkpoint_whose_run_was_never_opened_takes_the_run_from_nobody(
    store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A fit would bring in the rows that wait in the journal of the process that saved it."""
    with init(dir=store, project="p", id="a", console=False, system_metrics=False) as run:
        run.log({"x": 1})
        run.flush()
        assert processes.run(tmp_path, trains_without_its_store, store, tmp_path).code == -signal.SIGKILL
        path = tmp_path / "saved" / "step=5.ckpt"
        trainer(tmp_path, logger(store)).test(Model(), ckpt_path=path, verbose=False)
        run.log({"x": 2})
        assert run.flush(), "it still owns the run"
    assert "Where the evaluated checkpoint stands is not known" in caplog.text
    assert column(store, "p/a", "x") == {0: 1, 1: 2}
    assert len(open_store(store).run("p/a").evaluations) == 1


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
    with nobody_waits():
        assert fit(mine, tmp_path, away, every(5), steps=8).global_step == 8
    assert caplog.text.count("Run p/a goes on in its journal") == 1
    with nobody_waits():
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


class LogsText(Model):
    def test_step(self, batch: Any, batch_idx: int) -> None:
        assert isinstance(self.logger, RewindLogger)
        self.logger.experiment.log({"seen": batch_idx, "said": Text("hello")})


def test_a_row_of_an_evaluation_is_kept_whole_while_the_store_takes_nothing(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its numbers and its media are two rows: where the first does not come into the store, the other waits too."""
    fit(logger(store), tmp_path, steps=3)
    monkeypatch.setattr(evaluation, "FLUSH_AGE_S", 0.0)
    failures = iter(range(1))

    def plan(request: Request) -> Fault | None:
        fails = "/v/" in request.path and request.verb == "put" and next(failures, None) is not None
        return Fault("before", TransientStorageError("The network is down.")) if fails else None

    mine = logger(store)
    mine._storage = FaultyStorage(open_storage(store), plan)
    trainer(tmp_path, mine).test(LogsText(), verbose=False)
    (one,) = open_store(store).run("p/a").evaluations
    assert one.history().to_arrow()["seen"].to_pylist() == [0, 1]
    assert len(one.media("said")) == 2


@pytest.mark.parametrize("most", [4, 1])
def test_what_waits_for_an_evaluation_to_be_begun_is_bounded(
    most: int, store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(logger(store), tmp_path, steps=3)
    monkeypatch.setattr(lightning_evaluation, "MOST_WAITING", most)
    away = Away(until=0)
    away.away = True
    trainer(tmp_path, away.of(logger(store), store)).test(LogsText(), verbose=False)
    assert "2 rows of test were not kept, since the store was away" in caplog.text


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
        assert ("goes on in its journal" in caplog.text) == (not first)
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
