"""What to say to a moment that names a metric, such as `r1?epoch=3`: the step that is meant, where it can be found."""

from __future__ import annotations

from typing import NoReturn

from rewind_logger.errors import PositionError, RewindError
from rewind_logger.format.aggregates import of_points
from rewind_logger.history import catalog, reader
from rewind_logger.history.view import View, resolve
from rewind_logger.sdk import moment
from rewind_logger.sdk.moment import Moment
from rewind_logger.sdk.summary import metric
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef


def parse(text: str, storage: Storage | None, project: str | None) -> Moment:
    """Read a moment as `moment.parse` does; if it names another metric than `_step`, say which step has its value.

    Args:
        text: What a person typed.
        storage: The store to look into; None: none.
        project: That of a moment that names none; None: whichever has a run of that id.

    Raises:
        PositionError: As `moment.parse` does.
        ConfigError: So.
    """
    try:
        return moment.parse(text)
    except PositionError as error:
        _refuse(error, text, storage, project)


def _refuse(error: PositionError, text: str, storage: Storage | None, project: str | None) -> NoReturn:
    """Raise the error, with what a look into the store adds to it."""
    try:
        hint = "" if storage is None or not isinstance(text, str) else _hint(text, storage, project)
    except (RewindError, FileNotFoundError):  # there is no such run, or the store is away: not what was asked
        hint = ""
    if not hint:
        raise error
    raise PositionError(f"{error} {hint}") from None


def _hint(text: str, storage: Storage, project: str | None) -> str:
    """Return where a metric has a value; "" where the text does not ask that."""
    path, _, query = text.partition("?")
    name, equals, value = query.partition("=")
    if not equals or name == "_step" or "&" in query:
        return ""
    named = moment.parse(path)
    if project is None and named.project is None:
        run = catalog.find(storage, named.run)
    else:
        run = named.position(project or "").run
    view = resolve(storage, run, named.revision)
    defined = metric.fold(reader.read_rows(storage, view, "events")).of(name)
    over = defined.step_metric if defined is not None else None
    said = "" if over is None else f"{name!r} is drawn over {over!r}, as define_metric said. "
    return said + _where(storage, view, run, path, name, value)


def _where(storage: Storage, view: View, run: RunRef, path: str, name: str, value: str) -> str:
    """Say at which steps a metric has a value."""
    points = reader.read(storage, view, "metrics", keys=[name])
    if not len(points):
        return f"Run {run}@{view.revision} has no metric {name!r}."
    try:
        wanted = float(value)
    except ValueError:
        wanted = float("nan")
    steps, values = points["clock"].to_pylist(), points["value"].to_pylist()
    at = [step for step, found in zip(steps, values, strict=True) if found == wanted]
    if at:
        return f"{name!r} was last {value} at step {at[-1]}: use {path}?_step={at[-1]} to keep that and all before it."
    known = of_points(points).get([name])[name]
    span = "" if known.min is None else f"; it goes from {known.min} to {known.max}"
    return f"{name!r} was never {value}{span}. history([{name!r}]) of the run shows the step of each value."
