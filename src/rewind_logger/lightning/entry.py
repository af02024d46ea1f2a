"""Entry points: how Lightning finds our callback by itself. Nothing heavy is imported before a Trainer is made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch import Callback

OFF = "REWIND_LOGGER_CALLBACK"
"""The environment variable that, set to 0, keeps the callback out of every Trainer."""

fabric_in_use = False
"""Whether this process has made a Fabric: then no trainer tells a logger when to open its run."""


def trainer_callbacks() -> list[Callback]:
    """Return the callback that every Trainer gets; it does nothing without a `RewindLogger`."""
    if os.environ.get(OFF) == "0":
        return []
    from rewind_logger.lightning.callback import RewindCallback

    return [RewindCallback()]


def fabric_callbacks() -> list[object]:
    """Return nothing: Fabric calls no hooks by itself. But its loggers open their runs at the first row."""
    global fabric_in_use
    fabric_in_use = True
    return []
