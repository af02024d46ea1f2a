"""What a history must be after resumes, found without the code under test.

A `Recorder` is an append-only Lightning logger with a callback of its own. It keeps every row it is given with the
step at which Lightning stood, and at each save the position of the checkpoint, both read from Lightning's own counter.
From these `Oracle.history` computes what the exact rule keeps: of the attempt that saved a checkpoint the rows below
the checkpoint's position, and all rows of the attempt that was resumed from it.
"""

from __future__ import annotations

from argparse import Namespace
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger

Series = dict[str, list[tuple[int, float]]]
"""A history in long form: for each key its points (clock, value), in the order in which they were logged."""


class Row(NamedTuple):
    """One call of `log_metrics`."""

    clock: int
    step: int | None
    values: dict[str, float]


class Mark(NamedTuple):
    """What the recorder writes into a checkpoint."""

    serial: int
    """Counts the saves of all attempts."""
    attempt: int
    next_step: int
    global_step: int
    rows: int
    """How many rows the attempt had logged when it was saved."""


@dataclass
class Attempt:
    """One `fit`, from a checkpoint or from the beginning, until it ends or is killed."""

    source: Mark | None
    """The checkpoint from which it was resumed."""
    rows: list[Row] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    first_clock: int | None = None
    """Lightning's step when its first batch started; None if none did."""


class Oracle:
    """The attempts of one run, and what its history must be."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.serial = 0

    def history(self, attempt: int = -1) -> list[Row]:
        """Return the rows that are kept when `attempt` has ended."""
        tried = self.attempts[attempt]
        if tried.source is None:
            return list(tried.rows)
        kept = [row for row in self.history(tried.source.attempt) if row.clock < tried.source.next_step]
        return kept + tried.rows

    def resume(self, source: Mark | None) -> Attempt:
        self.attempts.append(Attempt(source))
        return self.attempts[-1]


class Recorder(Logger):
    """Keeps every row, for ever, with the step at which Lightning stood."""

    def __init__(self, oracle: Oracle, save_dir: Path) -> None:
        super().__init__()
        self.callback = _RecorderCallback(oracle)
        self._save_dir = save_dir

    @property
    def name(self) -> str:
        return "oracle"

    @property
    def version(self) -> str:
        return "recorded"

    @property
    def save_dir(self) -> str:
        return str(self._save_dir)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Keep nothing: the oracle is about metrics."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.callback.attempt.rows.append(Row(self.callback.clock, step, dict(metrics)))


class _RecorderCallback(Callback):
    """Reads Lightning's counter, and marks checkpoints."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._trainer: Trainer
        self._at_start: int | None = None
        self._within_epoch = False
        self._missing = 0
        self.attempt = Attempt(None)

    @property
    def clock(self) -> int:
        """The step of a row that is logged now."""
        counter = self._counter if self._at_start is None else self._at_start
        return max(self._start, counter + self._missing)

    @property
    def _start(self) -> int:
        return 0 if self.attempt.source is None else self.attempt.source.next_step

    @property
    def _counter(self) -> int:
        return self._trainer.fit_loop.epoch_loop._batches_that_stepped

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer
        self._at_start, self._within_epoch, self._missing = None, False, 0
        if stage == "fit":
            self.attempt = self._oracle.resume(None)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if "oracle" in checkpoint:
            self.attempt.source = Mark(*checkpoint["oracle"])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._at_start, self._within_epoch = self._counter, False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self.attempt.first_clock is None:
            self.attempt.first_clock = self._counter
            # Lightning 2.4 takes up one step too low.
            self._missing = max(0, self._start - self._counter)
        self._at_start, self._within_epoch = self._counter, True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        position = self._counter
        if self._within_epoch and self._at_start is not None:
            accumulates = trainer.fit_loop.epoch_loop._should_accumulate()
            position = max(position, self._at_start + (0 if accumulates else 1))
        self._oracle.serial += 1
        mark = Mark(
            serial=self._oracle.serial,
            attempt=len(self._oracle.attempts) - 1,
            next_step=max(self._start, position + self._missing),
            global_step=trainer.global_step,
            rows=len(self.attempt.rows),
        )
        self.attempt.marks.append(mark)
        checkpoint["oracle"] = list(mark)


def series(rows: list[Row]) -> Series:
    """Return rows in long form, key by key in the order in which they were logged."""
    points: Series = defaultdict(list)
    for row in rows:
        for key, value in row.values.items():
            points[key].append((row.clock, float(value)))
    return dict(points)


def points(rows: list[Row]) -> dict[str, list[tuple[int, int | None, float]]]:
    """Return rows in long form with the steps that Lightning gave where they differ from the clock."""
    found: dict[str, list[tuple[int, int | None, float]]] = defaultdict(list)
    for row in rows:
        for key, value in row.values.items():
            found[key].append((row.clock, None if row.step == row.clock else row.step, float(value)))
    return dict(found)


def saved_checkpoints(folder: Path) -> list[tuple[Path, Mark]]:
    """Return the checkpoint files below a folder, in the order in which they were saved."""
    found = [
        (path, Mark(*torch.load(path, weights_only=True)["oracle"]))
        for path in folder.rglob("*.ckpt")
        if not path.is_symlink()
    ]
    return sorted(found, key=lambda checkpoint: checkpoint[1].serial)
