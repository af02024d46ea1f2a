"""Rewind Logger: an experiment history that stays consistent with the model's checkpoints.

Importing this package starts nothing and loads nothing heavy: what a name needs is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from rewind_logger._version import __version__
from rewind_logger.errors import (
    ArtifactNotFoundError,
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

if TYPE_CHECKING:
    from rewind_logger.lightning.logger import RewindLogger
    from rewind_logger.sdk.artifacts.artifact import Artifact
    from rewind_logger.sdk.artifacts.entry import ArtifactEntry
    from rewind_logger.sdk.config import Config
    from rewind_logger.sdk.current import define_metric, finish, log, log_artifact, login, use_artifact
    from rewind_logger.sdk.doctor import doctor
    from rewind_logger.sdk.frames import History
    from rewind_logger.sdk.init import init
    from rewind_logger.sdk.media.audio import Audio
    from rewind_logger.sdk.media.histogram import Histogram
    from rewind_logger.sdk.media.image import Image
    from rewind_logger.sdk.media.table import Table
    from rewind_logger.sdk.media.text import Html, Text
    from rewind_logger.sdk.media.video import Video
    from rewind_logger.sdk.notice import RewindWarning
    from rewind_logger.sdk.run import Run
    from rewind_logger.sdk.store import Store, open_store
    from rewind_logger.sdk.stored import StoredRun
    from rewind_logger.sdk.summary.metric import Metric
    from rewind_logger.sdk.summary.summary import Summary
    from rewind_logger.sdk.sync import sync

    run: Run | None
    config: Config
    summary: Summary

__all__ = [
    "Artifact",
    "ArtifactEntry",
    "ArtifactNotFoundError",
    "Audio",
    "Config",
    "ConfigError",
    "CorruptError",
    "FencedError",
    "FormatVersionError",
    "Histogram",
    "History",
    "Html",
    "Image",
    "LogValueError",
    "Metric",
    "PositionError",
    "RewindError",
    "RewindLogger",
    "RewindWarning",
    "Run",
    "RunExistsError",
    "RunNotFoundError",
    "StorageError",
    "Store",
    "StoredRun",
    "Summary",
    "Table",
    "Text",
    "TransientStorageError",
    "Video",
    "__version__",
    "define_metric",
    "doctor",
    "finish",
    "init",
    "log",
    "log_artifact",
    "login",
    "open_store",
    "sync",
    "use_artifact",
]

_LOADED_ON_DEMAND: dict[str, str] = {
    "Artifact": "rewind_logger.sdk.artifacts.artifact",
    "ArtifactEntry": "rewind_logger.sdk.artifacts.entry",
    "Audio": "rewind_logger.sdk.media.audio",
    "Config": "rewind_logger.sdk.config",
    "Histogram": "rewind_logger.sdk.media.histogram",
    "History": "rewind_logger.sdk.frames",
    "Html": "rewind_logger.sdk.media.text",
    "Image": "rewind_logger.sdk.media.image",
    "RewindLogger": "rewind_logger.lightning.logger",
    "RewindWarning": "rewind_logger.sdk.notice",
    "Metric": "rewind_logger.sdk.summary.metric",
    "Run": "rewind_logger.sdk.run",
    "Store": "rewind_logger.sdk.store",
    "StoredRun": "rewind_logger.sdk.stored",
    "Summary": "rewind_logger.sdk.summary.summary",
    "Table": "rewind_logger.sdk.media.table",
    "Text": "rewind_logger.sdk.media.text",
    "Video": "rewind_logger.sdk.media.video",
    "define_metric": "rewind_logger.sdk.current",
    "doctor": "rewind_logger.sdk.doctor",
    "finish": "rewind_logger.sdk.current",
    "init": "rewind_logger.sdk.init",
    "log": "rewind_logger.sdk.current",
    "log_artifact": "rewind_logger.sdk.current",
    "login": "rewind_logger.sdk.current",
    "open_store": "rewind_logger.sdk.store",
    "sync": "rewind_logger.sdk.sync",
    "use_artifact": "rewind_logger.sdk.current",
}
"""The names whose modules cost more than they should at `import rewind_logger`, with those modules."""

_OF_THE_CURRENT_RUN = frozenset({"config", "run", "summary"})
"""What the run that was opened last has; looked up each time, for there may be another one by then."""


def __getattr__(name: str) -> object:
    """Load what `name` stands for, and keep it (PEP 562)."""
    if name in _OF_THE_CURRENT_RUN:
        found: object = getattr(importlib.import_module("rewind_logger.sdk.current"), name)()
        return found
    module = _LOADED_ON_DEMAND.get(name)
    if module is None:
        from rewind_logger.sdk import absent  # W&B's names get a word on what to do instead

        raise AttributeError(absent.missing(f"module {__name__!r}", name, absent.OF_MODULE), name=name)
    try:
        value: object = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("lightning", "torch"):
            raise
        raise ModuleNotFoundError(
            f"{name} needs a package that is not installed, {missing}: pip install 'rewind-logger[lightning]'",
            name=missing,
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, also those that are not loaded yet."""
    return __all__
