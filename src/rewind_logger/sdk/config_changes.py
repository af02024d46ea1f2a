"""What became of a run's config: which revision set what, when, and at which step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rewind_logger.errors import CorruptError
from rewind_logger.sdk import told
from rewind_logger.sdk.provenance.openings import openings
from rewind_logger.types import OPENING_CLOCK, Row


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """A value of a config that was not there, or another, before."""

    key: str
    """At the top level of the config."""
    value: Any
    """The new value, whole."""
    run: str | None
    """`project/id` of the run that set it; a fork inherits what its parent had set. None where a store does not say."""
    revision: int | None
    """The revision that set it; None where a store does not say."""
    step: int | None
    """The step at which it was set, which a cut before undoes; None: it was given at an opening, which no cut does."""
    time: datetime
    """In UTC."""


def config_changes(rows: Iterable[Row]) -> list[ConfigChange]:
    """Return the changes of the config among rows of the stream `events`, in the order in which they were logged.

    Raises:
        CorruptError: If an event is damaged.
    """
    changes: list[ConfigChange] = []
    present: dict[str, Any] = {}
    run: str | None = None
    revision: int | None = None
    for row in rows:
        for opening in openings([row]):
            run, revision = opening.run, opening.revision
        if "config" not in row.values:
            continue
        try:
            given = dict(told.loads(row.values["config"]))
        except (TypeError, ValueError) as error:
            raise CorruptError(f"An event of step {row.clock} has a config that is no JSON: {error}.") from error
        step = None if row.clock == OPENING_CLOCK else row.clock
        time = told.moment_of(row.time_ms)
        for key, value in given.items():
            if key not in present or present[key] != value or type(present[key]) is not type(value):
                present[key] = value
                changes.append(ConfigChange(key, value, run, revision, step, time))
    return changes
