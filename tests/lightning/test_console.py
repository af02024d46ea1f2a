"""What is printed while a Trainer trains, its bar among it, and how the machine is used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar

from rewind_logger import open_store
from rewind_logger.sdk.system import sampler
from tests.lightning.small import Dies, DiesAt, Model, checkpoint, every, fit, logger, trainer


def lines(store: str, run: str = "p/a") -> list[tuple[int, str]]:
    """Step and text of each line, without colours."""
    table = open_store(store).run(run).history(stream="console").to_arrow()
    return [(row["_step"], re.sub(r"\x1b\[[0-9;]*m", "", row["text"])) for row in table.to_pylist()]


class Prints(Callback):
    """Prints a line in each batch, and at the beginning and the end."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        print("setup")

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        print(f"batch {trainer.global_step}")

    def on_fit_end(self, *_: Any) -> None:
        print("fit ends")


def test_lines_of_a_fit_rewind_with_its_checkpoint(store: str, tmp_path: Path) -> None:
    with pytest.raises(Dies):
        fit(logger(store), tmp_path, Prints(), every(4), DiesAt(6), steps=16)
    print("between two fits")
    died = [(0, "setup"), *[(step, f"batch {step + 1}") for step in range(6)]]
    assert lines(store) == died
    fit(logger(store), tmp_path, Prints(), every(4), steps=8, ckpt_path=checkpoint(store, "p/a", 4))
    resumed = [(4, "setup"), *[(step, f"batch {step + 1}") for step in range(4, 8)], (7, "fit ends")]
    assert lines(store) == died[:5] + resumed
    assert lines(store, "p/a@1") == died


def test_a_second_fit_is_heard_too(store: str, tmp_path: Path) -> None:
    made = trainer(tmp_path, logger(store), Prints(), max_steps=2, limit_val_batches=0)
    model = Model()
    made.fit(model)
    print("not while it is at rest")
    made.fit_loop.epoch_loop.max_steps = 3
    made.fit(model)
    first = [(0, "setup"), (0, "batch 1"), (1, "batch 2"), (1, "fit ends")]
    assert lines(store) == [*first, (2, "batch 3"), (2, "fit ends")]


@pytest.mark.parametrize("bar", [TQDMProgressBar, RichProgressBar])
def test_the_bar_of_an_epoch_is_one_line(store: str, tmp_path: Path, bar: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich draws its bar on terminals only
    options: dict[str, Any] = {"enable_progress_bar": True, "limit_val_batches": 2}
    fit(logger(store), tmp_path, bar(refresh_rate=1), steps=16, **options)
    bars = [text for _, text in lines(store) if "Epoch 1" in text]
    assert len(bars) == 1
    assert "8/8" in bars[0]
    assert not [text for _, text in lines(store) if "Validation" in text], "it was erased"


def test_lines_stand_between_the_bars_of_rich(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    fit(logger(store), tmp_path, RichProgressBar(), Prints(), steps=8, enable_progress_bar=True, limit_val_batches=0)
    printed = [text for _, text in lines(store)]
    assert [text for text in printed if "batch" in text] == [f"batch {step + 1}" for step in range(8)]


def test_an_evaluation_in_another_process_adds_nothing(store: str, tmp_path: Path) -> None:
    fit(logger(store), tmp_path, Prints(), steps=2)
    before = lines(store)
    trainer(tmp_path, logger(store), Prints()).validate(Model(), verbose=False)
    assert lines(store) == before
    assert len(open_store(store).run("p/a").evaluations) == 1


def test_off(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "LAST_S", 0.0)
    fit(logger(store, console=False, system_metrics=False), tmp_path, Prints(), steps=2)
    run = open_store(store).run("p/a")
    assert (len(run.history(stream="console")), len(run.history(stream="system"))) == (0, 0)


def test_samples_bear_the_step_of_training(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "FIRST_S", 3600.0)
    monkeypatch.setattr(sampler, "LAST_S", 0.0)
    fit(logger(store), tmp_path, every(4), steps=8)
    fit(logger(store), tmp_path, every(4), steps=12, ckpt_path=checkpoint(store, "p/a", 8))
    table = open_store(store).run("p/a").history(stream="system").to_arrow()
    assert table["_step"].to_pylist() == [7, 11]
    assert open_store(store).run("p/a").revision == 1, "nothing was cut off"
