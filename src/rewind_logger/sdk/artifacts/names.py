"""What artifacts, their types and their aliases can be called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rewind_logger.errors import ConfigError
from rewind_logger.format.wording import kind_of
from rewind_logger.sdk.plain import plain

LATEST = "latest"
"""The alias that every newest version has."""

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_VERSION = re.compile(r"v(0|[1-9][0-9]{0,17})")


def parse_version(text: str) -> int | None:
    """Return 3 for `v3`, None for what is no version."""
    match = _VERSION.fullmatch(text)
    return int(match[1]) if match else None


def is_name(text: object) -> bool:
    """Whether an artifact can be called so: letters, digits, `_`, `-` and `.`, at most 128, and not dots alone."""
    return isinstance(text, str) and _NAME.fullmatch(text) is not None and text.strip(".") != ""


def is_label(text: object) -> bool:
    """Whether a type or an alias can be called so: any text of at most 128 characters without `/` and `:`."""
    return isinstance(text, str) and 0 < len(text) <= 128 and not set(text) & set("/:")


def check_aliases(aliases: object) -> list[str]:
    """Return aliases, or refuse them.

    Raises:
        ConfigError: If one is no text, is empty, has a `/` or `:`, or looks like a version.
    """
    given = [aliases] if isinstance(aliases, str) else list(aliases or ())  # type: ignore[call-overload]
    for alias in given:
        if not is_label(alias) or parse_version(alias) is not None:
            raise ConfigError(
                f"The alias {alias!r} cannot be used: give a text without '/' and ':' that is no version."
            )
    return list(dict.fromkeys(given))


def plain_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a copy that JSON can hold."""
    found = plain(metadata or {})
    if not isinstance(found, dict):
        raise ConfigError(f"metadata={metadata!r} is {kind_of(metadata)}: give a dict.")
    return found
