"""A logger as most are: it adds lines to a file, and knows nothing of checkpoints."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger


class AppendOnlyLogger(Logger):
    """Write each row as a line of JSON; a resumed training adds its rows to the same file."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = Path(path)

    @property
    def name(self) -> str:
        """The file's name."""
        return self._path.stem

    @property
    def version(self) -> str:
        """Nothing: there is one file."""
        return ""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""
