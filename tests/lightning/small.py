"""A model of one weight, of which everything that it logs follows, and short ways to train it and to read its runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.loggers.logger import Logger
from torch.utils.data import DataLoader

from rewind_logger import RewindLogger, open_store
from rewind_logger.types import Scalar

BATCHES = 8
"""An epoch."""


class Model(LightningModule):
    """Logs in each step how many batches it has seen, and a loss that follows from its weight.

    A fit that is resumed exactly logs `seen = n` at step n, as an uninterrupted one does.
    """

    seen: torch.Tensor

    def __init__(self, lr: float = 0.1) -> None:
        super().__init__()
        self.lr = lr
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        loss = (self.weight - 1 - int(self.seen) % 3).pow(2).sum()
        self.log("loss", loss.detach())
        self.log("seen", float(self.seen))
        self.seen += 1
        return loss

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("val", float(self.seen))

    def test_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        self.log("test", float(self.seen) + batch_idx, on_step=True, on_epoch=True)

    def predict_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.weight * batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def train_dataloader(self) -> DataLoader[torch.Tensor]:
        return DataLoader(torch.zeros(BATCHES, 1), batch_size=1)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[torch.Tensor]:
        return DataLoader(torch.zeros(2, 1), batch_size=1)  # type: ignore[arg-type]

    test_dataloader = predict_dataloader = val_dataloader


class Dies(Exception):
    """The end of a fit."""


@dataclass
class DiesAt(Callback):
    """Ends a fit at the start of a step; those before it are logged."""

    step: int
    by: str = "exception"
    """exception; or SIGKILL: then the whole process."""

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.fit_loop.epoch_loop._batches_that_stepped == self.step:
            if self.by == "SIGKILL":
                os.kill(os.getpid(), signal.SIGKILL)
            raise Dies


def every(steps: int, **options: Any) -> ModelCheckpoint:
    """Save each n steps, and keep all: `step=n.ckpt`, in the folder of the trainer's first logger."""
    return ModelCheckpoint(filename="{step}", every_n_train_steps=steps, save_top_k=-1, **options)


def trainer(folder: Path, logger: Logger | Sequence[Logger], *callbacks: Callback, **options: Any) -> Trainer:
    """A Trainer for small models that logs each step and says nothing."""
    return Trainer(
        **{
            "accelerator": "cpu",
            "devices": 1,
            "default_root_dir": folder,
            "logger": logger,
            "callbacks": list(callbacks),
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": any(isinstance(callback, Checkpoint) for callback in callbacks),
            **options,
        }
    )


def fit(
    logger: Logger | Sequence[Logger],
    folder: Path,
    *callbacks: Callback,
    steps: int = 16,
    ckpt_path: str | Path | None = None,
    **options: Any,
) -> Trainer:
    """Train for a number of steps in all, without validation unless options ask for it."""
    made = trainer(folder, logger, *callbacks, **{"max_steps": steps, "limit_val_batches": 0, **options})
    made.fit(Model(), ckpt_path=ckpt_path)
    return made


def checkpoint(store: str, run: str, step: int) -> Path:
    """Where `every` puts a checkpoint of a run `project/id`."""
    return Path(store, run, "checkpoints", f"step={step}.ckpt")


def column(store: str, run: str, key: str = "seen", storage_options: dict[str, Any] | None = None) -> dict[int, Scalar]:
    """The values of a metric by clock; each clock has one."""
    rows = open_store(store, storage_options).run(run).history(key).to_arrow().to_pylist()
    found: dict[int, Scalar] = {row["_step"]: row[key] for row in rows}
    assert len(found) == len(rows), "a step was logged twice"
    return found


def exact(steps: int) -> dict[int, Scalar]:
    """What `seen` is in an uninterrupted run."""
    return {step: float(step) for step in range(steps)}


def logger(store: str | Path, version: str | None = "a", **options: Any) -> RewindLogger:
    """A logger of project p."""
    return RewindLogger(store, name="p", version=version, **options)
