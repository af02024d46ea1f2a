"""What among the values that a user logs is media."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

from rewind_logger.sdk.media.image import Image, is_figure, is_picture
from rewind_logger.sdk.media.media import Media

Logged = Media | Sequence[Media]
"""What was logged under one key."""


def media_of(value: Any) -> Logged | None:
    """Return the media that a value is, None if it is none: nothing is converted yet.

    Pictures of Pillow, figures of matplotlib and frames of pandas and polars are taken as they are, and so is
    `matplotlib.pyplot` itself.
    """
    if type(value) in (list, tuple) and value:
        items = [_one(item) for item in value]
        return None if None in items else [item for item in items if item is not None]
    return _one(value)


def _one(value: Any) -> Media | None:
    if isinstance(value, Media):
        return value
    if is_picture(value) or is_figure(value):
        return Image(value)
    if type(value) is ModuleType and value.__name__ == "matplotlib.pyplot":
        return Image(value.gcf())
    if _is_frame(value):
        from rewind_logger.sdk.media.table import Table  # which asks here what its cells are

        return Table(dataframe=value)
    return None


def _is_frame(value: object) -> bool:
    """Say whether it is a frame of pandas or polars, which need not be loaded for that."""
    libraries = ("pandas", "polars")
    return any(
        kind.__name__ == "DataFrame" and kind.__module__.partition(".")[0] in libraries for kind in type(value).__mro__
    )
