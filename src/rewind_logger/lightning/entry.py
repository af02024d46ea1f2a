"""Entry points: how Lightning finds our callback by itself. Nothing heavy is imported before a Trainer is made."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lightning.pytorch import Callback

OFF = "REWIND_LOGGER_CALLBACK"
"""The environment variable that, set to 0, keeps the callback out of every Trainer."""

_made: Literal["trainer", "fabric"] | None = None  # which of them this process made last


def is_alone(step: int | None) -> bool:
    """Say whether nobody tells a logger when to open its run, so that a row with this step must.

    A Fabric has no `fit`. Where there was no Trainer yet, one may come: rows without a step wait for it.
    """
    return _made == "fabric" or (_made is None and step is not None)


def trainer_callbacks() -> list[Callback]:
    """Return the callback that every Trainer gets; it does nothing without a `RewindLogger`."""
    global _made
    if os.environ.get(OFF) == "0":
        return []
    _made = "trainer"
    from rewind_logger.lightning.callback import RewindCallback

    return [RewindCallback()]


def standalone_trainer_callbacks() -> list[Callback]:
    """Return the same for a Trainer of the package `pytorch_lightning`.

    It takes loggers and callbacks of `lightning`, which is imported only if there is one of ours.
    """
    return trainer_callbacks() if "rewind_logger.lightning.logger" in sys.modules else []


def fabric_callbacks() -> list[object]:
    """Return nothing: Fabric calls no hooks by itself. But its loggers open their runs at the first row."""
    global _made
    _made = "fabric"
    return []
