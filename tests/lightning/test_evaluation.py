"""`validate`, `test` and `predict` measure; they never rewind, and never take a run away from who trains it."""

from __future__ import annotations

import contextlib
import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer

from rewind_logger import RewindLogger, Text, init, open_store, sync
from tests.lightning import processes
from tests.lightning.small import Dies, Model, checkpoint, column, every, exact, fit, logger, trainer


def evaluate(store: str, folder: Path, path: str | None) -> None:
    """A user's script."""
    made = trainer(folder, logger(store))
    made.test(Model(), ckpt_path=path, verbose=False)
    made.validate(Model(), ckpt_path=path, verbose=False)
    made.predict(Model(), ckpt_path=path)


class EvaluatesElsewhere(Callback):
    """Has the model tested by another process while it is trained."""

    script: Callable[..., None] = staticmethod(evaluate)

    def __init__(self, store: str, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.said = ""

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 8:
            path = str(checkpoint(self.store, "p/a", 5))
            ended = processes.run(self.folder, self.script, self.store, self.folder, path)
            self.said = ended.stderr
            assert ended.code == 0, ended.stderr


def test_an_evaluation_in_a_process_of_its_own_leaves_a_training_job_alone(store: str, tmp_path: Path) -> None:
    mine, elsewhere = logger(store), EvaluatesElsewhere(store, tmp_path)
    fit(mine, tmp_path, every(5), elsewhere, steps=12)
    assert mine.experiment.flush(), "it still owns the run"
    read = open_store(store).run("p/a")
    assert column(store, "p/a") == exact(12)
    assert (len(read.revisions), read.last_step) == (1, 11)
    assert "test" not in read.summary
    test, validate = read.evaluations
    assert (test.kind, test.revision, test.next_step) == ("test", 1, 5)
    assert test.checkpoint == str(checkpoint(store, "p/a", 5))
    assert test.history().to_arrow().select(["_step", "step", "test_step", "test_epoch"]).to_pylist() == [
        {"_step": 4, "step": 0, "test_step": 5.0, "test_epoch": 5.5},
        {"_step": 4, "step": 1, "test_step": 6.0, "test_epoch": None},
    ]
    assert (validate.kind, validate.summary["val"]) == ("validate", 5.0)
    assert "test is logged as an evaluation of run p/a@1 at step 4." in elsewhere.said
    # It belongs to what was evaluated: shown as long as that is kept, and no longer.
    fit(logger(store), tmp_path, steps=7, ckpt_path=checkpoint(store, "p/a", 5))
    assert len(open_store(store).run("p/a").evaluations) == 2
    fit(logger(store, None, resume_from="a?_step=2"), tmp_path, steps=1)
    assert open_store(store).run("p/a").evaluations == []
    assert len(open_store(store).run("p/a@2").evaluations) == 2


def test_without_a_checkpoint_the_end_of_the_run_is_evaluated(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, steps=4)
    trainer(tmp_path, logger(store)).test(Model(), verbose=False)
    (one,) = open_store(store).run("p/a").evaluations
    assert (one.next_step, one.checkpoint) == (4, None)


class LogsByHand(Callback):
    """Logs through the run itself."""

    def on_test_batch_end(self, trainer: Trainer, *_: Any) -> None:
        assert isinstance(trainer.logger, RewindLogger)
        trainer.logger.experiment.log({"by hand": {"score": 1.0}, "said": Text("well")})


def test_what_the_run_itself_is_given_is_part_of_the_evaluation(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    trainer(tmp_path, logger(store), LogsByHand()).test(Model(), ckpt_path=checkpoint(store, "p/a", 5), verbose=False)
    with init(dir=store, project="p", id="a") as run:
        assert run.step == 8 and "by hand/score" not in run.summary, "nothing is left behind for the run"
    (evaluation,) = open_store(store).run("p/a").evaluations
    assert evaluation.summary["by hand/score"] == 1.0
    assert {item.to_text() for item in evaluation.media("said")} == {"well"}
    # After a fit, and in a run that does not exist, it goes to the run.
    trainer(tmp_path, logger(store, "new"), LogsByHand()).test(Model(), verbose=False)
    assert open_store(store).run("p/new").summary["by hand/score"] == 1.0


def test_a_checkpoint_with_weights_only_tells_where_it_stands(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5, save_weights_only=True), steps=8)
    trainer(tmp_path, logger(store)).test(Model(), ckpt_path=checkpoint(store, "p/a", 5), verbose=False)
    (one,) = open_store(store).run("p/a").evaluations
    assert (one.next_step, one.summary["test_epoch"]) == (5, 5.5)


def test_without_a_version_it_goes_to_the_run_of_the_checkpoint(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    trainer(tmp_path, logger(store, None)).test(Model(), ckpt_path=checkpoint(store, "p/a", 5), verbose=False)
    (run,) = open_store(store).runs()
    assert len(run.evaluations) == 1


def test_after_a_fit_in_the_same_process_it_is_a_part_of_the_run(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    fit(mine, tmp_path, every(5), steps=6)
    made = fit(mine, tmp_path, every(5), steps=8, ckpt_path=checkpoint(store, "p/a", 5))
    made.test(Model(), verbose=False)
    made.test(Model(), ckpt_path=checkpoint(store, "p/a", 5), verbose=False)
    read = open_store(store).run("p/a")
    assert read.evaluations == []
    assert (len(read.revisions), read.last_step, read.state) == (2, 7, "finished")
    rows = read.history(["test_epoch", "evaluated_step"]).to_arrow().to_pylist()
    found = [(row["_step"], row["test_epoch"], row["evaluated_step"]) for row in rows if row["test_epoch"] is not None]
    assert found == [(7, 0.5, None), (7, 5.5, 4)], "at the present clock, with the evaluated step in a column"
    fit(mine, tmp_path, steps=9, ckpt_path=checkpoint(store, "p/a", 5))
    assert column(store, "p/a") == exact(9)


def test_a_validation_before_the_fit_does_not_disturb_it(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    made = trainer(tmp_path, logger(store), every(5), max_steps=9, limit_val_batches=1)
    made.validate(Model(), ckpt_path=checkpoint(store, "p/a", 5), verbose=False)
    made.fit(Model(), ckpt_path=checkpoint(store, "p/a", 5))
    assert column(store, "p/a") == exact(9)
    assert len(open_store(store).run("p/a").evaluations) == 1


def test_a_run_that_does_not_exist_is_begun(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    made = trainer(tmp_path, mine, max_steps=4, limit_val_batches=1)
    made.test(Model(), verbose=False)
    assert open_store(store).run("p/a").summary["test_epoch"] == 0.5
    made.fit(Model())
    assert column(store, "p/a") == exact(4)


def test_hyperparameters_of_a_test_are_not_the_runs(store: str, tmp_path: Path) -> None:
    class Told(Model):
        def __init__(self, lr: float) -> None:
            super().__init__(lr)
            self.save_hyperparameters()

    made = trainer(tmp_path, logger(store), max_steps=4, limit_val_batches=0)
    made.fit(Told(0.1))
    trainer(tmp_path, logger(store)).test(Told(0.5), verbose=False)
    assert open_store(store).run("p/a").config == {"lr": 0.1}


def test_predict_logs_nothing(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    found = trainer(tmp_path, logger(store)).predict(Model(), ckpt_path=checkpoint(store, "p/a", 5))
    assert found is not None
    assert isinstance(found[0], torch.Tensor)
    read = open_store(store).run("p/a")
    assert (read.evaluations, len(read.revisions), read.last_step) == ([], 1, 7)


@pytest.mark.parametrize("call", ["validate", "test", "predict"])
def test_a_checkpoint_that_is_evaluated_is_no_resume(store: str, tmp_path: Path, call: str) -> None:
    mine = logger(store)
    made = fit(mine, tmp_path, every(5), steps=8)
    getattr(made, call)(Model(), ckpt_path=checkpoint(store, "p/a", 5))
    assert column(store, "p/a") == exact(8)
    made.fit_loop.epoch_loop.max_steps = 10
    made.fit(made.lightning_module)
    assert list(column(store, "p/a"))[8:] == [8, 9]
    assert mine.experiment.revision == 1


def evaluates_and_logs_by_hand(store: str, folder: Path, path: str) -> None:
    """A user's script: what it logs besides comes before and after the call of the trainer."""
    mine = logger(store)
    mine.log_metrics({"size": 64.0})
    mine.log_image("sample", [torch.zeros(3, 4, 4)])
    made = trainer(folder, mine)
    made.test(Model(), ckpt_path=path, verbose=False)
    mine.log_metrics({"final": 1.0}, step=3)
    mine.experiment.log({"by hand": 2.0})


class LogsElsewhere(EvaluatesElsewhere):
    """Has that done while the model is trained."""

    script = staticmethod(evaluates_and_logs_by_hand)


def test_what_is_logged_before_and_after_an_evaluation_is_part_of_it(store: str, tmp_path: Path) -> None:
    mine, elsewhere = logger(store), LogsElsewhere(store, tmp_path)
    fit(mine, tmp_path, every(5), elsewhere, steps=12)
    assert mine.experiment.flush(), "it still owns the run"
    assert column(store, "p/a") == exact(12)
    run = open_store(store).run("p/a")
    assert len(run.revisions) == 1 and "size" not in run.summary
    (evaluation,) = run.evaluations
    assert evaluation.summary["test_epoch"] == 5.5
    assert (evaluation.summary["size"], evaluation.summary["final"], evaluation.summary["by hand"]) == (64.0, 1.0, 2.0)
    assert [item.key for item in evaluation.media()] == ["sample"]
    fit(logger(store), tmp_path, steps=14, ckpt_path=checkpoint(store, "p/a", 10))
    assert "size" not in open_store(store).run("p/a").summary, "nothing waited for the next opening"


def test_what_was_logged_before_an_evaluation_is_the_runs_if_a_fit_follows(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    fit(mine, tmp_path, every(5), steps=8)
    again = logger(store)
    again.log_metrics({"size": 64.0})
    trainer(tmp_path, again).test(Model(), ckpt_path=checkpoint(store, "p/a", 5), verbose=False)
    again.log_metrics({"between": 1.0})
    fit(again, tmp_path, steps=9, ckpt_path=checkpoint(store, "p/a", 5))
    again.log_metrics({"after": 2.0})
    again.experiment.finish()
    run = open_store(store).run("p/a")
    assert (run.summary["size"], run.summary["after"]) == (64.0, 2.0)
    assert run.evaluations[0].summary["between"] == 1.0


def gives_more_than_rows(store: str, folder: Path, path: str) -> None:
    """A user's script."""
    mine = logger(store)
    made = trainer(folder, mine)
    made.test(Configured(), ckpt_path=path, verbose=False)
    assert mine.experiment.summary.get("score") is None
    run = mine.experiment
    run.summary["score"] = 1.0
    run.config.update({"evaluated": True})
    run.tags = ("tested",)
    run.log_artifact(path, name="predictions")


class Configured(Model):
    """Has hyperparameters, which Lightning logs by itself."""

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__(lr)
        self.save_hyperparameters()


def test_what_an_evaluation_cannot_keep_is_said_once(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    path = str(checkpoint(store, "p/a", 5))
    assert "is only evaluated" not in processes.run(tmp_path, evaluate, store, tmp_path, path).stderr
    said = processes.run(tmp_path, gives_more_than_rows, store, tmp_path, path).stderr
    assert said.count("Run p/a is only evaluated by this process") == 1
    assert "Log them to a run of their own, with rewind_logger.init(project='p')" in said
    run = open_store(store).run("p/a")
    assert (run.config, run.tags, list(run.artifacts)) == ({}, (), [])


def evaluates_after_a_fit(store: str, folder: Path) -> None:
    """A user's script, whose run is finished by then."""
    mine = logger(store)
    made = fit(mine, folder, steps=4)
    mine.experiment.finish()
    made.test(Model(), verbose=False)
    mine.experiment.log({"by hand": 2.0})


def test_what_is_logged_after_an_evaluation_that_follows_a_finished_fit_is_part_of_it(
    store: str, tmp_path: Path
) -> None:
    ended = processes.run(tmp_path, evaluates_after_a_fit, store, tmp_path)
    assert ended.code == 0, ended.stderr
    (evaluation,) = open_store(store).run("p/a").evaluations
    assert (evaluation.next_step, evaluation.summary["by hand"]) == (4, 2.0)


def test_a_logger_that_has_evaluated_is_let_go_after_its_fit(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    made = trainer(tmp_path, mine, max_steps=2, limit_val_batches=1)
    made.validate(Model(), verbose=False)
    made.fit(Model())
    mine.experiment.finish()
    known = weakref.ref(mine)
    del made, mine
    gc.collect()
    assert known() is None, "a process may have thousands"


class Fails(Model):
    """Cannot be trained."""

    def setup(self, stage: str) -> None:
        raise Dies


def logs_and_fails(store: str, folder: Path) -> None:
    """A user's script whose fit does not begin."""
    mine = logger(store)
    mine.log_metrics({"size": 64.0})
    with contextlib.suppress(Dies):
        trainer(folder, mine).fit(Fails())


def logs_an_artifact_only(store: str, path: Path) -> None:
    """A user's script with a logger that no trainer uses."""
    logger(store, "b").experiment.log_artifact(path, name="file")


def test_rows_of_a_run_that_was_not_opened_are_named(store: str, tmp_path: Path) -> None:
    for script, where, run in ((logs_and_fails, tmp_path, "p/a"), (logs_an_artifact_only, Path(__file__), "p/b")):
        said = processes.run(tmp_path, script, store, where).stderr
        assert said.count(f"run {run} was not opened: what was logged to it is kept in ") == 1
    fit(logger(store), tmp_path, steps=3)
    sync(store, as_fork=True)
    assert 64.0 in [run.summary.get("size") for run in open_store(store).runs()], "as it said"
