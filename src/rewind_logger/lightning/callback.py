"""The callback that ties a `RewindLogger` to its trainer."""

from __future__ import annotations

import os
import weakref
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from rewind_logger.lightning import mark
from rewind_logger.lightning.attachment import Attachment
from rewind_logger.lightning.checkpoint import Loaded
from rewind_logger.lightning.logger import RewindLogger
from rewind_logger.lightning.resume import choose


class RewindCallback(Callback):
    """Tells the trainer's `RewindLogger`s what a logger alone cannot see: what is loaded, saved and trained.

    Every Trainer gets one by itself. It has no state of its own in a checkpoint, so that a checkpoint can be resumed
    where this package is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._unplaced: weakref.WeakSet[ModelCheckpoint] = weakref.WeakSet()  # those whose folder follows the logger
        self._tuning = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Attach the loggers, under the id that rank 0 has for each."""
        if self._is_second(trainer):
            return
        # Ours comes before that of the ModelCheckpoints, which then fix their folders.
        for saver in trainer.checkpoint_callbacks:
            if isinstance(saver, ModelCheckpoint) and saver.dirpath is None:
                self._unplaced.add(saver)
        for index, logger in enumerate(_ours(trainer)):
            logger._version, logger._named = trainer.strategy.broadcast((logger.version, logger._named))
            if trainer.is_global_zero:
                logger._attach(trainer, stage, index)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note what is loaded; where a run is continued that the logger did not name, go on in its folder."""
        if self._is_second(trainer) or _is_of_tuner(checkpoint):
            return
        loaded = Loaded.of(checkpoint, os.fspath(trainer.ckpt_path) if trainer.ckpt_path else None)
        for logger in _ours(trainer):
            if logger._attachment is not None:
                logger._attachment.loaded = loaded
            if trainer.state.fn == "fit" and loaded.marks:
                self._take_over(trainer, logger, loaded)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the runs."""
        for attachment in self._attachments(trainer):
            attachment.start()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Advance the clock."""
        for attachment in self._attachments(trainer):
            attachment.start_batch()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Bring the history before the checkpoint into the store, and mark the checkpoint."""
        attachments = self._attachments(trainer)
        marks = [attachment.mark() for attachment in attachments]
        if not attachments or self._is_second(trainer):
            return
        if any(marks):
            mark.write(checkpoint, [one for one in marks if one is not None])
        else:  # before the fit began: the tuner keeps the state that it will put back
            checkpoint[_TUNER] = os.getpid()

    def _attachments(self, trainer: Trainer) -> list[Attachment]:
        if self._is_second(trainer):
            return []
        return [logger._attachment for logger in _ours(trainer) if logger._attachment is not None]

    def _is_second(self, trainer: Trainer) -> bool:
        """Say whether another one does the work: passed by hand, it is there besides that of the entry point."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        first = next((callback for callback in callbacks if isinstance(callback, RewindCallback)), self)
        return first is not self

    def _take_over(self, trainer: Trainer, logger: RewindLogger, loaded: Loaded) -> None:
        """Continue the run of a checkpoint under its own id, where the logger was given none."""
        wanted = logger._wanted(_ours(trainer).index(logger))
        if (
            wanted.named
            or wanted.on_resume != "rewind"
            or wanted.fork_from is not None
            or wanted.resume_from is not None
        ):
            return
        run = None
        if trainer.is_global_zero:
            found, here = choose(wanted, loaded)
            run = found.run if found is not None and here and logger._next_step is None else None
        run = trainer.strategy.broadcast(run)
        if run is None:
            return
        logger._retarget(run)
        if trainer.loggers[0] is logger:
            folder = os.path.join(logger.log_dir, "checkpoints")
            for saver in trainer.checkpoint_callbacks:
                if saver in self._unplaced and isinstance(saver, ModelCheckpoint):
                    saver.dirpath = folder


_TUNER = "rewind_logger_tuner"
"""In a checkpoint that is saved before training begins, the process that saved it, to which it means nothing."""


def _is_of_tuner(checkpoint: dict[str, Any]) -> bool:
    return checkpoint.get(_TUNER) == os.getpid()


def _ours(trainer: Trainer) -> list[RewindLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, RewindLogger)]
