"""The tuner trains with the real logger put aside: the history stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder
from lightning.pytorch.tuner.tuning import Tuner
from torch.utils.data import DataLoader

from rewind_logger import open_store
from tests.lightning.small import BATCHES, Model, checkpoint, column, every, exact, fit, logger, trainer

FINDS = (
    LearningRateFinder(num_training_steps=5, early_stop_threshold=None),
    BatchSizeFinder(mode="power", steps_per_trial=1, max_trials=2),
)


class Tuned(Model):
    """Also with a batch size."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_size = 1

    def train_dataloader(self) -> DataLoader[torch.Tensor]:
        # As many batches whatever is found.
        return DataLoader(torch.zeros(BATCHES * self.batch_size, 1), batch_size=self.batch_size)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("find", FINDS, ids=lambda find: type(find).__name__)
def test_as_a_callback_of_a_fit(store: str, tmp_path: Path, find: LearningRateFinder | BatchSizeFinder) -> None:
    made = trainer(tmp_path, logger(store), every(4), find, max_steps=6, limit_val_batches=0)
    made.fit(Tuned())
    read = open_store(store).run("p/a")
    assert column(store, "p/a") == exact(6)
    assert len(read.revisions) == 1
    assert [one.next_step for one in read.checkpoints] == [4]


@pytest.mark.parametrize("find", FINDS, ids=lambda find: type(find).__name__)
def test_as_a_callback_of_a_later_fit(store: str, tmp_path: Path, find: LearningRateFinder | BatchSizeFinder) -> None:
    mine = logger(store)
    fit(mine, tmp_path, every(4), steps=6)
    trainer(tmp_path, mine, find, max_steps=3, limit_val_batches=0, enable_checkpointing=False).fit(Tuned())
    assert list(column(store, "p/a").values()) == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert len(open_store(store).run("p/a").revisions) == 1


@pytest.mark.parametrize("find", ["lr_find", "scale_batch_size"])
def test_by_itself(store: str, tmp_path: Path, find: str) -> None:
    made, model = trainer(tmp_path, logger(store), every(4), max_steps=6, limit_val_batches=0), Tuned()
    if find == "lr_find":
        Tuner(made).lr_find(model, num_training=5, early_stop_threshold=None)
    else:
        Tuner(made).scale_batch_size(model, steps_per_trial=1, max_trials=2)
    assert not Path(store).exists() or open_store(store).runs() == []
    made.fit(model)
    assert column(store, "p/a") == exact(6)
    assert len(open_store(store).run("p/a").revisions) == 1


def test_in_a_fit_that_is_resumed(store: str, tmp_path: Path) -> None:
    """A finder makes Lightning forget the loop state that it was about to restore: the fit counts from 0 again."""
    fit(logger(store), tmp_path, every(4), steps=7)
    finder = BatchSizeFinder(mode="power", steps_per_trial=1, max_trials=2)
    made = trainer(tmp_path, logger(store), every(9), finder, max_steps=6, limit_val_batches=0)
    made.fit(Tuned(), ckpt_path=checkpoint(store, "p/a", 4))
    found = column(store, "p/a")
    assert found == exact(len(found)), "rows go on at the position of the checkpoint"
    assert len(found) > 4
    assert [one.cut for one in open_store(store).run("p/a").revisions] == [None, 4]
