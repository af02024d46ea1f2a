"""Train a small network on handwritten digits: an ordinary script, run again to resume.

`python train.py` trains; the same command resumes after a crash. With `--version b --lr 0.01 --fork PATH` a new run
begins at a checkpoint of another; that command, too, resumes its run if it is given again.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from pathlib import Path

import torch
from append_only import AppendOnlyLogger
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from rewind_logger import RewindLogger

Batch = tuple[Tensor, ...]


class Digits(LightningModule):
    """Two convolutions and two linear layers for images of 8 × 8 pixels."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, 8)),
            *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU()),
            *(nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10)),
        )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Log the loss of a batch."""
        images, digits = batch
        loss = cross_entropy(self.net(images), digits)
        self.log("train/loss", loss)
        return loss

    def on_train_start(self) -> None:
        """Set the learning rate: a restored optimizer brings that of its checkpoint along."""
        for optimizer in self.trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.hparams["lr"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Use plain stochastic gradient descent with momentum."""
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"], momentum=0.9)


def digits() -> DataLoader[Batch]:
    """Return the 1,797 images with their digits, in a new order each epoch."""
    images, labels = load_digits(return_X_y=True)
    pixels = torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 8, 8)
    return DataLoader(TensorDataset(pixels, torch.tensor(labels)), batch_size=64, shuffle=True)


def main() -> None:
    """Train, or go on training."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default="rewind_logs", help="where runs and checkpoints go: a folder or a URL")
    parser.add_argument("--version", default="a", help="the run's id")
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--fork", help="the checkpoint at which a new run begins")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=200, help="steps from checkpoint to checkpoint")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    quieten()

    seed_everything(args.seed)
    logger = RewindLogger(args.store, name="digits", version=args.version, fork_from=args.fork)
    trainer = Trainer(
        accelerator="cpu",
        max_steps=args.steps,
        log_every_n_steps=1,
        # The second one stands for every logger that only ever adds rows to its file.
        logger=[logger, AppendOnlyLogger(f"append-only-{args.version}.jsonl")],
        callbacks=ModelCheckpoint(filename="{step}", every_n_train_steps=args.every, save_top_k=-1, save_last=True),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    last = Path(logger.log_dir, "checkpoints", "last.ckpt")
    trainer.fit(Digits(args.lr), digits(), ckpt_path=last if last.exists() else args.fork)


def quieten() -> None:
    """Keep Lightning's hints out of the demonstration."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")


if __name__ == "__main__":
    main()
