"""A checkpoint never gets ahead of its history: with the machine and its disk gone, another resumes exactly."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from rewind_logger import open_store
from rewind_logger.storage import open_storage
from tests.conftest import Bucket
from tests.lightning import processes
from tests.lightning.small import DiesAt, Model, column, exact, logger, trainer

STEPS = 20
"""Two and a half epochs, with a validation at the end of each, and a checkpoint every three steps."""


class DiesBeforeItsRow(Callback):
    """Kills the process between the save of a checkpoint and the row of its own step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        if trainer.global_step == self.step:
            # ModelCheckpoint, which comes last of all callbacks, has yet to save.
            trainer.lightning_module.on_train_batch_end = _die  # type: ignore[assignment, method-assign]


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train(bucket: Bucket, machine: Path, version: str, killer: Callback | None) -> None:
    """Train on a machine, a folder that holds all that it has; resume from the newest checkpoint in the store."""
    mine = logger(bucket.url, version, storage_options=bucket.storage_options)
    folder = f"p/{version}/checkpoints"
    names = [info.name for info in open_storage(bucket.url, bucket.storage_options).list(folder)]
    newest = max(names, key=lambda name: int(name[len("step=") : -len(".ckpt")]), default=None)
    made = trainer(
        machine,
        mine,
        *([] if killer is None else [killer]),
        ModelCheckpoint(filename="{step}", every_n_train_steps=3, save_top_k=-1, save_on_train_epoch_end=False),
        max_steps=STEPS,
        num_sanity_val_steps=0,
    )
    made.fit(Model(), ckpt_path=f"{bucket.url}/{folder}/{newest}" if newest else None)


def lose(bucket: Bucket, folder: Path, killer: Callback) -> str:
    """Train, lose the machine, and go on elsewhere; return what the second machine said."""
    options = bucket.storage_options
    environment = {
        "AWS_ENDPOINT_URL": options["client_kwargs"]["endpoint_url"],
        "AWS_DEFAULT_REGION": options["client_kwargs"]["region_name"],
        "AWS_ACCESS_KEY_ID": options["key"],
        "AWS_SECRET_ACCESS_KEY": options["secret"],
    }
    said = ""
    for number, callback in enumerate((killer, None)):
        machine = folder / f"machine{number}"
        machine.mkdir()
        environment["REWIND_LOGGER_SPOOL"] = str(machine / "spool")
        ended = processes.run(folder, train, bucket, machine, "a", callback, **environment)
        assert ended.code == (0 if callback is None else -signal.SIGKILL), ended.stderr
        said = ended.stderr
        assert (machine / "spool").exists(), "there was something to lose"
        shutil.rmtree(machine)
    return said


@pytest.mark.parametrize(
    "kill",
    [pytest.param(kill, marks=() if kill in (4, 9) else pytest.mark.exhaustive) for kill in range(4, STEPS)],
)
def test_the_disk_is_lost_in_any_batch_after_a_checkpoint(bucket: Bucket, tmp_path: Path, kill: int) -> None:
    said = lose(bucket, tmp_path, DiesAt(kill, "SIGKILL"))
    assert column(bucket.url, "p/a", storage_options=bucket.storage_options) == exact(STEPS)
    validations = {step: step + 1.0 for step in (7, 15)}
    found = column(bucket.url, "p/a", "val", bucket.storage_options)
    assert {step: value for step, value in found.items() if step in validations} == validations
    assert "not in the store" not in said


def test_a_row_that_was_lost_with_its_machine_is_named(bucket: Bucket, tmp_path: Path) -> None:
    said = lose(bucket, tmp_path, DiesBeforeItsRow(6))
    whole = exact(STEPS)
    del whole[5]
    assert column(bucket.url, "p/a", storage_options=bucket.storage_options) == whole
    assert "rows of step 5, logged after its checkpoint was saved, are not in the store" in said


@pytest.mark.parametrize("kill", [9, 11])
def test_a_row_that_was_never_logged_is_not_called_lost(tmp_path: Path, kill: int) -> None:
    """An epoch of which nothing is logged at its end: a row might have followed its checkpoint, and none did."""
    store = str(tmp_path / "store")
    for callback in (DiesAt(kill, "SIGKILL"), None):
        callbacks = [ModelCheckpoint(save_last=True), *([] if callback is None else [callback])]
        ended = processes.run(tmp_path, quiet_epochs, store, callbacks)
        assert ended.code == (0 if callback is None else -signal.SIGKILL), ended.stderr
    assert open_store(store).run("p/a").history("loss").to_arrow()["_step"].to_pylist() == [4, 9, 14]
    assert "were lost" not in ended.stderr


def quiet_epochs(store: str, callbacks: list[Callback]) -> None:
    made = trainer(Path(store), logger(store), *callbacks, max_epochs=2, limit_val_batches=0, log_every_n_steps=5)
    made.fit(Model(), ckpt_path="last")
