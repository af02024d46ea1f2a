"""Every checkpoint that is saved is marked in the run, and found again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint

from rewind_logger import init, open_store
from rewind_logger.lightning import mark
from tests.conftest import Bucket
from tests.lightning.small import Dies, DiesAt, Model, checkpoint, column, every, exact, fit, logger


def test_what_is_told_of_each(store: str, tmp_path: Path) -> None:
    saver = ModelCheckpoint(monitor="val", mode="max", save_top_k=-1, filename="{step}")
    fit(logger(store), tmp_path, saver, steps=16, limit_val_batches=1, num_sanity_val_steps=0)
    found = open_store(store).run("p/a").checkpoints
    assert [(one.next_step, one.global_step, one.epoch, one.score, one.monitor, one.revision) for one in found] == [
        (8, 8, 0, 8.0, "val", 1),
        (16, 16, 1, 16.0, "val", 1),
    ]
    assert [one.path for one in found] == [str(checkpoint(store, "p/a", step)) for step in (8, 16)]
    content = torch.load(str(found[0].path), weights_only=True)
    (one,) = mark.read(content)
    assert (one.run, one.revision, one.next_step, one.store) == (open_store(store).run("p/a").position.run, 1, 8, store)


def test_only_those_up_to_a_step_are_seen_from_there(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=16)
    fit(logger(store), tmp_path, every(4), steps=10, ckpt_path=checkpoint(store, "p/a", 5))

    def found(run: str) -> list[tuple[int, int | None]]:
        return [(one.next_step, one.revision) for one in open_store(store).run(run).checkpoints]

    assert found("p/a") == [(5, 1), (8, 2)]
    assert found("p/a@1") == [(5, 1), (10, 1), (15, 1)]
    assert found("p/a?_step=6") == [(5, 1)]


def test_a_checkpoint_with_weights_only_is_told_too(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5, save_weights_only=True), steps=8)
    (one,) = open_store(store).run("p/a").checkpoints
    assert (one.path, one.next_step, one.global_step) == (str(checkpoint(store, "p/a", 5)), 5, 5)


class SavesByHand(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 5:
            trainer.save_checkpoint(self.path)


def test_one_that_is_saved_by_hand_is_known_by_its_path_once_it_was_loaded(store: str, tmp_path: Path) -> None:
    path, after = tmp_path / "mine.ckpt", tmp_path / "after.ckpt"
    made = fit(logger(store), tmp_path, SavesByHand(path), steps=8)
    made.save_checkpoint(after)
    assert [(one.next_step, one.path) for one in open_store(store).run("p/a").checkpoints] == [(5, None), (8, None)]
    fit(logger(store), tmp_path, steps=10, ckpt_path=after)
    assert column(store, "p/a") == exact(10)
    assert [one.path for one in open_store(store).run("p/a").checkpoints] == [None, str(after)]
    fit(logger(store), tmp_path, steps=9, ckpt_path=path)
    assert column(store, "p/a") == exact(9)
    assert [one.path for one in open_store(store).run("p/a").checkpoints] == [str(path)]


def test_one_that_is_saved_when_the_run_is_finished_takes_it_from_nobody(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is resumed where it stands, like any other."""
    path = tmp_path / "final.ckpt"
    fit(logger(store), tmp_path, steps=8)
    mine = logger(store)
    made = fit(mine, tmp_path, steps=5, log_every_n_steps=2)
    mine.experiment.finish()
    with init(dir=store, project="p", id="a", console=False, system_metrics=False) as other:
        other.log({"x": 1})
        capsys.readouterr()
        made.save_checkpoint(path)
        other.log({"x": 2})
        assert other.flush(), "it still owns the run"
        assert capsys.readouterr().err == ""
    fit(logger(store), tmp_path, steps=7, ckpt_path=path)
    assert list(column(store, "p/a").items())[8:] == [(9, 1), (11, 3), (13, 5), (14, 6)]
    assert [one.cut for one in open_store(store).run("p/a").revisions] == [None, 13]
    assert "not in the store" not in capsys.readouterr().err


class SavesAtTheStart(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.path)


def test_one_that_a_callback_before_ours_saves_when_training_starts(store: str, tmp_path: Path) -> None:
    path = tmp_path / "start.ckpt"
    mine = logger(store)
    fit(mine, tmp_path, steps=8)
    fit(mine, tmp_path, SavesAtTheStart(path), steps=3)
    assert [one.next_step for one in open_store(store).run("p/a").checkpoints] == [8]
    fit(logger(store), tmp_path, steps=2, ckpt_path=path)
    assert list(column(store, "p/a").values()) == [*range(8), 0, 1]
    assert [one.cut for one in open_store(store).run("p/a").revisions] == [None, 8]


def test_one_that_an_exception_saves(store: str, tmp_path: Path) -> None:
    with pytest.raises(Dies):
        fit(logger(store), tmp_path, OnExceptionCheckpoint(tmp_path), DiesAt(6))
    assert open_store(store).run("p/a").state == "failed"
    saved = tmp_path / "on_exception.ckpt"
    fit(logger(store), tmp_path, steps=10, ckpt_path=saved)
    # Lightning counts the batch as done in which it died (design/003).
    assert column(store, "p/a") == {**exact(6), **{step: step - 1.0 for step in range(7, 11)}}
    (one,) = open_store(store).run("p/a").checkpoints
    assert one.path == str(saved)
    assert open_store(store).run("p/a").state == "finished"


@pytest.fixture
def on_s3(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A store that Lightning too can write to, by the environment as on a cluster."""
    options = bucket.storage_options
    monkeypatch.setenv("AWS_ENDPOINT_URL", options["client_kwargs"]["endpoint_url"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", options["client_kwargs"]["region_name"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret"])
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    return f"{bucket.url}/x"


def test_checkpoints_in_an_object_store(on_s3: str, tmp_path: Path) -> None:
    saver = every(5)
    fit(logger(on_s3), tmp_path, saver, steps=8)
    read = open_store(on_s3).run("p/a")
    path = f"{on_s3}/p/a/checkpoints/step=5.ckpt"
    assert [one.path for one in read.checkpoints] == [path]
    again = logger(on_s3, None)
    fit(again, tmp_path, every(4), steps=9, ckpt_path=path)
    assert again.version == "a"
    assert column(on_s3, "p/a") == exact(9)
    assert [one.path for one in read.checkpoints] == [path, f"{on_s3}/p/a/checkpoints/step=8.ckpt"]
    with init(dir=on_s3, project="p", id="b", fork_from=path) as run:
        assert run.step == 5
    assert not os.path.exists("s3:"), "nothing was taken for a folder"
    fit(logger(on_s3, "c", fork_from=path), tmp_path, steps=7, ckpt_path=path)
    assert column(on_s3, "p/c") == exact(7)


def test_a_checkpoint_can_be_loaded_where_the_package_is_not(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    content = torch.load(checkpoint(store, "p/a", 5), weights_only=True)
    assert not any("Rewind" in name for name in content["callbacks"]), "Lightning would miss that callback"
    assert set(content["rewind_logger"]) == {"version", "marks"}
    Model.load_from_checkpoint(checkpoint(store, "p/a", 5))
