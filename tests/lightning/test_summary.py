"""The summary of a fit is that of the model's life: what a resume cut off is in no aggregate."""

from __future__ import annotations

from pathlib import Path

from rewind_logger import RewindLogger, open_store
from tests.lightning.small import Model, checkpoint, every, fit, logger, trainer


class Defines(Model):
    """Says at the start of every fit what it wants to know, as people do."""

    def on_train_start(self) -> None:
        self.logger.experiment.define_metric("seen", summary="min,max,mean")  # type: ignore[union-attr]


def train(mine: RewindLogger, folder: Path, steps: int, ckpt_path: Path | None = None) -> None:
    made = trainer(folder, mine, every(5), max_steps=steps, limit_val_batches=0)
    made.fit(Defines(), ckpt_path=ckpt_path)


def test_a_resume_takes_the_summary_back_and_the_definition_stays(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    train(mine, tmp_path, 13)
    assert mine.experiment.summary["seen"] == {"min": 0.0, "max": 12.0, "mean": 6.0}
    mine.experiment.summary["note"] = "diverged"
    again = logger(store)
    train(again, tmp_path, 7, checkpoint(store, "p/a", 5))
    expected = {"min": 0.0, "max": 6.0, "mean": 3.0}
    assert again.experiment.summary["seen"] == expected
    read = open_store(store).run("p/a").summary
    assert (read["seen"], "note" in read) == (expected, False)
    archived = open_store(store).run("p/a@1").summary
    assert archived["seen"]["max"] == 12.0
    assert open_store(store).run("p/a?_step=3").summary["seen"] == {"min": 0.0, "max": 3.0, "mean": 1.5}


def test_what_is_defined_before_the_fit_holds_for_it(store: str, tmp_path: Path) -> None:
    mine = logger(store)
    mine.experiment.define_metric("seen", summary="max")
    mine.experiment.summary["who"] = "me"
    fit(mine, tmp_path, every(5), steps=8)
    assert open_store(store).run("p/a").summary["seen"] == {"max": 7.0}
    fit(logger(store), tmp_path, steps=6, ckpt_path=checkpoint(store, "p/a", 5))
    read = open_store(store).run("p/a").summary
    assert (read["seen"], read["who"]) == ({"max": 5.0}, "me")
