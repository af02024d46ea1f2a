"""Media that a LightningModule or a callback logs, by the methods of Lightning's W&B logger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch import Callback, LightningModule, Trainer

from rewind_logger import ConfigError, Histogram, Image, LogValueError, RewindLogger, open_store
from rewind_logger.sdk.stored import StoredRun
from tests.lightning.small import Model, checkpoint, column, every, exact, fit, logger, trainer


class Shows(Callback):
    """Logs a picture a step that says how many batches the model has seen, and another at each validation."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(trainer.logger, RewindLogger) and isinstance(pl_module, Model)
        trainer.logger.log_image("seen", [torch.full((1, 2, 2), int(pl_module.seen) - 1, dtype=torch.uint8)])

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(trainer.logger, RewindLogger)
        trainer.logger.log_image("tested", [np.zeros((2, 2))], caption=["dark"])


def seen(stored: StoredRun) -> dict[int, int]:
    found = {item.step: int(item.to_numpy()[0, 0]) for item in stored.media("seen")}
    assert len(found) == len(stored.media("seen")), "a step was logged twice"
    return found


def test_after_a_resume_each_picture_is_at_the_step_of_its_model(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), Shows(), steps=8)
    fit(logger(store), tmp_path, Shows(), steps=7, ckpt_path=checkpoint(store, "p/a", 5))
    assert seen(open_store(store).run("p/a")) == {step: step for step in range(7)}
    assert seen(open_store(store).run("p/a@1")) == {step: step for step in range(8)}
    assert column(store, "p/a") == exact(7)


def test_each_kind_with_its_captions(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    film, page = tmp_path / "a.mp4", pd.DataFrame({"text": ["a"], "score": [0.5]})
    film.write_bytes(b"....ftyp")
    mine.log_image("images", [np.zeros((2, 2)), torch.zeros(3, 2, 2)], caption=["a", "b"], file_type=["png", "jpg"])
    mine.log_audio("sounds", [np.zeros(100)], sample_rate=[8000], caption=["silence"])
    mine.log_video("films", [np.zeros((2, 1, 4, 4)), str(film)], caption=["c", "d"])
    mine.log_table("rows", columns=["a", "b"], data=[[1, "x"], [2, "y"]])
    mine.log_table("frame", dataframe=page)
    mine.log_text("texts", columns=["said"], data=[["hello"]])
    mine.log_metrics({"weights": Histogram([1.0, 2.0])})
    mine.experiment.log({"bare": Image(np.zeros((2, 2)))})
    fit(mine, tmp_path, steps=1)
    found = {(item.key, item.index): item for item in open_store(store).run("p/a").media()}
    assert {place: (item.kind, item.metadata.get("format"), item.caption) for place, item in found.items()} == {
        ("images", 0): ("image", "png", "a"),
        ("images", 1): ("image", "jpg", "b"),
        ("sounds", 0): ("audio", "wav", "silence"),
        ("films", 0): ("video", "gif", "c"),
        ("films", 1): ("video", "mp4", "d"),
        ("rows", 0): ("table", "parquet", None),
        ("frame", 0): ("table", "parquet", None),
        ("texts", 0): ("table", "parquet", None),
        ("weights", 0): ("histogram", None, None),
        ("bare", 0): ("image", "png", None),
    }
    assert found["frame", 0].to_table().data == [["a", 0.5]]
    assert {item.step for item in found.values()} == {0}


def test_the_prefix_is_put_before_their_names(store: str, tmp_path: Path) -> None:
    fit(logger(store, prefix="run"), tmp_path, Shows(), steps=1)
    assert [item.key for item in open_store(store).run("p/a").media()] == ["run-seen"]


def test_lists_that_do_not_fit_are_refused(store: str) -> None:
    mine = logger(store)
    with pytest.raises(LogValueError, match="images is a ndarray: give a list"):
        mine.log_image("x", np.zeros((2, 2)))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="caption has 1 items, for the 2 videos"):
        mine.log_video("x", ["a.mp4", "b.mp4"], caption=["a"])


def test_other_ranks_log_nothing(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    mine = logger(store)
    mine.log_image("x", [object()])
    mine.log_table("x", columns=["a"], data=[[1]])
    assert mine._run is None
    assert not Path(store).exists()


def test_an_evaluation_elsewhere_keeps_them_beside_its_numbers(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, every(5), steps=8)
    made = trainer(tmp_path, logger(store), Shows())
    made.test(Model(), ckpt_path=checkpoint(store, "p/a", 5), verbose=False)
    stored = open_store(store).run("p/a")
    assert len(stored.media()) == 0, "the run of a job that may be training is left alone"
    [one] = stored.evaluations
    [found] = one.media()
    assert (found.key, found.step, found.caption, found.to_numpy().tolist()) == ("tested", 4, "dark", [[0, 0], [0, 0]])
    assert len(one.media("other")) == 0 and one.summary["test_epoch"] == 5.5
