"""A Lightning training that dies in the middle, and the same call again: it resumes, and its history rewinds.

Run it with `python 01_resume.py`. It writes to ./rewind_logs.
"""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from rewind_logger import RewindLogger, open_store

Batch = tuple[Tensor, ...]


class Line(LightningModule):
    """Learns y = 2x."""

    def __init__(self, dies_at: int | None = None) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.dies_at = dies_at

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Log the loss, unless it is time to die."""
        if self.global_step == self.dies_at:
            raise RuntimeError("the power fails")
        loss = nn.functional.mse_loss(self.layer(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Use plain gradient descent."""
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(dies_at: int | None = None) -> None:
    """Train 100 steps, with a checkpoint each 20: whatever script calls this may be killed and started again."""
    x = torch.rand(256, 1)
    data: Dataset[Batch] = TensorDataset(x, 2 * x)
    trainer = Trainer(
        logger=RewindLogger("rewind_logs", name="lines", version="a"),
        callbacks=ModelCheckpoint(every_n_train_steps=20, save_last=True),
        max_steps=100,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Line(dies_at), DataLoader(data, batch_size=32), ckpt_path="last")


def main() -> None:
    """Train, die at step 50, train again."""
    try:
        train(dies_at=50)
    except RuntimeError as error:
        print(f"Died: {error}.")
    train()

    store = open_store("rewind_logs")
    for revision in store.run("lines/a").revisions:
        state = "archived" if revision.archived else "the run"
        print(f"{revision.immutable_id} ({state}): {store.run(f'lines/{revision.immutable_id}').history()}")


if __name__ == "__main__":
    main()
