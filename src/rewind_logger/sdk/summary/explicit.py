"""Explicit values of a summary: set by hand, as events. They win over what follows from the rows."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from rewind_logger.errors import CorruptError
from rewind_logger.sdk import told
from rewind_logger.sdk.plain import Json, plain
from rewind_logger.types import Row

EVENT = "summary"
"""The name under which the stream `events` holds changes of explicit values."""

_FLOAT = "_float"
"""JSON has no NaN and no infinity: such a float is an object with this key alone, and its text."""


def to_event(values: Mapping[str, Any], removed: Iterable[str] = ()) -> str:
    """Return the value of an event that records changes.

    Args:
        values: The new values.
        removed: Names that have none any more.
    """
    change: dict[str, Any] = {}
    if values:
        change["set"] = dict(values)
    if removed:
        change["removed"] = list(removed)
    return _dumps(change)


def apply(values: dict[str, Any], text: str) -> None:
    """Apply to explicit values what an event records.

    Raises:
        ValueError: If it records nothing; so TypeError and AttributeError.
    """
    change = _decoded(told.loads(text))
    values.update(change.get("set", {}))
    for name in change.get("removed", ()):
        values.pop(name, None)


def fold(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the explicit values after these rows of the stream `events`, in the order in which they were logged.

    Raises:
        CorruptError: If an event is damaged.
    """
    values: dict[str, Any] = {}
    for row in rows:
        if EVENT in row.values:
            try:
                apply(values, str(row.values[EVENT]))
            except (TypeError, ValueError, AttributeError, RecursionError) as error:
                raise CorruptError(f"An event of step {row.clock} has a summary that is none: {error!r}.") from error
    return values


def _dumps(value: object) -> str:
    return json.dumps(_encoded(value), allow_nan=False, separators=(",", ":"))


def _encoded(value: Any) -> Json:
    """Return what JSON can hold of a value, floats that it has not as objects."""
    if isinstance(value, Mapping):
        return {key if type(key) is str else str(key): _encoded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encoded(item) for item in value]
    number = value if type(value) is float else _float(value)
    if number is not None and not math.isfinite(number):
        return {_FLOAT: str(number)}
    return plain(value)


def _float(value: Any) -> float | None:
    """Return the number that a value of numpy, torch or the like is, if it is a float that JSON has not."""
    text = plain(value)
    if isinstance(value, (str, bytes)) or text not in ("nan", "inf", "-inf"):
        return None
    return float(str(text))


def _decoded(value: Json) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_FLOAT}:
            return float(str(value[_FLOAT]))
        return {key: _decoded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    return value
