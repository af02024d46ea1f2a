"""What a store tells in JSON: read so that whatever somebody put there ends in an error that says so."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

from rewind_logger.errors import CorruptError
from rewind_logger.format.documents import MAX_CLOCK, MAX_TIME_MS, MIN_TIME_MS


def loads(text: object) -> Any:
    """Return what a JSON text tells.

    Raises:
        ValueError: If it is none, or nested too deeply.
    """
    try:
        return json.loads(text if isinstance(text, bytes) else str(text))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def whole(value: object, least: int = 0, most: int = MAX_CLOCK) -> int:
    """Return a whole number within bounds (both inclusive), or raise a ValueError."""
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{str(value)[:40] if type(value) is not int else 'a number'} is not what should be there")
    return value


def optional_whole(value: object) -> int | None:
    """Return a whole number from 0 on, or None, or raise a ValueError."""
    return None if value is None else whole(value)


def text(value: object) -> str:
    """Return a text, or raise a ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"a {type(value).__name__} stands where a text should")
    return value


def optional_text(value: object) -> str | None:
    """Return a text or None, or raise a ValueError."""
    return None if value is None else text(value)


def time_ms(value: object) -> int:
    """Return a time in milliseconds since 1970-01-01 UTC, or raise a ValueError."""
    return whole(value, MIN_TIME_MS, MAX_TIME_MS)


def moment_of(ms: int) -> datetime:
    """Return a time in UTC.

    Raises:
        CorruptError: If there is no such time.
    """
    if not MIN_TIME_MS <= ms <= MAX_TIME_MS:
        raise CorruptError(f"A row says that it was logged {ms} ms after 1970-01-01, and there is no such time.")
    return datetime.fromtimestamp(ms / 1000, timezone.utc)
