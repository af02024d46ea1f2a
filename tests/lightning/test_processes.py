"""Several loggers in one trainer, several processes in one fit, and jobs that are told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateFinder, OnExceptionCheckpoint
from lightning.pytorch.loggers import CSVLogger

from rewind_logger import RewindLogger, open_store
from rewind_logger.lightning import mark
from tests.lightning import processes
from tests.lightning.small import Model, checkpoint, column, every, exact, fit, logger, trainer


def test_beside_another_logger_and_another_of_ours(store: str, tmp_path: Path) -> None:
    other = str(tmp_path / "other")

    def loggers() -> list[Any]:
        return [logger(store), CSVLogger(tmp_path / "csv"), logger(store, "twin"), logger(other)]

    fit(loggers(), tmp_path, every(5), steps=8)
    path = checkpoint(store, "p/a", 5)
    marks = mark.read(torch.load(path, weights_only=True))
    assert [(one.run_id, one.store) for one in marks] == [("a", store), ("twin", store), ("a", other)]
    fit(loggers(), tmp_path, steps=12, ckpt_path=path)
    for where, run in ((store, "p/a"), (store, "p/twin"), (other, "p/a")):
        assert column(where, run) == exact(12)
        assert len(open_store(where).run(run).revisions) == 2
    # Only one of them, in another place of the list: its own mark is taken.
    fit([logger(store, "twin")], tmp_path, steps=7, ckpt_path=path)
    assert column(store, "p/twin") == exact(7)
    assert column(store, "p/a") == exact(12)


def test_each_of_two_of_ours_looks_at_its_own_mark(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def loggers() -> list[Any]:
        return [logger(store), logger(store, "b")]

    path = tmp_path / "both.ckpt"
    fit(loggers(), tmp_path, steps=7, log_every_n_steps=5).save_checkpoint(path)
    capsys.readouterr()
    fit(loggers(), tmp_path, steps=12, ckpt_path=path, log_every_n_steps=5)
    assert "not in the store" not in capsys.readouterr().err, "no row is missing before the checkpoint in either"
    for run in ("p/a", "p/b"):
        assert list(column(store, run)) == [4, 9]
        assert [one.path for one in open_store(store).run(run).checkpoints] == [str(path)]


SCRIPT = """
import sys, warnings
from pathlib import Path

warnings.simplefilter("ignore")
from lightning.pytorch import Callback
from rewind_logger import Artifact
from tests.lightning.small import every, fit, logger

class Everywhere(Callback):  # uses the run on every rank
    def on_train_batch_end(self, trainer, *_):
        run, rank = trainer.logger.experiment, trainer.global_rank
        assert run.id == trainer.logger.version
        run.log({"rank": rank})
        run.config.update({"rank": rank})
        run.config.nested = {"rank": rank}
        run.define_metric("rank", summary="max")
        run.summary["rank by hand"] = rank
        run.tags = [*run.tags, f"of {rank}"]
        artifact = Artifact("of-each", type="data")
        with artifact.new_file("rank.txt") as file:
            file.write(str(rank))
        run.log_artifact(artifact)

def main():
    folder, store, strategy = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    options = dict(strategy=strategy, devices=2)
    first = logger(store, None if strategy == "ddp" else "a")
    first.log_hyperparams({"lr": 0.1})
    first.log_metrics({"early": 1.0})
    if strategy == "ddp":
        fit(first, folder, every(3), Everywhere(), steps=5, **options)
    else:  # what its children logged is not known here, and nothing is resumed
        fit(first, folder, every(3), steps=8, **options)
        return
    again = logger(store, None)
    saver = every(4)
    path = Path(first.log_dir, "checkpoints", "step=3.ckpt")
    made = fit(again, folder, saver, steps=8, ckpt_path=path, **options)
    assert again.version == first.version, "on every rank"
    assert Path(saver.dirpath) == path.parent, saver.dirpath
    print(f"rank {made.global_rank} of {made.world_size}")

if __name__ == "__main__":
    main()
"""


def launch(folder: Path, store: str, strategy: str) -> str:
    """Run the script as a user does."""
    script = folder / "train.py"
    script.write_text(SCRIPT)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(script), str(folder), store, strategy],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_two_processes_of_ddp(store: str, tmp_path: Path) -> None:
    said = launch(tmp_path, store, "ddp")
    assert "rank 1 of 2" in said
    (run,) = open_store(store).runs()
    assert column(store, run.path) == exact(8)
    assert [one.cut for one in run.revisions] == [None, 3]
    assert sorted(one.next_step for one in run.checkpoints) == [3, 4, 8]
    assert run.config == {"lr": 0.1, "rank": 0, "nested": {"rank": 0}}
    assert (run.summary["rank"], run.summary["rank by hand"]) == ({"max": 0}, 0), "what other ranks log goes nowhere"
    assert [one.version for one in run.artifacts] == ["v0"]
    assert column(store, run.path, "early") == {0: 1.0}
    claims = len(list(Path(store, run.path, "m").iterdir()))
    assert claims == 2, "only rank 0 opened the run"
    assert said.count(f"run {run.path} in {store} is new.") == 1


def finds_a_rate(store: str, folder: Path) -> None:
    finder = LearningRateFinder(num_training_steps=5, early_stop_threshold=None)
    fit(logger(store), folder, finder, steps=4, strategy="ddp_fork", devices=2)


def test_the_tuner_in_two_processes(store: str, tmp_path: Path) -> None:
    """What it loads again is a resume on neither rank: they would wait for one another."""
    ended = processes.run(tmp_path, finds_a_rate, store, tmp_path)
    assert ended.code == 0, ended.stderr
    assert list(column(store, "p/a")) == list(range(4))


@pytest.mark.exhaustive
def test_two_processes_of_ddp_spawn(store: str, tmp_path: Path) -> None:
    launch(tmp_path, store, "ddp_spawn")
    assert column(store, "p/a") == exact(8)
    read = open_store(store).run("p/a")
    assert read.config == {"lr": 0.1}
    assert sorted(one.next_step for one in read.checkpoints) == [3, 6]


class Signals(Callback):
    """Gets a signal in a step, as from a scheduler, and perhaps is killed in a later one."""

    def __init__(self, number: signal.Signals, step: int, killed: int | None = None) -> None:
        self.number, self.step, self.killed = number, step, killed

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)
        if trainer.global_step == self.killed:
            os.kill(os.getpid(), signal.SIGKILL)


def requeued(store: str, folder: Path, first: bool) -> None:
    """The same batch job; Lightning finds by itself what it saved when it was told to requeue it."""
    mine = RewindLogger(store, name="p")
    assert mine.version == "slurm-4711"
    callbacks = [Signals(signal.SIGUSR1, 6, killed=9)] if first else []
    fit(mine, folder, *callbacks, steps=12)


def test_a_job_that_slurm_requeues(store: str, tmp_path: Path) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho $* >> {tmp_path}/requeued\n")
    scontrol.chmod(0o755)
    environment = {
        "SLURM_JOB_ID": "4711",
        "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": "1",
        "SLURM_NTASKS_PER_NODE": "1",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }
    ended = processes.run(tmp_path, requeued, store, tmp_path, True, **environment)
    assert ended.code == -signal.SIGKILL, ended.stderr
    assert (tmp_path / "requeued").read_text() == "requeue 4711\n"
    assert open_store(store).run("p/slurm-4711").state == "crashed", "it trained on until it was killed"
    ended = processes.run(tmp_path, requeued, store, tmp_path, False, **environment)
    assert ended.code == 0, ended.stderr
    assert column(store, "p/slurm-4711") == exact(12)
    assert [one.cut for one in open_store(store).run("p/slurm-4711").revisions] == [None, 6]


def terminated(store: str, folder: Path, first: bool) -> None:
    callbacks = [Signals(signal.SIGTERM, 6)] if first else []
    saved = folder / "on_exception.ckpt"
    fit(
        logger(store),
        folder,
        OnExceptionCheckpoint(folder),
        *callbacks,
        steps=12,
        ckpt_path=saved if not first else None,
    )


def test_a_job_that_is_told_to_end(store: str, tmp_path: Path) -> None:
    ended = processes.run(tmp_path, terminated, store, tmp_path, True)
    assert column(store, "p/a") == exact(6)
    assert open_store(store).run("p/a").state == "failed"
    ended = processes.run(tmp_path, terminated, store, tmp_path, False)
    assert ended.code == 0, ended.stderr
    assert column(store, "p/a") == exact(12)
    assert open_store(store).run("p/a").state == "finished"


def test_two_trainers_share_a_logger(store: str, tmp_path: Path) -> None:
    """The validation of another trainer, within a fit, does not end the attachment of the fit."""

    class Validates(Callback):
        def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
            if trainer.global_step == 4:
                inner.validate(Model(), verbose=False)

        def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
            mine.log_metrics({"begins": 1.0})

    mine = logger(store)
    inner = trainer(tmp_path, mine)
    fit(mine, tmp_path, Validates(), every(5), steps=8)
    assert column(store, "p/a") == exact(8)
    assert column(store, "p/a", "val") == {3: 0.0}
    assert list(column(store, "p/a", "begins")) == list(range(8)), "also of a callback that comes before ours"
    assert [one.next_step for one in open_store(store).run("p/a").checkpoints] == [5]
