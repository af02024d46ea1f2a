"""What Lightning expects of any logger, after its own tests of loggers."""

from __future__ import annotations

import copy
import pickle
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from rewind_logger import ConfigError, RewindLogger, init, open_store
from tests.lightning import processes
from tests.lightning.small import Model, checkpoint, column, every, exact, fit, logger, trainer


def test_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    plain = RewindLogger()
    assert (plain.save_dir, plain.name) == ("rewind_logs", "default")
    assert plain.version == plain.version != RewindLogger().version
    numbered = RewindLogger(tmp_path, name="team/digits", version=3)
    assert numbered.log_dir == str(tmp_path / "team/digits/version_3")
    for name in ("..", "a@b", "", "a/b/c"):
        with pytest.raises(ConfigError):
            RewindLogger(name=name)
    with pytest.raises(ConfigError):
        RewindLogger(version="../elsewhere")


def test_a_stable_id_is_taken_from_where_the_job_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWIND_LOGGER_RUN_ID", "mine")
    first, second = RewindLogger(), RewindLogger()
    assert (first.version, second.version) == ("mine", "mine-2")
    monkeypatch.delenv("REWIND_LOGGER_RUN_ID")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert RewindLogger().version == "slurm-4711"
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")
    assert not RewindLogger().version.startswith("slurm")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "job7")
    assert RewindLogger().version == "elastic-job7"


@pytest.mark.parametrize("name", ["checkpoints", "t", "a ", "exp:1", "../../../elsewhere", "x" * 300])
def test_an_id_in_the_environment_that_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, store: str, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv("REWIND_LOGGER_RUN_ID", name)
    with pytest.raises(ConfigError, match="The environment variable REWIND_LOGGER_RUN_ID is no run id"):
        fit(logger(store, None), tmp_path, steps=1)
    assert list(tmp_path.rglob("*.part")) == [] and not Path(store).exists()


def test_the_id_of_a_job_becomes_one_that_a_run_can_have(
    monkeypatch: pytest.MonkeyPatch, store: str, tmp_path: Path
) -> None:
    found = []
    for name in ("exp:1", "exp:1", "exp/1", "job@host:29500", "ä" * 300):
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", name)
        monkeypatch.setattr("rewind_logger.lightning.identity._taken", Counter())  # a process of its own
        mine = logger(store, None)
        fit(mine, tmp_path, steps=1)
        found.append(mine.version)
    assert found[0] == found[1] and len(set(found)) == 4
    assert found[0].startswith("elastic-exp-1-")
    assert {run.id for run in open_store(store).runs()} == set(found)


def test_nothing_is_written_before_a_fit(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    _ = (mine.experiment, mine.version, mine.name, mine.save_dir, mine.log_dir)
    mine.log_hyperparams({"lr": 0.1})
    mine.log_graph(Model())
    mine.save()
    trainer(tmp_path, mine)
    mine.finalize("success")
    assert not Path(store).exists()
    Trainer(fast_dev_run=True, logger=mine, accelerator="cpu", enable_progress_bar=False).fit(Model())
    assert not Path(store).exists()


def test_the_rows_of_a_fit_and_a_test(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    made = trainer(tmp_path, mine, max_epochs=1, limit_train_batches=4, limit_val_batches=1, log_every_n_steps=2)
    made.fit(Model())
    made.test(Model(), verbose=False)
    table = open_store(store).run("p/a").history().to_long("arrow").to_pylist()
    rows = [(row["key"], row["_step"], row["value"]) for row in table]
    assert [row for row in rows if row[0] in ("seen", "val", "test_epoch")] == [
        ("seen", 1, 1.0),
        ("seen", 3, 3.0),
        ("val", 3, 4.0),
        ("test_epoch", 3, 0.5),
    ]
    assert {row["step"] for row in table if row["key"] == "test_step"} == {0, 1}


def test_prefix(store: str, tmp_path: Path) -> None:
    mine = logger(store, prefix="big")
    fit(mine, tmp_path, steps=2)
    assert column(store, "p/a", "big-seen") == exact(2)


def test_values_of_all_kinds(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    fit(mine, tmp_path, steps=1)
    mine.log_metrics(
        {
            "tensor": torch.tensor(0.5),
            "numpy": np.float32(0.25),
            "int": 3,
            "nan": float("nan"),
            "nested": {"a": 1.0},
            "text": "words",
        }
    )
    summary = open_store(store).run("p/a").summary if mine.experiment.flush() else {}
    assert (summary["tensor"], summary["numpy"], summary["int"], summary["nested/a"]) == (0.5, 0.25, 3, 1.0)
    assert (summary["text"], summary["nan"] != summary["nan"]) == ("words", True)


@dataclass
class Settings:
    depth: int
    act: object = torch.nn.ReLU


def never() -> None:
    raise AssertionError("nothing in hyperparameters is called")


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"lr": 0.1, "layers": [1, 2], "none": None}, {"lr": 0.1, "layers": [1, 2], "none": None}),
        (Namespace(lr=0.1, flag=True), {"lr": 0.1, "flag": True}),
        ({"nested": {"a": {"b": "c"}}, "path": Path("x/y")}, {"nested": {"a": {"b": "c"}}, "path": "x/y"}),
        (None, {}),
    ],
)
def test_hyperparameters(store: str, tmp_path: Path, params: Any, kept: dict[str, Any]) -> None:
    mine = logger(store)
    mine.log_hyperparams(params)
    fit(mine, tmp_path, steps=1)
    assert open_store(store).run("p/a").config == kept


def test_hyperparameters_that_are_objects(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    settings = Settings(depth=3)
    mine.log_hyperparams({"settings": settings, "model": Model(), "call": never, "tensor": torch.zeros(2)})
    fit(mine, tmp_path, steps=1)
    config = open_store(store).run("p/a").config
    assert set(config) == {"settings", "model", "call", "tensor"}
    assert "never" in str(config["call"])


def test_the_models_hyperparameters_come_by_themselves(store: str, tmp_path: Path) -> None:
    class Saves(Model):
        def __init__(self, lr: float, settings: Settings) -> None:
            super().__init__(lr)
            self.save_hyperparameters()

    made = trainer(tmp_path, logger(store), max_steps=1, limit_val_batches=0)
    made.fit(Saves(0.5, Settings(2)))
    assert open_store(store).run("p/a").config["lr"] == 0.5


def test_a_copy_logs_to_the_same_run(store: str, tmp_path: Path) -> None:
    mine = logger(store, config={"seed": 1})
    mine.log_hyperparams({"lr": 0.1})
    fit(mine, tmp_path, steps=4)
    twin: RewindLogger = pickle.loads(pickle.dumps(mine))
    assert (twin.version, twin.save_dir, twin.name) == (mine.version, mine.save_dir, mine.name)
    deep = copy.deepcopy(trainer(tmp_path, twin))
    assert isinstance(deep.logger, RewindLogger)
    mine.experiment.finish()
    deep = trainer(tmp_path, deep.logger, max_steps=2, limit_val_batches=0)
    deep.fit(Model())
    assert list(column(store, "p/a").values()) == [0, 1, 2, 3, 0, 1]


def test_a_copy_made_before_the_fit_has_what_was_logged(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    mine.log_hyperparams({"lr": 0.1})
    fit(pickle.loads(pickle.dumps(mine)), tmp_path, steps=2)
    assert open_store(store).run("p/a").config == {"lr": 0.1}


def in_another_process(made: RewindLogger, folder: Path, path: Path) -> None:
    fit(made, folder, steps=7, ckpt_path=path)


def test_a_copy_in_another_process(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    fit(mine, tmp_path, every(5), steps=8)
    mine.experiment.finish()
    ended = processes.run(tmp_path, in_another_process, mine, tmp_path, checkpoint(store, "p/a", 5))
    assert ended.code == 0, ended.stderr
    assert column(store, "p/a") == exact(7)


def test_labels(store: str, tmp_path: Path) -> None:
    fit(logger(store, run_name="first try", tags=["x"], notes="n", group="g"), tmp_path, steps=1)
    read = open_store(store).run("p/a")
    assert (read.name, read.tags, read.notes, read.group) == ("first try", ("x",), "n", "g")


def test_a_second_writer_takes_the_run_over_and_training_goes_on(
    store: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = logger(store)
    fit(first, tmp_path, every(5), steps=8)
    fit(logger(store), tmp_path, steps=7, ckpt_path=checkpoint(store, "p/a", 5))
    made = fit(first, tmp_path, steps=3)
    assert made.global_step == 3
    assert column(store, "p/a") == exact(7)
    assert "Run p/a was taken over by process" in caplog.text


class Does(Callback):
    """Does something at the end of a step, before that is logged."""

    def __init__(self, step: int, what: Callable[[RewindLogger], object]) -> None:
        self.step, self.what = step, what

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            assert isinstance(trainer.logger, RewindLogger)
            self.what(trainer.logger)


def test_a_run_that_is_finished_within_a_fit_goes_on(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(logger(store), tmp_path, Does(7, lambda mine: mine.experiment.finish()), every(5), steps=12)
    assert column(store, "p/a") == exact(12)
    assert capsys.readouterr().err.count("run p/a was finished within the fit, which goes on with it") == 1
    assert [one.next_step for one in open_store(store).run("p/a").checkpoints] == [5, 10]
    fit(logger(store), tmp_path, steps=14, ckpt_path=checkpoint(store, "p/a", 10))
    assert column(store, "p/a") == exact(14)


def test_a_run_that_is_opened_by_hand_within_a_fit_goes_on(store: str, tmp_path: Path) -> None:
    def opens(mine: RewindLogger) -> None:
        with init(dir=store, project="p", id="a", console=False, system_metrics=False) as run:
            for _ in range(4):
                run.log({"by hand": 1})

    fit(logger(store), tmp_path, Does(7, opens), every(5), steps=12)
    assert list(column(store, "p/a", "by hand")) == [6, 7, 8, 9]
    found = column(store, "p/a")
    assert list(found.values()) == list(range(12))
    assert list(found)[:6] == list(range(6)) and list(found)[6] >= 10
    fit(logger(store), tmp_path, steps=14, ckpt_path=checkpoint(store, "p/a", 10))
    assert list(column(store, "p/a").values()) == list(range(14)), "its checkpoints stand where it went on"


def finishes(hook: str) -> Callback:
    """A callback that finishes the run in this hook."""

    class Finishes(Callback):
        pass

    def finish(_: Callback, trainer: Trainer, *__: Any, **___: Any) -> None:
        assert isinstance(trainer.logger, RewindLogger)
        trainer.logger.experiment.finish()

    setattr(Finishes, hook, finish)
    return Finishes()


@pytest.mark.parametrize("hook", ["setup", "on_fit_start", "on_train_start", "on_train_end", "on_fit_end", "teardown"])
def test_a_run_that_is_finished_in_any_hook(store: str, tmp_path: Path, hook: str) -> None:
    fit(logger(store), tmp_path, finishes(hook), every(4), steps=9)
    assert column(store, "p/a") == exact(9)
    assert open_store(store).run("p/a").state == "finished"


def test_a_resumed_run_that_is_finished_in_the_last_hook_is_not_rewound_by_the_next_fit(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(logger(store), tmp_path, every(4), steps=4)
    mine = logger(store)
    fit(mine, tmp_path, finishes("on_train_end"), steps=7, ckpt_path=checkpoint(store, "p/a", 4))
    fit(mine, tmp_path, steps=2)
    assert list(column(store, "p/a").values()) == [*range(7), 0, 1]
    assert "training begins anew in run p/a, which has 7 steps" in capsys.readouterr().err


def test_nothing_is_left_in_a_journal_where_the_run_is_finished_in_the_last_hook(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That the last checkpoint has all its rows is said after the hook."""
    mine = logger(store)
    fit(mine, tmp_path, every(4), finishes("on_train_end"), steps=4)
    mine.experiment.finish()
    assert "was not opened" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"save_dir": None}, "save_dir=None is None: give a folder or a URL"),
        ({"run_name": 5}, "run_name=5 is an int: it must be a str"),
        ({"tags": 5}, "tags=5 is an int: give a list of texts"),
    ],
)
def test_what_is_no_value_for_an_argument_is_refused_with_what_is(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        RewindLogger(**given)
