"""The run that was opened last, for scripts that log by `rewind_logger.log(...)`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rewind_logger.errors import ConfigError
from rewind_logger.sdk.artifacts.artifact import Artifact
from rewind_logger.sdk.config import Config
from rewind_logger.sdk.run import Run
from rewind_logger.sdk.summary.metric import Metric
from rewind_logger.sdk.summary.summary import Summary

_last: Run | None = None


def enter(run: Run) -> None:
    """Make `run` the current one."""
    global _last
    _last = run


def run() -> Run | None:
    """Return the current run; None before `init` and after the run's end."""
    return _last if _last is not None and _last._state == "live" else None


def config() -> Config:
    """Return the config of the current run."""
    return _require("config").config


def summary() -> Summary:
    """Return the summary of the current run."""
    return _require("summary").summary


def log(data: Mapping[str, Any], step: int | None = None, commit: bool | None = None) -> None:
    """Log a row to the run that `init` opened last; see `Run.log`.

    Raises:
        ConfigError: If no run is open.
    """
    _require("log()").log(data, step, commit)


def log_artifact(
    artifact_or_path: Artifact | str | os.PathLike[str],
    name: str | None = None,
    type: str | None = None,
    aliases: Sequence[str] | str | None = None,
) -> Artifact:
    """Log an artifact to the run that `init` opened last; see `Run.log_artifact`.

    Raises:
        ConfigError: If no run is open.
    """
    return _require("log_artifact()").log_artifact(artifact_or_path, name, type, aliases)


def use_artifact(
    artifact_or_name: Artifact | str, type: str | None = None, aliases: Sequence[str] | str | None = None
) -> Artifact:
    """Use an artifact in the run that `init` opened last; see `Run.use_artifact`.

    Raises:
        ConfigError: If no run is open.
    """
    return _require("use_artifact()").use_artifact(artifact_or_name, type, aliases)


def define_metric(
    name: str,
    step_metric: str | Metric | None = None,
    step_sync: bool | None = None,
    hidden: bool | None = None,
    summary: str | None = None,
    goal: Literal["minimize", "maximize"] | None = None,
    overwrite: bool | None = None,
) -> Metric:
    """Define a metric of the run that `init` opened last; see `Run.define_metric`.

    Raises:
        ConfigError: If no run is open, or an argument cannot be.
    """
    run = _require("define_metric()")
    return run.define_metric(name, step_metric, step_sync, hidden, summary, goal, overwrite)


def finish(exit_code: int | None = None) -> None:
    """Finish the run that `init` opened last; see `Run.finish`. Without one it does nothing."""
    current = run()
    if current is not None:
        current.finish(exit_code)


def login(*_: Any, **__: Any) -> bool:
    """Return True, for scripts that begin with it: there is no account, so nothing is asked, kept or sent."""
    return True


def _require(what: str) -> Run:
    current = run()
    if current is not None:
        return current
    if _last is not None and _last._state == "forked":
        return _last  # the parent's, which says that what is logged here is dropped: a data loader's worker goes on
    import multiprocessing  # not before it is needed: it is heavy, and loaded where it matters

    of_parent = multiprocessing.parent_process() is not None
    raise ConfigError(
        f"rewind_logger.{what} needs a run that is open: call rewind_logger.init(...) first."
        + (" A run of the process that started this one is not open here." if of_parent else "")
    )
