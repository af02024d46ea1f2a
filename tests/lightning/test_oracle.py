"""The oracle agrees with a logger that applies the rule, and with none that applies another."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers.logger import Logger

from tests.lightning import losses, matrix
from tests.lightning.matrix import Case, Plugin
from tests.lightning.oracle import Row, series

Rule = Literal["position", "global_step", "row_count", "append"]


class CuttingLogger(Logger):
    """A history in one list, which a resume cuts in place: at a position, or by a rule that others use."""

    def __init__(self, rows: list[Row], rule: Rule) -> None:
        super().__init__()
        self.rows, self.callback = rows, _Cut(rows, rule)

    @property
    def name(self) -> str:
        return "cutting"

    @property
    def version(self) -> str:
        return "v"

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Keep nothing."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append(Row(self.callback.clock(), step, dict(metrics)))


class _Cut(Callback):
    def __init__(self, rows: list[Row], rule: Rule) -> None:
        self.rows, self.rule = rows, rule
        self.trainer: Trainer
        self.start = self.shift = 0
        self.batch: int | None = None
        self.at_epoch_end = False

    def clock(self) -> int:
        stamp = self.trainer.fit_loop.epoch_loop._batches_that_stepped
        if self.at_epoch_end and self.batch is not None:
            stamp = self.batch
        return max(self.start, stamp + self.shift)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.trainer = trainer

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.at_epoch_end = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        bts = trainer.fit_loop.epoch_loop._batches_that_stepped
        if self.batch is None:
            self.shift = max(0, self.start - bts)
        self.batch = bts

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.at_epoch_end = True

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        loop = trainer.fit_loop.epoch_loop
        position = loop._batches_that_stepped
        if self.batch is not None:
            position = max(position, self.batch + (not loop._should_accumulate()))
        position = max(self.start, position + self.shift)
        checkpoint["cut"] = {"position": position, "global_step": trainer.global_step, "row_count": len(self.rows)}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        cut = checkpoint["cut"]
        self.start = cut["position"]
        if self.rule in ("position", "global_step"):
            self.rows[:] = [row for row in self.rows if row.clock < cut[self.rule]]
        elif self.rule == "row_count":
            del self.rows[cut["row_count"] :]


def _histories(case: Case, folder: Path, rule: Rule) -> Iterator[object]:
    """Yield what the oracle says, and what a logger keeps by a rule."""
    rows: list[Row] = []

    def plug() -> Plugin:
        logger = CuttingLogger(rows, rule)
        return Plugin(logger, [logger.callback])

    yield series(matrix.run(case, folder, plug).history())
    yield series(rows)


# The newest checkpoint each time: one list cannot go back to an older one, whose rows it no longer has.
CASES = [case for case in matrix.sample(1) if case.resume == "newest"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_logger_that_cuts_at_positions_agrees(case: Case, tmp_path: Path) -> None:
    oracle, cutting = _histories(case, tmp_path, "position")
    assert cutting == oracle


@pytest.mark.parametrize(
    ("rule", "case"),
    [
        # Two optimizers: twice as many optimizer steps as steps.
        ("global_step", Case("steps", "manual", 1, 1, "epoch", "epochs", kill=8)),
        # The checkpoint's own row is logged after the save.
        ("row_count", Case("steps", "automatic", 1, 1, "epoch", "epochs", kill=8)),
        ("append", Case("steps", "automatic", 1, 1, "epoch", "epochs", kill=8)),
    ],
)
def test_a_logger_with_another_rule_does_not(rule: Rule, case: Case, tmp_path: Path) -> None:
    oracle, other = _histories(case, tmp_path, rule)
    assert other != oracle


@pytest.mark.parametrize("case", CASES, ids=str)
def test_clocks_never_fall_and_a_resume_starts_at_the_position(case: Case, tmp_path: Path) -> None:
    oracle = matrix.run(case, tmp_path)
    clocks = [row.clock for row in oracle.history()]
    assert clocks == sorted(clocks)
    for attempt in oracle.attempts[1:]:
        assert attempt.source is not None
        assert all(row.clock >= attempt.source.next_step for row in attempt.rows)


@matrix.SINCE_2_5
@pytest.mark.parametrize("case", CASES, ids=str)
def test_lightning_loses_what_it_is_known_to_lose(case: Case, tmp_path: Path) -> None:
    assert losses.found(case, matrix.run(case, tmp_path)) == losses.expected(case)
