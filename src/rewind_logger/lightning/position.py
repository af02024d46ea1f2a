"""Where a Lightning run stands: every quirk of Lightning's step counting, in one file, each with its version.

The step that loggers see is `fit_loop.epoch_loop._batches_that_stepped`, here *bts*: the number of batches after which
the optimizer stepped (with manual optimization, all batches). It is neither `global_step`, which counts the steps of
every optimizer, nor the `step` that a logger is given, which `self.log("step", x)` overrides and which counts from 0 in
`validation_step`. Nothing here imports Lightning: a trainer is asked for its attributes, so the objects of
`lightning.pytorch` and of the stand-alone `pytorch_lightning` both do. Checked with Lightning 2.4.0, 2.5.0, 2.5.6 and
2.6.6.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from rewind_logger.errors import CorruptError
from rewind_logger.format.documents import MAX_CLOCK

if TYPE_CHECKING:
    from lightning.pytorch import Trainer


class CheckpointInfo(NamedTuple):
    """What is told of a checkpoint besides its position."""

    epoch: int
    global_step: int
    """Optimizer steps, of all optimizers together."""
    monitor: str | None
    """The metric by which checkpoints are compared, if any."""
    score: float | None
    """Its newest value, None where it was not logged yet."""


class FitClock:
    """The clock of a run during one `fit`: what its rows are stamped with, and where a checkpoint saved now stands.

    A row is stamped with bts as it was when its batch started. Mostly that is bts as it is; but bts is raised before
    the rows that callbacks log in `on_train_epoch_end`, and these belong to the epoch's last batch.

    Example:
        >>> fit_clock = FitClock(start=500)  # in `fit`, resumed from a checkpoint at position 500
        >>> # fit_clock.start_batch(trainer) in `on_train_batch_start`, whatever callbacks come before;
        >>> # fit_clock.now(trainer) for each row, fit_clock.next_step(trainer) for each checkpoint
    """

    def __init__(self, start: int = 0) -> None:
        """Start at the position of the checkpoint from which `fit` resumes, or else where the run's history ends."""
        self._start = start
        self._batch: int | None = None
        self._shift: int | None = None

    def start_batch(self, trainer: Trainer) -> None:
        """Note the clock of the batch that starts: for `on_train_batch_start`."""
        self._batch = clock(trainer)
        if self._shift is None:
            # Some resumes start one step too low, with the step of a row that the checkpoint keeps: with 2.4 all from
            # within an epoch, with 2.6.6 the second in a row from an epoch's last batch. A LearningRateFinder makes
            # Lightning forget the loop state that it has just loaded, and another Trainer has none: they start from 0.
            # Unshifted, two batches would share a clock.
            self._shift = max(0, self._start - self._batch)

    def lift(self, start: int, by: int) -> None:
        """Go on where a run ends that was opened anew within the fit.

        Args:
            start: No row comes below it.
            by: By how much the steps to come are raised.
        """
        self._start = max(self._start, start)
        if self._shift is not None:
            self._shift += by

    def now(self, trainer: Trainer) -> int:
        """Return the clock of a row that is logged now: never below the start, never below that of an earlier row."""
        fit_loop: Any = trainer.fit_loop
        epoch, batch = fit_loop.epoch_progress.current, fit_loop.epoch_loop.batch_progress.current
        # Callbacks before ours log when an epoch or a batch starts, as LearningRateMonitor does, rows of a batch of
        # which `start_batch` was not told yet. So the noted clock is used only where bts misleads.
        starts_or_runs = epoch.ready > epoch.started or batch.ready > batch.completed
        stamp = clock(trainer) if starts_or_runs or self._batch is None else self._batch
        # Before the first batch of a resumed fit bts may still be that of the checkpoint's own step: 2.5 and later
        # finish a validation and an epoch that were cut short. Had these rows a clock below the start, then a second
        # resume from the same checkpoint would keep them, and log them again.
        return max(self._start, stamp + (self._shift or 0))

    def next_step(self, trainer: Trainer) -> int:
        """Return the position of a checkpoint that is saved now: the first step that it does not contain."""
        return max(self._start, next_step(trainer, self._batch) + (self._shift or 0))


def clock(trainer: Trainer) -> int:
    """Return bts, the number of the batch that starts or runs, in the counting that loggers see.

    It is raised at the end of each batch that steps, and misleads from there until the next epoch or batch starts.
    """
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped)


def next_step(trainer: Trainer, clock: int | None) -> int:
    """Return the first step that a checkpoint saved at this moment does not contain.

    It is the step with which a fit resumed from the checkpoint starts its first batch. Lightning 2.5 and later agree in
    all cases but two: with `max_steps`, a checkpoint of an epoch's end resumes one step higher (issue 19403); and see
    `FitClock.start_batch`.

    Args:
        trainer: The trainer that saves, within `fit`.
        clock: bts when the present batch started; None before the first batch of the fit.
    """
    epoch_loop = trainer.fit_loop.epoch_loop
    bts = int(epoch_loop._batches_that_stepped)
    if epoch_loop.batch_progress.current.ready > epoch_loop.batch_progress.current.completed:
        clock = bts  # within a batch, of which the caller may not have been told
    if clock is None:
        return bts
    # Within a batch, and in the validation that follows it, bts is not raised yet; at an epoch's end it is.
    return max(bts, clock if epoch_loop._should_accumulate() else clock + 1)


def position_of_checkpoint(checkpoint: Mapping[str, Any], accumulate_grad_batches: int | None = None) -> int | None:
    """Compute the position of a checkpoint that bears no mark of ours from the loop state saved in it.

    What `next_step` reads live must be inferred here, since bts is saved as it was, raised or not. Weights-only
    checkpoints that Lightning saves have a loop state too.

    Args:
        checkpoint: What `torch.load` returns for it.
        accumulate_grad_batches: The trainer's setting when it was saved, if known; else inferred from how often
            gradients were zeroed, which is wrong if a resumed run started a window of accumulated batches anew.

    Returns:
        The first step that it does not contain, or None if it has no loop state, as a plain state dict has none. One
        too high, which keeps no row too many, for a checkpoint that an exception saved between two batches of an
        epoch in which a validation ran: its loop state is that of the validation's end.
    """
    try:
        position = _position(checkpoint, accumulate_grad_batches)
        if position is None or 0 <= position <= MAX_CLOCK:
            return position
        error: Exception = ValueError("its position is no step")
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as caught:
        error = caught
    raise CorruptError(f"The checkpoint's loop state is not one that Lightning saves: {error!r:.200}.") from error


def _position(checkpoint: Mapping[str, Any], accumulate_grad_batches: int | None) -> int | None:
    """Return the same, or raise what comes of a loop state that is none."""
    loops = checkpoint.get("loops")
    fit_loop = loops.get("fit_loop") if isinstance(loops, Mapping) else None
    if not isinstance(fit_loop, Mapping) or "epoch_loop.batch_progress" not in fit_loop:
        return None
    # Lightning before 1.6.5 did not save bts; Lightning itself takes `global_step` for such a checkpoint.
    saved = fit_loop.get("epoch_loop.state_dict", {}).get("_batches_that_stepped", checkpoint.get("global_step", 0))
    batch, epoch = fit_loop["epoch_loop.batch_progress"]["current"], fit_loop["epoch_progress"]["current"]
    validation = fit_loop["epoch_loop.val_loop.batch_progress"]["total"]  # of this epoch
    within_batch = batch["ready"] > batch["completed"]
    after_validation = epoch["ready"] > epoch["processed"] and validation["ready"] > 0
    if within_batch or after_validation:
        saved += _batch_steps(fit_loop, accumulate_grad_batches)
    return int(saved)


def row_pending(trainer: Trainer) -> bool:
    """Return whether rows at the own step of a checkpoint that is saved now may follow.

    Lightning logs them after the save and never again, not even when the checkpoint is resumed: the step's own row if
    it is saved when a batch ends, those of a validation or an epoch that ends with this batch.
    """
    fit_loop: Any = trainer.fit_loop
    epoch_loop = fit_loop.epoch_loop
    batch, epoch = epoch_loop.batch_progress.current, fit_loop.epoch_progress.current
    if trainer.state.fn != "fit" or trainer.interrupted or fit_loop._data_fetcher is None:
        return False
    if epoch.processed > epoch.completed:
        return True  # in `on_train_epoch_end`
    # By its last batch, by `max_steps`, or because someone asks to stop.
    ends_epoch = epoch.ready > epoch.processed and (epoch_loop._is_training_done or trainer.should_stop)
    if trainer.validating:
        return bool(ends_epoch) or not epoch_loop.val_loop.batch_progress.is_last_batch
    if batch.ready == batch.completed:
        return False  # between two batches, or after the last
    steps = not epoch_loop._should_accumulate() or not trainer.lightning_module.automatic_optimization
    logs = steps and trainer._logger_connector.should_update_logs
    return bool(ends_epoch or logs or epoch_loop._should_check_val_fx(fit_loop._data_fetcher))


def checkpoint_info(trainer: Trainer, saver: object | None = None) -> CheckpointInfo:
    """Return what the run's list of checkpoints says of one that is saved now.

    Args:
        trainer: The trainer that saves.
        saver: The `ModelCheckpoint` that saves it, where that is known; else the trainer's first.
    """
    saver = trainer.checkpoint_callback if saver is None else saver
    monitor = getattr(saver, "monitor", None)
    score = trainer.callback_metrics.get(monitor) if monitor is not None else None
    return CheckpointInfo(
        epoch=int(trainer.current_epoch),
        global_step=int(trainer.global_step),
        monitor=monitor,
        score=None if score is None else float(score),
    )


def _batch_steps(fit_loop: Mapping[str, Any], accumulate_grad_batches: int | None) -> bool:
    """Return whether the optimizer steps, or stepped, with the batch at which the loop state was saved."""
    progress = fit_loop["epoch_loop.batch_progress"]
    batch = progress["current"]
    optimizer = fit_loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
    step, zero_grad = optimizer["step"]["current"], optimizer["zero_grad"]["current"]
    if accumulate_grad_batches is not None:
        return batch["ready"] % accumulate_grad_batches == 0 or bool(progress["is_last_batch"])
    if fit_loop["epoch_loop.manual_optimization.optim_step_progress"]["total"]["ready"] > 0:
        return True  # with manual optimization bts counts every batch
    if batch["started"] > batch["processed"]:
        return bool(step["ready"] > step["completed"])  # in `training_step` or the step itself
    # Gradients are zeroed at the first batch of a window and the optimizer steps at its last.
    return bool(step["completed"] == zero_grad["completed"])
