"""Fork three runs from one checkpoint, with other learning rates, and compare them with polars and with pandas.

Run it with `python 03_compare_forks.py`. It writes to ./rewind_logs.
"""

from __future__ import annotations

import pandas as pd
import polars as pl
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from rewind_logger import RewindLogger, open_store

Batch = tuple[Tensor, ...]

CHECKPOINT = "rewind_logs/lines/base/checkpoints/step=50.ckpt"


class Line(LightningModule):
    """Learns y = 2x."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(1, 1)
        self.lr = lr

    def on_train_start(self) -> None:
        """Keep the learning rate that was given: the checkpoint has brought its own."""
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = self.lr

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Log the loss."""
        loss = nn.functional.mse_loss(self.layer(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Use plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def train(name: str, lr: float, steps: int, fork_from: str | None = None) -> None:
    """Train up to a number of steps, from the checkpoint that is forked if there is one."""
    x = torch.linspace(0, 1, 32).unsqueeze(1)
    data: Dataset[Batch] = TensorDataset(x, 2 * x)
    trainer = Trainer(
        logger=RewindLogger("rewind_logs", name="lines", version=name, fork_from=fork_from),
        callbacks=ModelCheckpoint(filename="{step}", every_n_train_steps=50),
        max_steps=steps,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Line(lr), DataLoader(data, batch_size=32), ckpt_path=fork_from)


def main() -> None:
    """Train a base, fork it, compare."""
    torch.manual_seed(0)
    train("base", lr=0.02, steps=60)
    for lr in (0.01, 0.1, 0.5):
        train(f"lr-{lr}", lr, steps=100, fork_from=CHECKPOINT)

    runs = open_store("rewind_logs").runs("lines")
    # Each fork has the 50 steps of its parent too: its history is whole.
    forks = pl.concat(
        run.history("loss").to_polars().with_columns(run=pl.lit(run.id), lr=run.config["lr"])
        for run in runs
        if run.id != "base"
    )
    table = forks.group_by("run", "lr").agg(rows=pl.len(), last=pl.col("loss").last()).sort("last")
    print(table)

    # The same in pandas, as one column a run.
    curves = pd.concat({run.id: run.history("loss").to_pandas().set_index("_step")["loss"] for run in runs}, axis=1)
    print(curves.iloc[[0, 49, 50, 99]])


if __name__ == "__main__":
    main()
