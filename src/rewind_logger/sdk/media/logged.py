"""From what a user logs to rows of the stream `media`.

A value of such a row is JSON text: an object, or an array of objects where several were logged together. Each has its
`type`, perhaps a `caption`, and either the numbers themselves or the `sha256` and `size` of a blob.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from rewind_logger.errors import RewindError
from rewind_logger.format.values import flatten
from rewind_logger.sdk.media.media import Attach, Media
from rewind_logger.sdk.media.recognise import Logged, media_of
from rewind_logger.types import Scalar

MAX_ITEMS = 1024
"""Of one list."""

_json = msgspec.json.Encoder().encode


class Sorted(NamedTuple):
    """What was logged in one call, by flat names."""

    scalars: dict[str, Scalar]
    media: dict[str, Logged]
    faults: dict[str, str]
    """For each key whose value cannot be kept a sentence that says why."""


def sort(values: Mapping[str, Any]) -> Sorted:
    """Tell numbers and media from one another, and from what is neither."""
    media: dict[str, Logged] = {}

    def take(key: str, value: Any) -> bool:
        found = media_of(value)
        if found is not None:
            media[key] = found
        return found is not None

    scalars, faults = flatten(values, take)
    return Sorted(scalars, media, faults)


def encode(logged: Mapping[str, Logged], attach: Attach) -> tuple[dict[str, Scalar], dict[str, str]]:
    """Turn media into the values of a row.

    Args:
        logged: By flat name.
        attach: Keeps the bytes of a file, and returns their SHA-256.

    Returns:
        The values, and for each key whose media cannot be kept a sentence that says why.
    """
    good: dict[str, Scalar] = {}
    bad: dict[str, str] = {}
    for key, found in logged.items():
        try:
            if isinstance(found, Media):
                good[key] = _json(found._record(attach)).decode()
            elif len(found) > MAX_ITEMS:
                bad[key] = f"{key!r} is a list of {len(found):,}: log at most {MAX_ITEMS:,} together."
            else:
                good[key] = _json([item._record(attach) for item in found]).decode()
        except RewindError as error:
            bad[key] = f"{key!r} {_sentence(error)}"
        except Exception as error:  # of whatever library it is that converts it: training goes on
            bad[key] = f"{key!r} could not be converted ({type(error).__name__}: {error})."
    return good, bad


def _sentence(error: RewindError) -> str:
    text = str(error)
    if text[:1].isupper():
        text = f"was not logged: {text}"
    return text if text.endswith(".") else f"{text}."
