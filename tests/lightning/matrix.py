"""The resume matrix: small training runs that are killed and resumed three times, in every way that matters.

Everything that is logged follows from the model's state alone (its weights and a count of the batches that it has
seen), never from the data loader, which starts over when a fit is resumed. So a run that Lightning resumes exactly logs
exactly what it would have logged without interruption.

A way to save, an optimization, a validation and a limit make a *configuration*; with what varies within it, a *case*.
"""

from __future__ import annotations

import itertools
import logging
import warnings
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import lightning
import pytest
import torch
from lightning.fabric.utilities.warnings import PossibleUserWarning
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, OnExceptionCheckpoint
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.loggers.logger import Logger
from packaging.version import Version
from torch.utils.data import DataLoader

from tests.lightning.oracle import Mark, Oracle, Recorder, saved_checkpoints

BATCHES = 8
"""Training batches an epoch: a last window that is not full when three are accumulated."""
EPOCHS = 3

Save = Literal["steps", "validation", "epoch", "exception", "default"]
Optimizers = Literal["automatic", "manual"]
Validation = Literal["epoch", "twice", "on_step"]
Limit = Literal["epochs", "steps"]
Place = Literal["training", "validation"]
Resume = Literal["newest", "older"]


SINCE_2_5 = pytest.mark.skipif(
    Version(lightning.__version__) < Version("2.5"), reason="Lightning 2.5 resumes otherwise than 2.4"
)


class Killed(Exception):
    """The end of an attempt."""


class Plugin(NamedTuple):
    """A logger to run beside the recorder, and the callbacks that it needs."""

    logger: Logger
    callbacks: Sequence[Callback] = ()


@dataclass(frozen=True)
class Case:
    """One cell of the matrix."""

    save: Save
    """Each three steps; when a validation ends; when an epoch ends; on an exception; what a Trainer does by default."""
    optimizers: Optimizers
    """One, by Lightning; or two, stepped by hand."""
    accumulate: int
    log_every: int
    validation: Validation
    """Once an epoch; twice an epoch; once, with its steps logged."""
    limit: Limit
    kill: int | None
    """The batch in which the first attempt dies; the next two die 4 and 7 batches later. None: not at all."""
    place: Place = "training"
    resume: Resume = "newest"
    """From which checkpoint the second resume goes on: the newest, or the oldest that is left."""

    @property
    def configuration(self) -> str:
        """What all cases of a kind share, such as `steps, automatic 3, validation twice, max_epochs`."""
        return f"{self.save}, {self.optimizers} {self.accumulate}, validation {self.validation}, max_{self.limit}"

    @property
    def variant(self) -> str:
        """Which of its configuration's cases it is, such as `log 5, kill 8`."""
        name = f"log {self.log_every}, kill {self.kill}"
        return (
            name
            + (", in validation" if self.place == "validation" else "")
            + (", older" if self.resume == "older" else "")
        )

    def __str__(self) -> str:
        return f"{self.configuration}, {self.variant}".replace(", ", "-").replace(" ", "_")

    @property
    def uninterrupted(self) -> Case:
        return replace(self, kill=None, place="training", resume="newest")

    @property
    def max_steps(self) -> int:
        """Steps of all optimizers after two and a half epochs."""
        if self.optimizers == "manual":
            return 2 * (2 * (BATCHES // self.accumulate) + BATCHES // 2 // self.accumulate)
        return 2 * -(-BATCHES // self.accumulate) + BATCHES // 2 // self.accumulate


def all_cases() -> Iterator[Case]:
    """Every case in which there is a checkpoint when the first attempt dies."""
    for save, optimizers, accumulate, validation, limit, log_every in itertools.product(
        get_args(Save), get_args(Optimizers), (1, 2, 3), get_args(Validation), get_args(Limit), (1, 5)
    ):
        case = Case(save, optimizers, accumulate, log_every, validation, limit, None)
        for kill in (5, 8, 11, 15):
            if kill < _first_save(case):
                continue
            yield replace(case, kill=kill)
            if save == "exception" and kill in (8, 11):
                yield replace(case, kill=kill, place="validation")
            if save in ("steps", "validation", "epoch") and kill == 15:
                yield replace(case, kill=kill, resume="older")


def configurations() -> dict[str, list[Case]]:
    """The cases of each configuration."""
    found: dict[str, list[Case]] = defaultdict(list)
    for case in all_cases():
        found[case.configuration].append(case)
    return dict(found)


def sample(each: int = 2) -> list[Case]:
    """Some cases of each way to save with each optimization, mixed in all else."""
    found: dict[tuple[Save, Optimizers, int], list[Case]] = defaultdict(list)
    for case in sorted(all_cases(), key=lambda case: zlib.crc32(str(case).encode())):
        found[case.save, case.optimizers, case.accumulate].append(case)
    return [case for cases in found.values() for case in cases[:each]]


def _first_save(case: Case) -> int:
    """Return how many batches a run has seen when it first saves a checkpoint."""
    if case.save == "exception":
        return 0
    if case.save == "steps":
        # Three automatic steps with three accumulated end at the last batch of the epoch, whose window is not full.
        return min(3 * case.accumulate, BATCHES) if case.optimizers == "automatic" else 3 * case.accumulate
    return BATCHES // 2 if case.validation == "twice" and case.save != "epoch" else BATCHES


class Model(LightningModule):
    """Two tiny layers; logs how many batches it has seen and a loss that follows from its weights."""

    seen: torch.Tensor

    def __init__(self, case: Case, kill: int | None) -> None:
        super().__init__()
        self.case, self.kill = case, kill
        self.automatic_optimization = case.optimizers == "automatic"
        self.first, self.second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.fill_(0.25)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor | None:
        seen = int(self.seen)
        if seen == self.kill and self.case.place == "training":
            raise Killed
        loss = self._loss(seen)
        self.seen += 1
        self.log("loss", loss.detach(), on_step=True, on_epoch=True)
        self.log("seen", float(seen))
        if self.automatic_optimization:
            return loss
        self.manual_backward(loss)
        if (batch_idx + 1) % self.case.accumulate == 0:
            for optimizer in self._manual_optimizers():
                optimizer.step()
                optimizer.zero_grad()
        return None

    def on_train_epoch_start(self) -> None:
        for logger in self.loggers:
            logger.log_metrics({"by_hand": float(self.seen)})

    def on_train_epoch_end(self) -> None:
        self.log("epoch_end_seen", float(self.seen))

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        if self.kill is not None and int(self.seen) >= self.kill and self.case.place == "validation" and batch_idx == 1:
            raise Killed
        self.log("val", float(self.seen) + batch_idx / 4, on_step=self.case.validation == "on_step", on_epoch=True)

    def configure_optimizers(self) -> torch.optim.Optimizer | list[torch.optim.Optimizer]:
        if self.automatic_optimization:
            return torch.optim.SGD(self.parameters(), lr=0.01)
        return [torch.optim.SGD(layer.parameters(), lr=0.01) for layer in (self.first, self.second)]

    def train_dataloader(self) -> DataLoader[torch.Tensor]:
        return DataLoader(torch.zeros(BATCHES, 1), batch_size=1)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[torch.Tensor]:
        return DataLoader(torch.zeros(3, 1), batch_size=1)  # type: ignore[arg-type]

    def _loss(self, seen: int) -> torch.Tensor:
        x = torch.tensor([[seen % 5 / 5, 1.0]])
        loss: torch.Tensor = (self.second(self.first(x)) - 1).pow(2).mean()
        return loss

    def _manual_optimizers(self) -> list[LightningOptimizer]:
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        return optimizers


def run(case: Case, folder: Path, plug: Callable[[], Plugin] | None = None) -> Oracle:
    """Train as a case tells, until the fit that is not killed, and return what the recorder saw.

    Args:
        case: The cell of the matrix.
        folder: An empty folder for the checkpoints.
        plug: Makes the logger under test, anew for each attempt as a new process would.
    """
    oracle = Oracle()
    kills = [] if case.kill is None else [case.kill, case.kill + 4, case.kill + 7]
    for attempt, kill in enumerate([*kills, None]):
        found = saved_checkpoints(folder)
        chosen: tuple[Path, Mark] | None = found[-1] if found else None
        if case.resume == "older" and attempt == 2:
            chosen = found[0]
        assert attempt == 0 or chosen is not None, "there is nothing to resume from"
        if not _fit(case, kill, folder, oracle, plug() if plug else None, chosen[0] if chosen else None):
            break
    return oracle


def _fit(
    case: Case, kill: int | None, folder: Path, oracle: Oracle, plugin: Plugin | None, ckpt_path: Path | None
) -> bool:
    """Run one attempt; return whether it was killed."""
    recorder = Recorder(oracle, folder)
    loggers: list[Logger] = [recorder]
    # The monitor logs when a batch starts, before the callbacks that come after it know of the batch.
    callbacks: list[Callback] = [recorder.callback, LearningRateMonitor("step")]
    if plugin is not None:
        loggers.insert(0, plugin.logger)
        callbacks.extend(plugin.callbacks)
    with quiet():
        trainer = Trainer(
            accelerator="cpu",
            default_root_dir=folder,
            logger=loggers,
            callbacks=callbacks + _checkpointing(case, folder / "saved"),
            max_epochs=EPOCHS if case.limit == "epochs" else -1,
            max_steps=case.max_steps if case.limit == "steps" else -1,
            accumulate_grad_batches=case.accumulate if case.optimizers == "automatic" else 1,
            log_every_n_steps=case.log_every,
            val_check_interval=0.5 if case.validation == "twice" else 1.0,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            trainer.fit(Model(case, kill), ckpt_path=ckpt_path)
        except Killed:
            return True
    return False


def _checkpointing(case: Case, folder: Path) -> list[Callback]:
    if case.save == "default":
        return []
    if case.save == "exception":
        return [OnExceptionCheckpoint(folder)]
    if case.save == "steps":
        every = 3 if case.optimizers == "automatic" else 6
        return [ModelCheckpoint(folder, save_top_k=-1, every_n_train_steps=every)]
    return [ModelCheckpoint(folder, save_top_k=-1, save_on_train_epoch_end=case.save == "epoch")]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what Lightning says of runs as small as these; other warnings are errors as everywhere."""
    names = ("lightning.pytorch", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=PossibleUserWarning)
        for message in _SILENCED:
            warnings.filterwarnings("ignore", message=message)
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


_SILENCED = (
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning 2.6.6 with torch 2.13
    "Using ModelCheckpoint with manual optimization and every_n_train_steps",
    "Checkpoint directory .* exists and is not empty",
    # What an OnExceptionCheckpoint makes of a first fit.
    "`.fit\\(ckpt_path=None\\)` was called without a model",
    '.fit\\(ckpt_path="last"\\) is set, but there is no last checkpoint available',
)
