"""Openings of a run: who opened it when, how and why; each is told by the first event of its term.

The value `opened` of a row of the stream `events` is the JSON object of an `Opening`. Its clock is −1, so no cut
removes it: what a view shows of openings behind its cut is sorted out by their `start`.
"""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import platform
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from rewind_logger._version import __version__
from rewind_logger.history.opening import Opened
from rewind_logger.sdk import told
from rewind_logger.sdk.provenance.masking import command_line
from rewind_logger.types import Row, Scalar

OPENED = "opened"
"""The value's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One opening of a run; None where a store does not tell."""

    run: str
    """`project/id` of the run that was opened: of a fork's rows the first openings are its parent's."""
    revision: int
    term: int
    """The number of its claim."""
    kind: str
    """new, resumed, rewound, restored or forked."""
    reason: str
    """What was asked for, such as `resume_from='a?_step=499'` or the checkpoint that was loaded."""
    start: int
    """The first step of the opening (inclusive)."""
    parent: str | None = None
    """Where a rewound, restored or forked revision begins, such as `digits/a@1?_step=499`."""
    started_ms: int
    """Wall time, milliseconds since 1970-01-01 UTC."""
    host: str | None = None
    user: str | None = None
    pid: int | None = None
    python: str | None = None
    """Version of the interpreter."""
    executable: str | None = None
    os: str | None = None
    command: tuple[str, ...] = ()
    """The command line; values that look like secrets are masked."""
    directory: str | None = None
    """The working directory."""
    version: str | None = None
    """Of this package."""

    @property
    def started(self) -> datetime:
        """When, in UTC."""
        return datetime.fromtimestamp(self.started_ms / 1000, timezone.utc)


def to_value(opened: Opened, reason: str) -> dict[str, Scalar]:
    """Return the event of an opening that was just made by this process."""
    opening = Opening(
        run=str(opened.run),
        revision=opened.revision,
        term=opened.base.number,
        kind=opened.kind,
        reason=reason,
        start=opened.start,
        parent=None if opened.parent is None else str(opened.parent),
        started_ms=opened.base.created_ms,
        host=socket.gethostname(),
        user=_user(),
        pid=os.getpid(),
        python=platform.python_version(),
        executable=sys.executable or None,
        os=f"{platform.system()} {platform.release()} {platform.machine()}",
        command=tuple(command_line()),
        directory=_directory(),
        version=__version__,
    )
    # ASCII: a path or an argument may hold half a surrogate pair, which no store takes as UTF-8.
    return {OPENED: json.dumps(dataclasses.asdict(opening))}


def openings(rows: Iterable[Row], next_step: int | None = None) -> list[Opening]:
    """Return the openings among rows of the stream `events` that a view keeps steps of, in order.

    Args:
        rows: In the order in which they were logged.
        next_step: Where the view is cut (exclusive); None if it is not.
    """
    found = [opening for opening in map(opening_of, rows) if opening is not None]
    return [found[index] for index in kept(found, next_step)]


def kept(found: Sequence[Opening], next_step: int | None) -> list[int]:
    """Return the indexes of those openings of which a view keeps steps; see `openings`."""
    indexes: list[int] = []
    for index, opening in enumerate(found):
        # Where a later one goes on before it began, nothing that it did is left.
        while indexes and found[indexes[-1]].start > opening.start:
            indexes.pop()
        indexes.append(index)
    if next_step is None:
        return indexes
    return [index for index in indexes if found[index].start < next_step] or indexes[:1]


_REQUIRED: dict[str, Callable[[object], Any]] = {
    **dict.fromkeys(("run", "kind", "reason"), told.text),
    **dict.fromkeys(("revision", "term", "start"), told.whole),
    "started_ms": told.time_ms,
}
_TEXTS = ("parent", "host", "user", "python", "executable", "os", "directory", "version")


def opening_of(row: Row) -> Opening | None:
    """Return the opening that a row tells of; None if it tells of none, or is no such row."""
    text = row.values.get(OPENED)
    if text is None:
        return None
    try:
        fields: dict[str, Any] = told.loads(text)
        known: dict[str, Any] = {name: read(fields[name]) for name, read in _REQUIRED.items()}
        known |= {name: told.optional_text(fields.get(name)) for name in _TEXTS}
        known |= {"pid": told.optional_whole(fields.get("pid")), "command": fields.get("command") or ()}
        known["command"] = tuple(map(told.text, known["command"]))
        return Opening(**known)
    except (TypeError, ValueError, LookupError, AttributeError):
        return None  # nothing depends on it: what else the run has is still to be read


def _user() -> str | None:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user that has no name
        return str(os.getuid()) if hasattr(os, "getuid") else None


def _directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None
