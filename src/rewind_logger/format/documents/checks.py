"""What a field of a document may hold: who wrote it may mean no good, and some of it becomes part of a path."""

from __future__ import annotations

import re
from collections.abc import Mapping

from rewind_logger.format import names
from rewind_logger.format.names import SegmentName
from rewind_logger.format.run_names import parse_run

MAX_CLOCK = 2**62 + 2**61
"""Where a term can begin, and be cut, at most (inclusive): people name steps up to 2**62, and what is left of the range
of int64 is room for the steps that follow."""

MIN_TIME_MS, MAX_TIME_MS = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999 (both inclusive), in milliseconds since 1970-01-01 UTC."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What a terminal takes for a command, and what turns the direction of the text that follows."""


def integer(value: object) -> int:
    """Return an integer of 64 bits."""
    if type(value) is not int:
        raise TypeError(f"{str(value)!r} should be an integer")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} has more than 64 bits")
    return value


def count(value: object) -> int:
    """Return a number of something, from 0 to 18 digits."""
    number = integer(value)
    if not 0 <= number < 10**18:
        raise ValueError(f"{number} is no number of anything")
    return number


def revision_number(value: object) -> int:
    """Return the number of a revision, from 1."""
    number = count(value)
    if number == 0:
        raise ValueError("revisions are numbered from 1")
    return number


def clock(value: object, least: int = 0) -> int:
    """Return a step, or the first step that is not kept."""
    number = integer(value)
    if not least <= number <= MAX_CLOCK:
        raise ValueError(f"{number} is no step")
    return number


def optional_clock(value: object) -> int | None:
    """Return likewise, or None."""
    return None if value is None else clock(value)


def time_ms(value: object) -> int:
    """Return a time in milliseconds, of one of the years 1 to 9999."""
    number = integer(value)
    if not MIN_TIME_MS <= number <= MAX_TIME_MS:
        raise ValueError(f"{number} is no time")
    return number


def text(value: object) -> str:
    """Return a text."""
    if not isinstance(value, str):
        raise TypeError(f"{str(value)!r} should be text")
    return value


def shown(value: object) -> str:
    """Return a text that is for people."""
    return printable(text(value))


def printable(text: str) -> str:
    r"""Return a text that is for people, without what a terminal would take for a command.

    Example:
        >>> print(printable("node7\x1b[2J"))
        node7\x1b[2J
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def nonce(value: object) -> str:
    """Return a nonce, which is a plain word: it becomes part of a path."""
    word = text(value)
    if not (word.isascii() and word.isalnum()):
        raise ValueError(f"{word!r} is no nonce")
    return word


def run(value: object) -> str:
    """Return a name that a run can have: it becomes part of a path."""
    name = text(value)
    parse_run(name)
    return name


def stream(value: object) -> str:
    """Return a stream, which is a plain word: it becomes part of a path."""
    word = text(value)
    if not names.is_stream(word):
        raise ValueError(f"{word!r} is no stream")
    return word


def flushes(value: Mapping[str, object]) -> dict[str, int]:
    """Return by stream the number of a flush."""
    return {stream(name): count(flush) for name, flush in value.items()}


def segment_name(value: object) -> SegmentName:
    """Return the name of a segment: it becomes part of a path."""
    name = text(value)
    found = SegmentName.parse(name)
    if found is None:
        raise ValueError(f"{name!r} is no segment's name")
    return found
