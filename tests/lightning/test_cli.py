"""The logger from LightningCLI: by its class path, with its docstring for a help, and started twice."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch.cli import LightningCLI

from rewind_logger import open_store
from rewind_logger.lightning.save_config import SaveConfigCallback
from tests.lightning.small import Model, column, exact

Script = Callable[..., LightningCLI]

CONFIG = """
model:
  lr: 0.1
trainer:
  accelerator: cpu
  devices: 1
  log_every_n_steps: 1
  limit_val_batches: 0
  enable_progress_bar: false
  enable_model_summary: false
  max_steps: 6
  callbacks:
    - class_path: lightning.pytorch.callbacks.ModelCheckpoint
      init_args: {every_n_train_steps: 4, save_last: true, filename: "{step}"}
  logger:
    class_path: rewind_logger.RewindLogger
    init_args: {name: p, version: a, tags: [digits, small], config: {seed: 3}, storage_options: {auto_mkdir: true}}
"""


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Script:
    """A user's script `train.py`, and what is typed after it."""

    def run(*arguments: str) -> LightningCLI:
        monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # of Lightning's own calls
        monkeypatch.setattr(sys, "argv", ["train.py", "fit", *arguments])
        return LightningCLI(Model, save_config_callback=SaveConfigCallback, seed_everything_default=7)

    return run


def test_the_same_command_twice(cli: Script, store: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("{name: p,", f"{{save_dir: {store}, name: p,"))
    cli("--config", str(config))
    cli("--config", str(config), "--ckpt_path", "last", "--trainer.max_steps", "9")
    read = open_store(store).run("p/a")
    assert column(store, "p/a") == exact(9)
    assert read.tags == ("digits", "small")
    assert (read.config["seed"], read.config["cli"]["trainer"]["max_steps"]) == (3, 9)
    assert open_store(store).run("p/a@1").config["cli"]["model"] == {"lr": 0.1}
    assert "storage_options" not in str(read.config), "they may hold credentials"
    assert sorted(path.name for path in Path(store).iterdir()) == ["blobs", "p"], "nothing else lies in the store"


def test_help_tells_what_the_arguments_mean(cli: Script, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli("--trainer.logger.help", "rewind_logger.RewindLogger")
    assert ended.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "Log to a folder or an object store" in said
    assert 'What a resume from a checkpoint does: "rewind" the run to it, "fork" a new run from it, or "error".' in said
    for argument in ("save_dir", "version", "on_resume", "fork_from", "storage_options"):
        assert f"--trainer.logger.{argument}" in said


def test_a_wrong_argument_is_named(cli: Script, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli("--trainer.logger", "rewind_logger.RewindLogger", "--trainer.logger.on_resume", "rewnd")
    assert "on_resume" in capsys.readouterr().err
