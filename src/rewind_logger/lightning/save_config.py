"""LightningCLI's config, kept in the run."""

from __future__ import annotations

import json
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.cli import SaveConfigCallback as LightningSaveConfigCallback

from rewind_logger.lightning.logger import RewindLogger
from rewind_logger.storage.redact import lasting_url

KEY = "cli"
"""Under which the run's config holds that of the command line."""


class SaveConfigCallback(LightningSaveConfigCallback):
    """Keeps what the command line and its files said in the config of the run, under `cli`.

    All but credentials: `storage_options`, and what opens the place in a URL. Lightning's own writes `config.yaml` into
    the store, and refuses to when another run, or the same one before it was resumed, has written it.

    Example:
        `LightningCLI(MyModel, save_config_callback=SaveConfigCallback)`

    Args:
        parser: Given by LightningCLI, as the others are.
        config: What was parsed.
        config_filename: Of the file, if one is written too.
        overwrite: Whether that may replace an earlier one.
        multifile: Whether it may be several.
        save_to_log_dir: Whether to write the file too.
    """

    def __init__(
        self,
        parser: LightningArgumentParser,
        config: Namespace,
        config_filename: str = "config.yaml",
        overwrite: bool = False,
        multifile: bool = False,
        save_to_log_dir: bool = False,
    ) -> None:
        super().__init__(parser, config, config_filename, overwrite, multifile, save_to_log_dir)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the config to the loggers, which keep it with the run that a fit opens."""
        values = _without_credentials(json.loads(self.parser.dump(self.config, format="json", skip_none=False)))
        for logger in trainer.loggers:
            if isinstance(logger, RewindLogger):
                logger.log_hyperparams({KEY: values})


def _without_credentials(value: Any) -> Any:
    """Return a config without the options of stores and without credentials in URLs, at any depth."""
    if isinstance(value, dict):
        return {key: _without_credentials(inner) for key, inner in value.items() if key != "storage_options"}
    if isinstance(value, list):
        return [_without_credentials(inner) for inner in value]
    return lasting_url(value) if isinstance(value, str) and "://" in value else value
