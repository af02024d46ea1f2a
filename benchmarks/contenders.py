"""What is measured: each contender opens a run in a folder, gives a function that logs one row, and closes the run.

Each is used as its documentation tells, offline, and without the extras that not all of them have (system metrics,
console capture).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

Row = dict[str, float]
Log = Callable[[Row, int], object]
Contender = Callable[[Path], AbstractContextManager[Log]]


@contextmanager
def floor(folder: Path) -> Iterator[Log]:
    """A JSON line, written and flushed by hand: what people do who want no logger."""
    with open(folder / "log.jsonl", "w") as file:

        def log(row: Row, step: int) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        yield log


@contextmanager
def rewind_logger(folder: Path) -> Iterator[Log]:
    """This package, its journal on."""
    from rewind_logger import init

    run = init(project="bench", dir=str(folder))
    yield lambda row, step: run.log(row)
    run.finish()


@contextmanager
def csv_logger(folder: Path) -> Iterator[Log]:
    """Lightning's CSVLogger, called as the Trainer calls it: `save` follows every row (it writes every 100th time)."""
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(folder)

    def log(row: Row, step: int) -> None:
        logger.log_metrics(row, step=step)  # type: ignore[arg-type]  # it only reads: no copy on the hot path
        logger.save()

    yield log
    logger.finalize("success")


@contextmanager
def tensorboard(folder: Path) -> Iterator[Log]:
    """TensorBoard's event files, written as Lightning's TensorBoardLogger does: a scalar a metric."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(folder)

    def log(row: Row, step: int) -> None:
        for key, value in row.items():
            writer.add_scalar(key, value, step)

    yield log
    writer.close()


@contextmanager
def trackio(folder: Path) -> Iterator[Log]:
    """Trackio with its local database, which lies where TRACKIO_DIR said when it was imported."""
    import trackio

    run = trackio.init(project="bench", auto_log_gpu=False, auto_log_cpu=False)
    yield lambda row, step: run.log(row)
    run.finish()


@contextmanager
def wandb(folder: Path) -> Iterator[Log]:
    """W&B, offline."""
    import wandb

    settings = wandb.Settings(console="off", silent=True, x_disable_stats=True)
    run = wandb.init(project="bench", mode="offline", dir=folder, settings=settings)
    yield lambda row, step: run.log(row)
    run.finish()


CONTENDERS: dict[str, Contender] = {
    "rewind-logger": rewind_logger,
    "JSON line (floor)": floor,
    "CSVLogger": csv_logger,
    "trackio": trackio,
    "wandb offline": wandb,
    "TensorBoard": tensorboard,
}
