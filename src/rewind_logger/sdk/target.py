"""From the arguments of `init` to the run that is meant, and what is wanted of it."""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from typing import Any, Literal

from rewind_logger.errors import ConfigError, PositionError
from rewind_logger.format.run_names import check_name
from rewind_logger.history.opening import OpenRequest
from rewind_logger.sdk import source
from rewind_logger.sdk.source import Given, shown
from rewind_logger.storage import Storage
from rewind_logger.types import RunRef

DEFAULT_PROJECT = "default"

Resume = Literal["allow", "must", "never", True, False]

_ID_CHARACTERS = string.digits + string.ascii_lowercase


def new_id() -> str:
    """Return an id for a run that was given none."""
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(8))


def target(
    storage: Storage | None,
    *,
    project: str | None = None,
    entity: str | None = None,
    id: str | None = None,
    resume: object = None,
    resume_from: Given | None = None,
    fork_from: Given | None = None,
    step: object = None,
    storage_options: Mapping[str, Any] | None = None,
) -> tuple[RunRef, OpenRequest]:
    """Return the run that is meant, and what is wanted of it; the arguments are those of `init`.

    Without a storage nothing is looked up: what is named is taken to be there.

    Raises:
        ConfigError: If they contradict each other; the message names the right call.
        PositionError: If the place to go back to is none.
        RunNotFoundError: If a run is named by a display name that none has, or several have.
    """
    if id is not None:
        check_name("run id", id)
    _check_together(resume, resume_from, fork_from, step)
    within = _project(project, entity)
    if resume_from is not None:
        return _rewind(storage, within, id, resume_from, step, storage_options, explicit=project is not None)
    if fork_from is not None:
        return _fork(storage, within, id, fork_from, step, storage_options, explicit=project is not None)
    if resume == "auto":
        raise ConfigError(
            "resume='auto' would guess which run is meant: give the run an id that the next process has too, with "
            "resume='allow'."
        )
    if resume is not None and not isinstance(resume, bool) and resume not in ("allow", "must", "never"):
        raise ConfigError(f"resume={resume!r}: use 'allow', 'must' or 'never'.")
    if resume == "must" and id is None:
        raise ConfigError("resume='must' needs the id of the run to go on with: give id=.")
    wanted: Literal["allow", "must", "never"] = (
        "must" if resume == "must" else "never" if resume == "never" else "allow"
    )
    return RunRef(within, id or new_id()), OpenRequest(resume=wanted)


def _check_together(resume: object, resume_from: object, fork_from: object, step: object) -> None:
    """Refuse arguments that exclude one another."""
    given = [
        name
        for name, value in (("resume", resume or None), ("resume_from", resume_from), ("fork_from", fork_from))
        if value is not None
    ]
    if len(given) > 1:
        raise ConfigError(
            f"{' and '.join(given)} exclude one another: resume goes on at the end of a run, resume_from goes back in "
            "it, fork_from begins a new one from it. Give one of them."
        )
    if step is not None and given not in (["resume_from"], ["fork_from"]):
        raise ConfigError("step= says where to go back to: give it with resume_from= or fork_from=.")


def _project(project: str | None, entity: str | None) -> str:
    """Return the project, below its entity if there is one."""
    name = DEFAULT_PROJECT if project is None else check_name("project", project)
    return name if entity is None else f"{check_name('entity', entity)}/{name}"


def _rewind(
    storage: Storage | None,
    project: str,
    id: str | None,
    given: Given,
    step: object,
    storage_options: Mapping[str, Any] | None,
    *,
    explicit: bool,
) -> tuple[RunRef, OpenRequest]:
    what = f"resume_from={shown(given)}"
    found = source.find(
        given, "resume_from", storage=storage, project=project, step=step, storage_options=storage_options
    )
    at = found.position
    if found.storage is not None:
        raise ConfigError(f"{what} lies in another store, {found.storage.url}: fork it into this one with fork_from=.")
    if id is not None and id != at.run.id:
        raise ConfigError(
            f"{what} goes back in run {at.run.id!r}, and id={id!r} is another: leave out id, or begin a new run from "
            f"there with fork_from={shown(given)}, id={id!r}."
        )
    if explicit and at.run.project != project:
        raise ConfigError(
            f"{what} goes back in a run of project {at.run.project!r}, and not of {project!r}: leave out project and "
            f"entity, or begin a new run there with fork_from={shown(given)}."
        )
    if at.revision is None and at.next_step is None:
        raise PositionError(
            f"{what} names no step: use {at.run.id}?_step=N to keep step N and what is before it, or id={at.run.id!r}, "
            "resume='must' to go on at the end."
        )
    return at.run, OpenRequest(at=at, typed=found.typed, resume="must", reason=_reason(what, step))


def _fork(
    storage: Storage | None,
    project: str,
    id: str | None,
    given: Given,
    step: object,
    storage_options: Mapping[str, Any] | None,
    *,
    explicit: bool,
) -> tuple[RunRef, OpenRequest]:
    what = f"fork_from={shown(given)}"
    found = source.find(
        given, "fork_from", storage=storage, project=project, step=step, storage_options=storage_options
    )
    run = RunRef(project if explicit else found.position.run.project, id or new_id())
    if run == found.position.run and found.storage is None:
        raise ConfigError(
            f"{what} with id={id!r} would fork the run onto itself: leave out id to begin a new run, or go back in "
            f"this one with resume_from={shown(given)}."
        )
    request = OpenRequest(at=found.position, typed=found.typed, source=found.storage, reason=_reason(what, step))
    return run, request


def _reason(what: str, step: object) -> str:
    return what if step is None else f"{what}, step={step}"
