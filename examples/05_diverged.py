"""A run diverges: go back to the last checkpoint before it did, and try again with a lower learning rate.

Run it with `python 05_diverged.py`. It writes to ./rewind_logs.
"""

from __future__ import annotations

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from rewind_logger import RewindLogger, open_store

Batch = tuple[Tensor, ...]

STEPS = 80


class Line(LightningModule):
    """Learns y = 2x, with a learning rate that rises to `peak`."""

    def __init__(self, peak: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(1, 1)
        self.peak = peak

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Log the loss and the learning rate."""
        lr = self.peak * (self.global_step + 1) / STEPS
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = lr
        loss = nn.functional.mse_loss(self.layer(batch[0]), batch[1])
        self.log_dict({"loss": loss, "lr": lr})
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Use plain gradient descent."""
        return torch.optim.SGD(self.parameters())


def train(peak: float, checkpoint: str | None = None) -> float:
    """Train until the last step, or until the loss is beyond all bounds; return it."""
    x = torch.linspace(0, 1, 32).unsqueeze(1)
    data: Dataset[Batch] = TensorDataset(x, 2 * x)
    trainer = Trainer(
        logger=RewindLogger("rewind_logs", name="lines", version="a"),
        callbacks=[
            ModelCheckpoint(filename="{step}", every_n_train_steps=20, save_top_k=-1),
            EarlyStopping("loss", divergence_threshold=1e3, patience=STEPS, check_on_train_epoch_end=True),
        ],
        max_steps=STEPS,
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Line(peak), DataLoader(data, batch_size=32), ckpt_path=checkpoint)
    return float(trainer.callback_metrics["loss"])


def main() -> None:
    """Train, diverge, go back, train."""
    torch.manual_seed(0)
    store = open_store("rewind_logs")
    peak = 2.0
    loss = train(peak)
    while not loss < 1e3:
        run = store.run("lines/a")
        rows = run.history("loss").to_arrow().to_pydict()
        _, best = min(zip(rows["loss"], rows["_step"], strict=True))
        checkpoint = [saved for saved in run.checkpoints if saved.next_step <= best][-1]
        print(f"Diverged after step {best}: back to {checkpoint.next_step}, with half of the learning rate.")
        peak /= 2
        # The path is all there is to it: the model is loaded, the run rewound, and the hyperparameter changed.
        loss = train(peak, checkpoint.path)

    for revision in store.run("lines/a").revisions:
        line = store.run(f"lines/{revision.immutable_id}")
        print(f"{line.immutable_id}: peak {line.config['peak']}, last loss {line.summary['loss']:.3g}")


if __name__ == "__main__":
    main()
