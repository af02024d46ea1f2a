"""From what a person puts into a config to what JSON can hold, without running any of it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from argparse import Namespace
from collections.abc import Mapping
from enum import Enum
from typing import Any, Union

Json = Union[None, bool, int, float, str, "list[Json]", "dict[str, Json]"]
"""What a config can hold."""


def plain(value: object) -> Json:
    """Return a copy of `value` that JSON can hold.

    Mappings, dataclasses and namespaces become dicts, sequences and sets lists, numbers of numpy, torch and the like
    the number. NaN and the infinities, which JSON has not, and everything else become text. Nothing that could be
    called is called: a function or class becomes its name.

    Example:
        >>> plain({"lr": 0.1, "layers": (64, 64), "loss": max, 3: None})
        {'lr': 0.1, 'layers': [64, 64], 'loss': 'builtins.max', '3': None}
    """
    return _plain(value, ())


def dumps(value: object) -> str:
    """Return the JSON text of `plain(value)`."""
    return json.dumps(plain(value), allow_nan=False, separators=(",", ":"))


def _plain(value: Any, within: tuple[int, ...]) -> Json:
    """`plain`, within the containers of these ids."""
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value  # type: ignore[no-any-return]
    if kind is float:
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Enum):
        return str(value)
    if issubclass(kind, int):  # subclasses, by the slot of the base: they may have an `__int__` of their own
        return int.__int__(value)
    if issubclass(kind, float):
        return _plain(float.__float__(value), within)
    if issubclass(kind, str):
        return str.__str__(value)
    if id(value) in within:
        return "…"  # a container that holds itself
    inside = (*within, id(value))
    if isinstance(value, Mapping):
        return {key if type(key) is str else _text(key): _plain(item, inside) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, inside) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(item, inside) for item in value), key=str)
    if isinstance(value, type) or callable(value):
        return _name(value)
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name), inside) for field in dataclasses.fields(value)}
    if isinstance(value, Namespace):
        return {name: _plain(item, inside) for name, item in vars(value).items()}
    if isinstance(value, os.PathLike):
        return _text(value)
    return _number(value, inside)


def _number(value: Any, within: tuple[int, ...]) -> Json:
    """Return the one element of a numpy or torch number, or the text of anything else."""
    # Looked up on the class, for an instance may answer to every name, as mocks do.
    if callable(getattr(type(value), "item", None)) and getattr(type(value), "shape", None) is not None:
        try:
            if math.prod(value.shape) == 1:
                return _plain(value.item(), (*within, id(value)))
        except Exception:
            return _text(value)
    return _text(value)


def _name(value: Any) -> str:
    """Name a function, a class or another callable as an import would, which is the same in every process."""
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(kind, '__module__', None) or '?'}.{kind.__qualname__}"


def _text(value: object) -> str:
    """Return the text of anything, also where its own `__str__` fails."""
    try:
        return str(value)
    except Exception:
        return f"<{type(value).__qualname__}>"
