"""The callback comes by itself, once, and can be kept away."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from lightning.fabric import Fabric
from lightning.pytorch import Trainer

from rewind_logger import open_store
from rewind_logger.lightning.callback import RewindCallback
from tests.lightning import processes
from tests.lightning.small import column, every, exact, fit, logger


def ours(made: Trainer) -> list[RewindCallback]:
    return [callback for callback in made.callbacks if isinstance(callback, RewindCallback)]  # type: ignore[attr-defined]


def test_every_trainer_gets_one() -> None:
    assert len(ours(Trainer(logger=False, accelerator="cpu"))) == 1
    assert len(ours(Trainer(fast_dev_run=True, logger=False, accelerator="cpu"))) == 1
    for package in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric"):
        (point,) = entry_points(group=f"{package}.callbacks_factory", name="rewind_logger")
        assert isinstance(point.load()(), list)


def test_the_package_pytorch_lightning_alone_does_not_make_us_import_lightning() -> None:
    code = "import sys; from rewind_logger.lightning import entry; print(entry.standalone_trainer_callbacks())"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; assert 'lightning' not in sys.modules"], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_one_that_is_passed_by_hand_is_enough(store: str, tmp_path: Path) -> None:
    made = fit(logger(store), tmp_path, RewindCallback(), every(5), steps=8)
    assert len(ours(made)) == 2
    assert column(store, "p/a") == exact(8)
    assert len(open_store(store).run("p/a").checkpoints) == 1, "the second is silent"


def test_it_is_inert_without_a_logger_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit([], tmp_path, every(5, dirpath=tmp_path), steps=8)
    assert "rewind-logger" not in capsys.readouterr().err


def append_only(store: str, folder: Path) -> None:
    made = fit(logger(store), folder, every(5), steps=8)
    assert ours(made) == []


def test_the_switch(store: str, tmp_path: Path) -> None:
    """Without its callback the logger only ever adds rows."""
    for _ in range(2):
        ended = processes.run(tmp_path, append_only, store, tmp_path, REWIND_LOGGER_CALLBACK="0")
        assert ended.code == 0, ended.stderr
    read = open_store(store).run("p/a")
    assert (len(read.history()), read.checkpoints, len(read.revisions)) == (16, [], 1)
    assert read.state == "finished"


def in_a_fabric(store: str) -> None:
    mine = logger(store)
    fabric = Fabric(accelerator="cpu", devices=1, loggers=[mine])
    fabric.launch()
    mine.log_hyperparams({"lr": 0.1})
    for step in range(3):
        fabric.log("seen", float(step), step=10 * step)
    fabric.log_dict({"last": 1.0})


def test_a_fabric_has_no_fit_and_needs_none(store: str, tmp_path: Path) -> None:
    ended = processes.run(tmp_path, in_a_fabric, store)
    assert ended.code == 0, ended.stderr
    assert column(store, "p/a") == {0: 0, 10: 1, 20: 2}
    assert column(store, "p/a", "last") == {20: 1}
    read = open_store(store).run("p/a")
    assert (read.config, read.state) == ({"lr": 0.1}, "finished")
    # Again: the run goes on.
    processes.run(tmp_path, in_a_fabric, store)
    assert len(open_store(store).run("p/a").revisions) == 1
