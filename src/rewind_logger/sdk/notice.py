"""What the package says on its own: a line where a run begins and ends, and a warning where a step runs backwards."""

from __future__ import annotations

import contextlib
import os
import sys

from rewind_logger.errors import RewindError
from rewind_logger.history import reader
from rewind_logger.history.opening import Opened
from rewind_logger.history.view import resolve
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef

QUIET = "REWIND_LOGGER_QUIET"
"""The environment variable that silences the lines; warnings and errors are still given."""

COUNTED_BYTES = 8 << 20
"""What a rewind archives is counted if it takes no more than this to read."""


class RewindWarning(UserWarning):
    """Something was kept in another way than it was asked for."""


def is_quiet() -> bool:
    """Return whether the lines are silenced."""
    return os.environ.get(QUIET, "") not in ("", "0")


def say(sentence: str) -> None:
    """Write one line to stderr, never failing: a line for people must not end a training run."""
    if is_quiet():
        return
    with contextlib.suppress(Exception):  # stderr may be closed, or None (in a service)
        print(f"rewind-logger: {sentence}", file=sys.stderr, flush=True)


def opening(storage: Storage, opened: Opened) -> str:
    """Return the line for a run that was opened."""
    run, parent = opened.run, opened.parent
    origin = "" if parent is None else f"{parent.run}@{parent.revision}"
    step = f"step {opened.start - 1}" if opened.start else "its beginning"
    what = {
        "new": "is new",
        "resumed": f"goes on at step {opened.start}",
        "recovered": f"goes on at step {opened.start}",
        "rewound": f"was rewound to {step}{_archived(storage, opened)}",
        "restored": f"was restored to {origin}, and goes on at step {opened.start}{_archived(storage, opened)}",
        "forked": f"was forked from {origin} at {step}",
    }[opened.kind]
    return " ".join((f"run {run} in {storage.url} {what}.", *opened.notes))


def closing(run: RunRef, state: str, next_step: int, trouble: str | None, journal: str | None) -> str:
    """Return the line for a run that ended."""
    if trouble is not None:
        kept = f" What is not in the store is kept in {journal}." if journal and journal not in trouble else ""
        return f"run {run} {state}, but not all of it is in the store: {trouble}{kept}"
    return f"run {run} {state} at step {next_step - 1}." if next_step else f"run {run} {state} without a step."


def _archived(storage: Storage, opened: Opened) -> str:
    """Say what a rewind archived, and under which name."""
    number = opened.revision - 1
    try:
        view = resolve(storage, opened.run, number)
        files = reader.files(storage, view, "metrics", start=opened.start)
        if is_quiet() or sum(file.segment.size for file in files) > COUNTED_BYTES:
            what = f"all from step {opened.start} on is" if opened.kind == "rewound" else "what was there is"
        else:
            rows = reader.count(storage, view, "metrics", start=opened.start)
            what = f"{rows:,} rows are" if rows != 1 else "1 row is"
    except RewindError:
        what = "what followed is"
    return f"; {what} archived as {opened.run.id}@{number}"
