"""What a project, an entity and a run can be called: each becomes a folder, in any store."""

from __future__ import annotations

import re

from rewind_logger.errors import ConfigError
from rewind_logger.format.wording import kind_of
from rewind_logger.types import RunRef

MAX_NAME_CHARACTERS = 128
MAX_NAME_BYTES = 200
"""In UTF-8. File systems take 255 bytes a name; what remains is for suffixes that tools append."""

RESERVED_NAMES = frozenset({"m", "t", "v", "j", "pins", "checkpoints", "blobs"})
"""Our folders. As a run's id those of a run could not be told from them: `x/y/t` may be a run of project `x/y`."""

_DEVICE_NAMES = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"}
)
"""Names that Windows gives to devices, with or without an extension."""

FORBIDDEN = re.compile(r'[@?#%*:<>|"/\\]')
"""What has a meaning in a moment or a URL, or is refused by a file system."""

UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, separators of lines, what turns the direction of the text that follows, and halves of surrogate
pairs, which are no UTF-8."""


def check_name(kind: str, name: str) -> str:
    """Return a name that may become a folder in any store, or refuse it.

    Args:
        kind: What is named, for the message: "project", "entity" or "run id".
        name: The name, a single part of a path. Letters of any script and inner spaces are fine.

    Returns:
        `name`, unchanged.

    Raises:
        ConfigError: If the name is no string, is empty, longer than 128 characters or 200 UTF-8 bytes, begins with a
            dot, ends with a dot, begins or ends with white space, holds a separator, a control character or one of
            `@ ? # % * : < > | "`, or is reserved; the message names the kind and the name.

    Example:
        >>> check_name("run id", "lr 3e-4, größer")
        'lr 3e-4, größer'
    """
    if not isinstance(name, str):
        raise ConfigError(f"The {kind} {name!r} is {kind_of(name)}, not a str: give it as text.")
    wrong = _what_is_wrong(name)
    if wrong:
        shown = repr(name) if len(name) <= MAX_NAME_CHARACTERS else repr(name[:40]) + "…"
        raise ConfigError(f"The {kind} {shown} cannot be used: it {wrong}.")
    return name


def is_name(name: str) -> bool:
    """Say whether a project, an entity or a run can be called so; what is listed may be somebody else's."""
    return _what_is_wrong(name) is None


def parse_run(text: str) -> RunRef:
    """Return the run that a text names as `project/id` or `entity/project/id`.

    Raises:
        ConfigError: If no run can be called so.

    Example:
        >>> parse_run("team/digits/a")
        RunRef(project='team/digits', id='a')
    """
    parts = text.split("/")
    if not 2 <= len(parts) <= 3:
        raise ConfigError(f"{text[:200]!r} names no run: write project/id or entity/project/id.")
    for kind, name in zip(("run id", "project", "entity"), reversed(parts), strict=False):
        check_name(kind, name)
    return RunRef("/".join(parts[:-1]), parts[-1])


def is_device(name: str) -> bool:
    """Tell whether Windows takes a file name for that of a device.

    Example:
        >>> is_device("NUL.txt"), is_device("null.txt")
        (True, False)
    """
    return name.lower().partition(".")[0].rstrip() in _DEVICE_NAMES


def _what_is_wrong(name: str) -> str | None:
    """Say what is wrong with a name, and what to use instead, as the end of a sentence."""
    if not name:
        return "is empty; use at least one character"
    if unprintable := UNPRINTABLE.search(name):
        what = "half of a surrogate pair" if "\ud800" <= unprintable[0] <= "\udfff" else "a control character"
        return f"holds {what} ({unprintable[0]!r}); use printable characters only"
    if forbidden := FORBIDDEN.search(name):
        return f"holds {forbidden[0]!r}; use letters, digits, spaces, '-', '_' and '.'"
    if name.startswith("."):
        return "begins with a dot; begin with a letter or a digit"
    if name != name.strip():
        return "begins or ends with white space; leave that out"
    if name.endswith("."):
        return "ends with a dot, which some file systems drop; leave that out"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"has {len(name)} characters; use at most {MAX_NAME_CHARACTERS}"
    if (size := len(name.encode())) > MAX_NAME_BYTES:
        return f"has {size} bytes in UTF-8; use at most {MAX_NAME_BYTES}"
    if name.lower() in RESERVED_NAMES:
        reserved = ", ".join(sorted(RESERVED_NAMES))
        return f"is reserved, for folders within a store ({reserved}); use a longer name, such as 'run-{name}'"
    if is_device(name):
        return f"is the name of a device on Windows; use another, such as 'run-{name}'"
    return None
