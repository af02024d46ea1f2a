"""The names of files that are being written: no listing shows them, and `unfinished` finds those that were left."""

from __future__ import annotations

import re
import secrets

_NAME = re.compile(r"\.[0-9a-f]{16}\.tmp")


def new_name() -> str:
    """Return a name that no other file has."""
    return f".{secrets.token_hex(8)}.tmp"


def is_hidden(name: str) -> bool:
    """Tell whether a file has such a name."""
    return _NAME.fullmatch(name) is not None
