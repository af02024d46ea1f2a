"""Where a rewind or a fork begins: from what a person gave to a position."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Union

from rewind_logger.errors import ConfigError, PositionError, RunNotFoundError
from rewind_logger.format.wording import kind_of
from rewind_logger.history import catalog, claims, reader, view
from rewind_logger.sdk import metric_moment, moment
from rewind_logger.sdk.metadata import fold
from rewind_logger.sdk.stored import StoredRun
from rewind_logger.storage.base import Storage
from rewind_logger.storage.redact import public_text
from rewind_logger.types import Position, RunRef

Given = Union[str, "os.PathLike[str]", StoredRun]
"""A moment, the path of a checkpoint, or a run that was read."""


@dataclass(frozen=True, slots=True)
class Source:
    """A position to go on from."""

    position: Position
    typed: bool
    """Whether a person typed it, rather than a checkpoint holding it."""
    storage: Storage | None = None
    """Its store, if it is another one."""


def find(
    given: Given,
    argument: str,
    *,
    storage: Storage | None,
    project: str,
    step: object = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Source:
    """Find the position that was given.

    Args:
        given: What was given.
        argument: As what, for messages: "resume_from" or "fork_from".
        storage: The store; None to take for granted that a run that is named exists.
        project: The project of a moment that names none.
        step: What was given beside it: the last step to keep (inclusive). With it, `given` may be a display name.
        storage_options: For a checkpoint that lies where these are needed.

    Raises:
        PositionError: If it is no position.
        RunNotFoundError: If no run has that name, or several have.
        ConfigError: If it cannot be what is asked for.
    """
    what = f"{argument}={shown(given)}"
    kept = None if step is None else moment.check_step(step, what) + 1
    if isinstance(given, StoredRun):
        if kept is not None and given.position.next_step is not None:
            raise PositionError(f"{what} names a step, and step={step} another: give one of them.")
        position = given.position if kept is None else _at(given.position, kept)
        return Source(position, True, None if storage is None or given._storage.url == storage.url else given._storage)
    if not isinstance(given, (str, os.PathLike)):
        raise ConfigError(f"{what} is {kind_of(given)}: give text such as {moment.FORM}, or a checkpoint's path.")
    if moment.is_checkpoint(given):
        if kept is not None:
            raise PositionError(f"{what} is a checkpoint, which holds its step: leave out step={step}.")
        return _of_checkpoint(given, storage, storage_options)
    text = os.fspath(given)
    if kept is None:
        return Source(metric_moment.parse(text, storage, project).position(project), True)
    return Source(_at(_by_name(text, what, storage, project), kept), True)


def shown(given: Given | None) -> str:
    """Return what was given, for messages and for what is kept: without credentials in a URL."""
    return public_text(repr(given) if isinstance(given, str) else str(given))


def _at(position: Position, next_step: int) -> Position:
    return Position(position.run, position.revision, next_step)


def _by_name(text: str, what: str, storage: Storage | None, project: str) -> Position:
    """Return the end of the run that has this id or, if none has, this display name."""
    if storage is None:
        return Position(RunRef(project, text), None, None)
    try:
        named = moment.parse(text)
    except (PositionError, ConfigError):
        pass  # a display name may hold anything
    else:
        if named.step is not None:
            raise PositionError(f"{what} names a step, and step= another: give one of them.")
        position = named.position(project)
        if named.project is not None or named.revision is not None or claims.exists(storage, position.run):
            return position
    found = [run for run in catalog.runs(storage, project) if _name(storage, run) == text]
    if not found:
        raise RunNotFoundError(
            f"{what}: no run of project {project!r} in {storage.url} has that id or that name."
            f"{catalog.there_is(storage, RunRef(project, text))}"
        )
    if len(found) > 1:
        several = ", ".join(run.id for run in found)
        raise RunNotFoundError(f"{what}: several runs of project {project!r} have that name: {several}. Give an id.")
    return Position(found[0], None, None)


def _name(storage: Storage, run: RunRef) -> str | None:
    """Return the display name of a run."""
    try:
        return fold(reader.read_rows(storage, view.resolve(storage, run), "events")).labels.name
    except RunNotFoundError:  # its first opening was cut short
        return None


def _of_checkpoint(
    path: str | os.PathLike[str], storage: Storage | None, storage_options: Mapping[str, Any] | None
) -> Source:
    """Return the position that a checkpoint holds."""
    # By name, since that layer lies above this one. It reads a checkpoint without torch.
    checkpoints = importlib.import_module("rewind_logger.lightning.checkpoint")
    position, other = checkpoints.read_source(path, storage, storage_options)
    return Source(position, False, other)
