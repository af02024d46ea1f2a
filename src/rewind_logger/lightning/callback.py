"""The callback that ties a `RewindLogger` to its trainer."""

from __future__ import annotations

import os
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from rewind_logger.lightning import mark
from rewind_logger.lightning.checkpoint import Loaded
from rewind_logger.lightning.fit import Fit
from rewind_logger.lightning.logger import RewindLogger
from rewind_logger.sdk import notice
from rewind_logger.types import RunRef


class RewindCallback(Callback):
    """Tells the trainer's `RewindLogger`s what a logger alone cannot see: what is loaded, saved and trained.

    Every Trainer gets one by itself. It has no state of its own in a checkpoint, so that a checkpoint can be resumed
    where this package is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._unplaced: list[Any] = []  # ModelCheckpoints whose folder follows the logger
        self._tuned = False  # whether the tuner, whose callbacks come first of all, is through
        self._kept = False  # whether it keeps the state that it will put back

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Attach the loggers, under the id that rank 0 has for each."""
        self._tuned = self._kept = False
        if self._is_second(trainer):
            return
        # Ours comes before that of the ModelCheckpoints, which then fix their folders.
        for saver in trainer.checkpoint_callbacks:
            if getattr(saver, "dirpath", "") is None:  # that of `pytorch_lightning` is another class
                self._unplaced.append(saver)
        for index, logger in enumerate(_ours(trainer)):
            known: Any = logger._identify() if trainer.is_global_zero else None
            logger._name, logger._version, logger._named = trainer.strategy.broadcast(known)
            if trainer.is_global_zero:
                logger._attach(trainer, TrainerFn(stage).value, index)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Tell the loggers what is loaded."""
        if self._is_second(trainer) or self._kept:
            return
        loaded = Loaded.of(checkpoint, os.fspath(trainer.ckpt_path) if trainer.ckpt_path else None)
        for logger in _ours(trainer):
            if trainer.state.fn == "fit":
                self._load(trainer, logger, loaded)
            elif logger._attachment is not None:
                logger._attachment.loaded = loaded

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note that the tuner has put everything back."""
        self._tuned, self._kept = True, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the runs."""
        for fit in self._fits(trainer):
            fit.start()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Advance the clock."""
        for fit in self._fits(trainer):
            fit.start_batch()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Bring the history before the checkpoint into the store, and mark the checkpoint."""
        self._kept = not self._tuned
        fits = self._fits(trainer)
        if self._tuned and trainer.training:
            for fit in fits:
                fit.start()  # a callback that comes before ours saves when training starts
        marks = [made for fit in fits if (made := fit.mark()) is not None]
        if marks:
            mark.write(checkpoint, marks)

    def _fits(self, trainer: Trainer) -> list[Fit]:
        """Return, on rank 0, the present or last fit of each logger if it is one of this trainer."""
        if self._is_second(trainer):
            return []
        return [logger._fit for logger in _ours(trainer) if logger._fit is not None and logger._fit.is_of(trainer)]

    def _is_second(self, trainer: Trainer) -> bool:
        """Say whether another one does the work: passed by hand, it is there besides that of the entry point."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        first = next((callback for callback in callbacks if isinstance(callback, RewindCallback)), self)
        return first is not self

    def _load(self, trainer: Trainer, logger: RewindLogger, loaded: Loaded) -> None:
        """Have every rank log to the run that the fit goes on with, and save its checkpoints there."""
        decided: Any = logger._fit.load(loaded) if logger._fit is not None else None  # on rank 0
        run: RunRef = trainer.strategy.broadcast(decided)
        if run == logger._ref:
            return
        logger._retarget(run)
        unplaced = [saver for saver in self._unplaced if saver in trainer.checkpoint_callbacks]
        if trainer.loggers[0] is logger:
            root = logger.save_dir or trainer.default_root_dir  # as ModelCheckpoint itself does
            for saver in unplaced:
                saver.dirpath = os.path.join(root, logger.name, logger.version, "checkpoints")
        elif unplaced and trainer.is_global_zero and logger is _ours(trainer)[0]:
            notice.say(
                f"run {run} goes on, but its checkpoints go elsewhere, since ModelCheckpoint follows the trainer's"
                " first logger: put the RewindLogger first, or give ModelCheckpoint a dirpath."
            )


def _ours(trainer: Trainer) -> list[RewindLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, RewindLogger)]
