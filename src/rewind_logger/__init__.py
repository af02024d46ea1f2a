"""Rewind Logger: an experiment history that stays consistent with the model's checkpoints.

Importing this package starts nothing and loads nothing heavy: what a name needs is loaded when it is first used.
"""

from __future__ import annotations

import importlib

from rewind_logger._version import __version__
from rewind_logger.errors import (
    ConfigError,
    CorruptError,
    FencedError,
    FormatVersionError,
    LogValueError,
    PositionError,
    RewindError,
    RunExistsError,
    RunNotFoundError,
    StorageError,
    TransientStorageError,
)

__all__ = [
    "ConfigError",
    "CorruptError",
    "FencedError",
    "FormatVersionError",
    "LogValueError",
    "PositionError",
    "RewindError",
    "RunExistsError",
    "RunNotFoundError",
    "StorageError",
    "TransientStorageError",
    "__version__",
]

_LOADED_ON_DEMAND: dict[str, str] = {}
"""The names whose modules cost more than they should at `import rewind_logger`, with those modules."""


def __getattr__(name: str) -> object:
    """Load what `name` stands for, and keep it (PEP 562)."""
    module = _LOADED_ON_DEMAND.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, also those that are not loaded yet."""
    return __all__
