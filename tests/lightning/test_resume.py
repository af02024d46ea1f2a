"""A fit that is resumed from a checkpoint takes the history back to where the model is."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import CSVLogger

from rewind_logger import Artifact, ConfigError, RewindLogger, RunExistsError, init, open_store
from tests.lightning import processes
from tests.lightning.small import BATCHES, Dies, DiesAt, Model, checkpoint, column, every, exact, fit, logger, trainer


def train(store: str, folder: Path, die_at: int | None) -> None:
    """A user's script: the same command each time."""
    callbacks = [every(5, save_last=True)] + ([] if die_at is None else [DiesAt(die_at, "SIGKILL")])
    fit(logger(store), folder, *callbacks, steps=3 * BATCHES, ckpt_path="last")


def test_the_same_command_after_a_kill_and_again(store: str, tmp_path: Path) -> None:
    assert processes.run(tmp_path, train, store, tmp_path, 13).code == -signal.SIGKILL
    second = processes.run(tmp_path, train, store, tmp_path, 19)
    assert second.code == -signal.SIGKILL
    assert second.stderr.count(f"run p/a in {store} was rewound to step 9; 3 rows are archived as a@1.") == 1
    third = processes.run(tmp_path, train, store, tmp_path, None)
    assert third.code == 0, third.stderr
    lines = [line for line in third.stderr.splitlines() if line.startswith("rewind-logger")]
    assert [line.partition(" in ")[0] for line in lines] == [
        "rewind-logger: run p/a",
        "rewind-logger: run p/a finished at step 23.",
    ], "one line at the start, one at the end"
    assert "was rewound to step 14; 4 rows are archived as a@2." in lines[0]

    assert column(store, "p/a") == exact(24)
    assert column(store, "p/a@1") == exact(13), "with the last rows, which only the journal had"
    assert column(store, "p/a@2") == exact(19)
    fit(logger(store, "whole"), tmp_path, steps=24)
    assert column(store, "p/a", "loss") == column(store, "p/whole", "loss")
    read = open_store(store).run("p/a")
    assert [(one.cut, one.parent) for one in read.revisions] == [(None, None), (10, "p/a@1"), (15, "p/a@2")]
    assert read.revisions[1].reason.startswith("resumed from ")
    assert [one.next_step for one in read.checkpoints if "last" not in str(one.path)] == [5, 10, 15, 20]


def test_a_second_fit_of_the_same_logger(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    fit(mine, tmp_path, every(5), steps=13)
    fit(mine, tmp_path, steps=9, ckpt_path=checkpoint(store, "p/a", 5))
    assert column(store, "p/a") == exact(9)
    assert column(store, "p/a@1") == exact(13)
    assert mine.experiment.revision == 2


def test_a_second_fit_without_a_checkpoint_goes_on(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    fit(mine, tmp_path, steps=5)
    fit(mine, tmp_path, steps=3)
    assert list(column(store, "p/a").items()) == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 4), (5, 0), (6, 1), (7, 2)]
    assert mine.experiment.revision == 1


def test_without_a_version_the_run_of_the_checkpoint_goes_on(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = logger(store, None)
    saver = every(5, monitor="loss", save_last=True)
    fit(first, tmp_path, saver, steps=13)
    run = f"p/{first.version}"
    capsys.readouterr()
    second, saver = logger(store, None), every(5, monitor="loss", save_last=True)
    fit(second, tmp_path, saver, steps=16, ckpt_path=checkpoint(store, run, 10))
    assert second.version == first.version
    assert [found.path for found in open_store(store).runs()] == [run]
    assert column(store, run) == exact(16)
    folder = Path(store, run, "checkpoints")
    assert sorted(path.name for path in folder.iterdir()) == [
        "last.ckpt",
        "step=10.ckpt",
        "step=15.ckpt",
        "step=5.ckpt",
    ]
    assert len(saver.best_k_models) == 3, "ModelCheckpoint goes on too"
    said = capsys.readouterr().err
    assert f"run {run} in {store} was rewound to step 9; 3 rows are archived" in said
    assert "elsewhere" not in said


def test_where_model_checkpoint_follows_another_logger_one_line_says_so(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    fit(
        [CSVLogger(tmp_path / "csv"), logger(store, None)],
        tmp_path,
        every(5),
        steps=16,
        ckpt_path=checkpoint(store, "p/a", 5),
    )
    assert column(store, "p/a") == exact(16)
    assert capsys.readouterr().err.count("put the RewindLogger first") == 1


def test_a_checkpoint_two_revisions_old(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=13)
    old = checkpoint(store, "p/a", 10).rename(tmp_path / "old.ckpt")
    fit(logger(store), tmp_path, every(5), steps=8, ckpt_path=checkpoint(store, "p/a", 5))
    fit(logger(store), tmp_path, steps=7, ckpt_path=checkpoint(store, "p/a", 5))
    assert len(open_store(store).run("p/a").revisions) == 3
    fit(logger(store), tmp_path, steps=12, ckpt_path=old)
    assert column(store, "p/a") == exact(12)
    assert open_store(store).run("p/a").revisions[-1].parent == "p/a@1"
    assert [len(column(store, f"p/a@{number}")) for number in (1, 2, 3)] == [13, 8, 7]


def test_a_checkpoint_that_lies_beyond_the_last_row(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(8), steps=10, log_every_n_steps=5)
    fit(logger(store), tmp_path, steps=16, ckpt_path=checkpoint(store, "p/a", 8), log_every_n_steps=5)
    assert column(store, "p/a") == {4: 4.0, 9: 9.0, 14: 14.0}
    assert len(open_store(store).run("p/a").revisions) == 2


def test_a_checkpoint_from_before_the_logger_was_used(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(CSVLogger(tmp_path / "csv", name="old", version="v"), tmp_path, every(5), steps=8)
    old = checkpoint(str(tmp_path / "csv"), "old/v", 5)
    fit(logger(store), tmp_path, steps=12, ckpt_path=old)
    said = capsys.readouterr().err
    assert f"{old} was saved without Rewind Logger: by its loop state it stands at step 4." in said
    assert column(store, "p/a") == {step: float(step) for step in range(5, 12)}
    fit(logger(store), tmp_path, steps=9, ckpt_path=old)
    assert column(store, "p/a") == {step: float(step) for step in range(5, 9)}, "it is rewound to there too"


def test_a_checkpoint_of_another_run_is_forked_from(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    capsys.readouterr()
    for _ in range(2):  # the same command again
        fit(logger(store, "b"), tmp_path, steps=12, ckpt_path=checkpoint(store, "p/a", 5))
        assert column(store, "p/b") == exact(12)
    said = capsys.readouterr().err
    assert said.count(f"run p/b in {store} was forked from p/a@1 at step 4.") == 1
    assert said.count(f"run p/b in {store} was rewound to step 4; 7 rows are archived as b@1.") == 1
    assert column(store, "p/a") == exact(8)


def test_a_checkpoint_of_another_run_than_the_one_that_is_named(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    fit(logger(store, "b"), tmp_path, steps=6)
    with pytest.raises(RunExistsError, match=r"step=5\.ckpt is of run p/a, and the logger names p/b, which is another"):
        fit(logger(store, "b"), tmp_path, steps=12, ckpt_path=checkpoint(store, "p/a", 5))
    assert column(store, "p/b") == exact(6)
    assert column(store, "p/a") == exact(8)


def test_on_resume_error(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    with pytest.raises(ConfigError, match=r"stands at p/a@1\?_step=4, and on_resume='error' was given"):
        fit(logger(store, on_resume="error"), tmp_path, ckpt_path=checkpoint(store, "p/a", 5))
    assert column(store, "p/a") == exact(8)


def test_resume_from_a_moment(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, steps=8)
    again = logger(store, None, resume_from="a?_step=2")
    fit(again, tmp_path, every(2), steps=2)
    assert again.version == "a"
    assert checkpoint(store, "p/a", 2).exists(), "its checkpoints lie in the run"
    assert column(store, "p/a") == {0: 0, 1: 1, 2: 2, 3: 0, 4: 1}


def test_resume_from_a_checkpoint_and_the_same_command_again(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=13)
    back = checkpoint(store, "p/a", 5)
    fit(logger(store, None, resume_from=back), tmp_path, every(4), steps=10, ckpt_path=back)
    assert column(store, "p/a") == exact(10)
    # Killed, it is started again with its newest checkpoint, of after the place that is still given.
    fit(logger(store, resume_from=back), tmp_path, steps=12, ckpt_path=checkpoint(store, "p/a", 8))
    assert column(store, "p/a") == exact(12)
    assert [one.cut for one in open_store(store).run("p/a").revisions] == [None, 5, 8]
    with pytest.raises(ConfigError, match=r"resume_from=.* stands at p/a@1\?_step=4, and fit loads .*step=10\.ckpt"):
        fit(logger(store, resume_from=back), tmp_path, steps=12, ckpt_path=checkpoint(store, "p/a", 10))


def test_what_was_logged_before_fit_is_kept(store: str, tmp_path: Path) -> None:
    for number, ckpt_path in enumerate((None, checkpoint(store, "p/a", 5))):
        mine = logger(store, config={"given": number})
        mine.log_hyperparams({"lr": 0.1, "number": number})
        mine.log_metrics({"parameters": 100 + number})
        mine.experiment.log({"images": 7 + number})
        fit(mine, tmp_path, every(5), steps=8, ckpt_path=ckpt_path)
    assert column(store, "p/a") == exact(8)
    assert column(store, "p/a", "parameters") == {0: 100, 5: 101}
    assert column(store, "p/a", "images") == {0: 7, 5: 8}
    assert open_store(store).run("p/a").config == {"given": 1, "lr": 0.1, "number": 1}
    assert open_store(store).run("p/a@1").config == {"given": 0, "lr": 0.1, "number": 0}


class Told(Model):
    """Has a hyperparameter, and logs a row before training starts."""

    def __init__(self, lr: float) -> None:
        super().__init__(lr)
        self.save_hyperparameters()

    def on_fit_start(self) -> None:
        assert self.logger is not None
        self.logger.log_metrics({"begins": self.lr})

    def on_validation_start(self) -> None:
        if self.trainer.sanity_checking:
            assert self.logger is not None
            self.logger.log_metrics({"sane": self.lr})


def test_an_artifact_of_the_run_is_found_before_fit(store: str, tmp_path: Path) -> None:
    data = Artifact("data", type="data")
    with data.new_file("rows.txt") as file:
        file.write("1")
    first = logger(store)
    first.experiment.log_artifact(data, aliases=["raw"])
    fit(first, tmp_path, steps=3)
    with init(dir=store, project="p", id="other") as other:
        newer = Artifact("data", type="data")
        with newer.new_file("rows.txt") as file:
            file.write("2")
        other.log_artifact(newer)
    again = logger(store).experiment
    assert Path(again.use_artifact("data").file(tmp_path / "here")).read_text() == "1", "its own, and not the newest"
    assert again.use_artifact("data:raw").version == "v0"


@pytest.mark.parametrize("same", [True, False])
def test_what_comes_in_a_fit_before_training_belongs_to_what_it_opens(store: str, tmp_path: Path, same: bool) -> None:
    mine = logger(store)
    options: dict[str, Any] = {"limit_val_batches": 1, "val_check_interval": 5}
    trainer(tmp_path, mine, every(5), max_steps=9, **options).fit(Told(0.1))
    again = trainer(tmp_path, mine if same else logger(store), every(5), max_steps=8, **options)
    again.fit(Told(0.5), ckpt_path=checkpoint(store, "p/a", 5))
    assert column(store, "p/a") == exact(8)
    assert column(store, "p/a", "begins") == {0: 0.1, 5: 0.5}
    assert column(store, "p/a@1", "begins") == {0: 0.1}
    assert column(store, "p/a", "sane")[0] == 0.1
    assert open_store(store).run("p/a").config == {"lr": 0.5}
    assert open_store(store).run("p/a@1").config == {"lr": 0.1}


def test_a_fit_that_fails_before_it_begins_opens_no_run(store: str, tmp_path: Path) -> None:
    class Fails(Model):
        def prepare_data(self) -> None:
            raise Dies

    mine = logger(store)
    mine.log_metrics({"early": 1.0})
    with pytest.raises(Dies):
        trainer(tmp_path, mine).fit(Fails())
    assert open_store(store).runs() == []


def test_metrics_before_a_second_fit_that_rewinds(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    fit(mine, tmp_path, every(5), steps=8)
    mine.log_metrics({"between": 1.0})
    fit(mine, tmp_path, steps=7, ckpt_path=checkpoint(store, "p/a", 5))
    assert column(store, "p/a@1", "between") == {7: 1.0}, "it was logged at the end of that revision"


def test_a_finished_run_that_is_started_again_stays_as_it_is(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(8), steps=8)
    fit(logger(store), tmp_path, every(8), steps=8, ckpt_path=checkpoint(store, "p/a", 8))
    read = open_store(store).run("p/a")
    assert (len(read.revisions), read.state) == (1, "finished")
    assert column(store, "p/a") == exact(8)


def test_a_new_run_beside_runs_with_checkpoints_says_how_to_resume_one(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning looks for the last checkpoint in the folder of a run that is new."""
    fit(logger(store), tmp_path, every(5, save_last=True), steps=8)
    capsys.readouterr()
    fit(logger(store, None), tmp_path, every(5, save_last=True), steps=3, ckpt_path="last")
    assert "to resume one, name it, as in version='a' with fit(ckpt_path='last')" in capsys.readouterr().err
    fit(logger(store, None), tmp_path, steps=3)
    assert "to resume one" not in capsys.readouterr().err, "who does not look for a checkpoint is told nothing"


def test_a_folder_that_cannot_be_listed_keeps_no_run_from_being_opened(store: str, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    Path(store, "p", "a").mkdir(parents=True)
    Path(store, "p", "a", "checkpoints").symlink_to(tmp_path / "scratch")
    mine = logger(store, None)
    fit(mine, tmp_path, steps=3, ckpt_path="last")
    assert column(store, f"p/{mine.version}") == exact(3)


def test_training_anew_in_a_run_that_exists_goes_on_and_says_so(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(logger(store), tmp_path, steps=3)
    fit(logger(store), tmp_path, steps=2)
    assert column(store, "p/a") == {0: 0, 1: 1, 2: 2, 3: 0, 4: 1}
    assert "training begins anew in run p/a, which has 3 steps" in capsys.readouterr().err


def test_last_that_nobody_writes_is_not_advised(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for steps in (2, 3):
        fit(logger(store), tmp_path, every(2), steps=steps, ckpt_path="last")
    newest = checkpoint(store, "p/a", 2)
    said = capsys.readouterr().err
    assert f"To resume, call fit with ckpt_path=logger.last_checkpoint, {newest} (" in said
    assert 'ckpt_path="last" finds nothing here: only ModelCheckpoint(save_last=True) writes it' in said
    fit(logger(store), tmp_path, steps=4, ckpt_path=newest)
    fit(logger(store, "b"), tmp_path, steps=2)
    fit(logger(store, "b"), tmp_path, steps=2)
    assert 'To resume, call fit with ckpt_path="last"; to keep' in capsys.readouterr().err, "who did not try it"


def test_last_is_not_found_in_a_store_elsewhere_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning does not look there. When it does, the page on Lightning has a sentence less."""
    far = f"memory://{tmp_path.name}"
    for _ in range(2):
        fit(logger(far), tmp_path, every(2, save_last=True), steps=3, ckpt_path="last")
    said = capsys.readouterr().err
    assert f"To resume, call fit with ckpt_path=logger.last_checkpoint, {far}/p/a/checkpoints/" in said
    assert 'ckpt_path="last" finds nothing here: it is looked for on local disks only' in said
    assert len(column(far, "p/a")) == 6
    fit(logger(far), tmp_path, steps=4, ckpt_path=f"{far}/p/a/checkpoints/last.ckpt")
    assert column(far, "p/a") == exact(4)


def test_a_store_that_was_moved_is_known_again(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    moved = str(Path(store).rename(tmp_path / "moved"))
    fit(logger(moved), tmp_path, steps=7, ckpt_path=checkpoint(moved, "p/a", 5))
    assert column(moved, "p/a") == exact(7)


def test_the_run_of_the_sdk_and_of_the_trainer_are_the_same(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, steps=4)
    with init(dir=store, project="p", id="a", resume="must") as run:
        run.log({"afterwards": 1})
    assert column(store, "p/a", "afterwards") == {4: 1}


def test_a_wrong_argument_is_refused() -> None:
    with pytest.raises(ConfigError, match="on_resume='rewnd'"):
        RewindLogger(on_resume="rewnd")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="resume_from goes back in a run, fork_from begins another"):
        RewindLogger(resume_from="a", fork_from="b")


def test_a_checkpoint_of_a_writer_that_lost_the_run_leaves_a_gap_and_that_is_said(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = logger(store)
    fit(first, tmp_path, every(5), steps=6)
    fit(logger(store), tmp_path, steps=8, ckpt_path=checkpoint(store, "p/a", 5))  # the same job, a second time
    fit(first, tmp_path, every(5), steps=6)  # goes on, to its journal
    first.experiment.finish()
    late = checkpoint(store, "p/a", 5).with_name("step=5-v1.ckpt")
    capsys.readouterr()
    fit(logger(store), tmp_path, steps=8, ckpt_path=late)
    said = capsys.readouterr().err
    assert "steps 6 to 10 of run p/a, which the checkpoint contains, are not in the store" in said
    assert "as_fork=True" in said and "machine died" not in said
    steps = list(column(store, "p/a"))
    assert steps == [*range(6), *range(11, 14)]
