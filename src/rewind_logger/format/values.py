"""From what a user logs to flat scalars: the careful path.

A row whose values are all of `PLAIN_TYPES` and whose keys have passed `key_fault` once needs none of this; encoding it
still raises `OverflowError` for an int beyond 64 bits and `UnicodeEncodeError` for half of a surrogate pair, and then
`flatten` says which key it was.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from rewind_logger.types import Scalar

PLAIN_TYPES: frozenset[type] = frozenset({float, int, bool, str})
"""The exact types that are kept as they are: `set(map(type, values.values())) <= PLAIN_TYPES`."""

INT_MIN, INT_MAX = -(2**63), 2**64 - 1
"""What an int may be (both inclusive): all that fits 64 bits, signed or not."""

MAX_KEY_BYTES = 1024
MAX_TEXT_BYTES = 16 * 2**20
MAX_DEPTH = 64

RESERVED_KEYS = frozenset({"_step", "_timestamp", "_runtime"})
"""Columns that a history has anyway."""

_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Unfit(Exception):
    """Why a value cannot be kept, as the end of a sentence that begins with its key."""


Take = Callable[[str, Any], bool]
"""Is given the flat name of a value that is no scalar, and the value; says whether it keeps it."""


def flatten(values: Mapping[str, Any], take: Take | None = None) -> tuple[dict[str, Scalar], dict[str, str]]:
    """Turn what was logged into flat names and plain scalars.

    Nested mappings are joined with `/`; None is left out, for it says that there is no value. Subclasses of int, float
    and str, and numbers of numpy, torch and the like (a scalar, or an array or tensor with one element, on any device)
    become the plain value. Nothing else is called or converted: `log` must not run code that a user did not ask for.

    Args:
        values: What the user gave.
        take: Asked about each value that is no scalar, before it is refused.

    Returns:
        The values that can be kept, in order, and for each key that cannot a sentence that names the key, says what is
        wrong and what to do.

    Example:
        >>> flatten({"loss": 0.5, "val": {"acc": 1, "skipped": None}, "image": b"..."})[0]
        {'loss': 0.5, 'val/acc': 1}
    """
    good: dict[str, Scalar] = {}
    bad: dict[str, str] = {}
    _flatten_into(good, bad, "", values, 0, take)
    return good, bad


def _flatten_into(
    good: dict[str, Scalar], bad: dict[str, str], prefix: str, values: Any, depth: int, take: Take | None
) -> None:
    """Flatten one level; `prefix` is empty or ends with `/`."""
    try:
        items = list(values.items())
    except Exception as error:
        name = prefix.removesuffix("/")
        bad[name] = f"{_shown(name)} is a mapping that cannot be read ({type(error).__name__}: {error}): log a dict."
        return
    for key, value in items:
        if value is None:
            continue
        if not issubclass(type(key), str):
            label = f"{prefix}{_label(key)}"
            bad[label] = f"{_shown(label)} has a key that is {_kind(key)}, not a str: use str(key) if that is its name."
            continue
        name = prefix + str.__str__(key)
        if issubclass(type(value), Mapping):
            if depth == MAX_DEPTH:
                bad[name] = f"{_shown(name)} is nested more than {MAX_DEPTH} deep: does the dict hold itself?"
            else:
                _flatten_into(good, bad, f"{name}/", value, depth + 1, take)
            continue
        fault = key_fault(name) if key or not prefix else f"{_shown(name)} ends with an empty key: give it a name."
        if fault is None and name in good:
            fault = f"{_shown(name)} is given twice, once of them nested; the first value is kept: rename one."
        if fault is None:
            try:
                good[name] = _scalar(value)
                continue
            except _Unfit as unfit:
                if take is not None and take(name, value):
                    continue
                fault = f"{_shown(name)} {unfit}."
        bad[name] = fault


def key_fault(key: object) -> str | None:
    """Say what is wrong with a full, flat key.

    Returns:
        None if nothing is; otherwise a sentence that names the key and says what to do.
    """
    if not isinstance(key, str):
        return f"A key is {_kind(key)}, not a str: use str(key) if that is its name."
    if not key:
        return "A key is empty: give the value a name."
    if key in RESERVED_KEYS:
        return f"{_shown(key)} is reserved for a column that every history has: use another name, such as {key[1:]!r}."
    if _SURROGATE.search(key):
        return f"{_shown(key)} holds half of a surrogate pair, which no file can keep: remove it."
    if _UNPRINTABLE.search(key):
        return f"{_shown(key)} holds a control character: use printable characters only."
    if len(key) > MAX_KEY_BYTES // 4 and len(key.encode()) > MAX_KEY_BYTES:
        return f"{_shown(key)} has {len(key.encode())} bytes: use at most {MAX_KEY_BYTES}."
    return None


def _scalar(value: Any) -> Scalar:
    """Return the plain scalar that a value is, or raise _Unfit."""
    # By type(value), not isinstance: an object may claim any __class__, and then these slots would not fit it. The
    # slots of the base types are called, not int(value): a subclass may have its own __int__, which is user code.
    kind = type(value)
    if kind is float or kind is bool:
        return value  # type: ignore[no-any-return]
    if issubclass(kind, float):
        return float.__float__(value)
    if issubclass(kind, int):
        number = int.__int__(value)
        if not INT_MIN <= number <= INT_MAX:
            raise _Unfit("is an int of more than 64 bits: log float(x) or str(x)")
        return number
    if issubclass(kind, str):
        return _text(str.__str__(value))
    return _element(value)


def _text(text: str) -> str:
    """Return a text that UTF-8 can hold, or raise _Unfit."""
    if _SURROGATE.search(text):
        raise _Unfit("is a str with half of a surrogate pair, which no file can keep: remove it")
    if len(text) > MAX_TEXT_BYTES // 4 and len(text.encode()) > MAX_TEXT_BYTES:
        raise _Unfit(f"is a str of more than {MAX_TEXT_BYTES // 2**20} MiB: log a shorter one, or a file")
    return text


def _element(value: Any) -> Scalar:
    """Return the one element of a numpy, torch or similar number, known by its looks, or raise _Unfit."""
    kind = type(value)
    # Looked up on the class: an instance may answer to every name, as mocks and attribute dicts do.
    if not (callable(getattr(kind, "item", None)) and hasattr(kind, "shape") and hasattr(kind, "dtype")):
        raise _Unfit(f"is {_kind(value)}, which cannot be kept: {_advice(value)}")
    try:
        shape = tuple(value.shape)
        if not all(type(size) is int for size in shape):
            raise _Unfit(f"is {_kind(value)} of no known shape: log float(x)")
        if math.prod(shape) != 1:
            raise _Unfit(
                f"is {_kind(value)} of shape {shape}: log one number, such as its mean, or a Histogram or Image"
            )
        # Times, dates and durations: the item of one in nanoseconds is an int that has lost its unit.
        timelike = getattr(value.dtype, "kind", None) in ("M", "m")
        item = None if timelike else value.item()
    except _Unfit:
        raise
    except Exception as error:
        raise _Unfit(f"is {_kind(value)} that cannot be read ({type(error).__name__}: {error}): log float(x)") from None
    if not issubclass(type(item), (float, int, str)):
        raise _Unfit(f"is {_kind(value)} of dtype {value.dtype}, which cannot be kept: log a number or a text")
    return _scalar(item)


def _advice(value: object) -> str:
    """Say what to log instead of a value."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return "log one value a key, or one number, such as its mean, or a Histogram"
    if isinstance(value, (bytes, bytearray)):
        return "log text, such as value.decode()"
    if isinstance(value, complex):
        return "log its real and imaginary parts under two keys"
    if callable(value):
        return "nothing that is logged is called; log what it returns"
    return "log a number or a text, such as float(x) or str(x)"


def _kind(value: object) -> str:
    """Name the type of a value, with its article."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[:1] in 'aeiouAEIOU' else 'a'} {name}"


def _label(key: object) -> str:
    """Show a key that is no str; only of plain types, for the repr of others is user code."""
    return repr(key) if type(key) in (int, float, bool, bytes, type(None)) else f"<{type(key).__qualname__}>"


def _shown(key: str) -> str:
    """Quote a key for a message, without filling the screen."""
    return repr(key) if len(key) <= 200 else f"{key[:200]!r}…"
