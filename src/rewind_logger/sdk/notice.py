"""What the package says on its own: a line where a run begins and ends, and a warning where a step runs backwards."""

from __future__ import annotations

import contextlib
import os
import sys

from rewind_logger.errors import RewindError
from rewind_logger.history import reader
from rewind_logger.history.opening import Opened
from rewind_logger.history.rescue import sync_command
from rewind_logger.history.view import resolve
from rewind_logger.sdk.console import tap
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
    """Write one line to stderr, unless lines are silenced."""
    if not is_quiet():
        warn(sentence)


def warn(sentence: str) -> None:
    """Write one line to stderr, also where lines are silenced: rows are not where they should be.

    Never fails, for a line for people must not end a training run. It is not part of a run's console: what it says, the
    run knows.
    """
    with contextlib.suppress(Exception), tap.unheard():  # stderr may be closed, or None (in a service)
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
        "rewound": f"was rewound to {_place(opened, step)}{_archived(storage, opened)}",
        "restored": f"was restored to {origin}, and goes on at step {opened.start}{_archived(storage, opened)}",
        "forked": f"was forked from {origin} at {step}",
    }[opened.kind]
    return " ".join((f"run {run} in {storage.url} {what}.", *opened.notes))


def closing(storage: Storage, run: RunRef, state: str, next_step: int, trouble: str | None, journal: str | None) -> str:
    """Return the line for a run that ended."""
    if trouble is not None:
        kept = kept_in(storage.url, trouble, journal)
        return f"run {run} {state}, but not all of it is in the store: {trouble}{kept}"
    again = f" {storage.retries}." if storage.retries.requests else ""
    where = f"at step {next_step - 1}" if next_step else "without a step"
    return f"run {run} {state} {where}.{again}"


def unopened(store: str, run: RunRef, journal: str) -> str:
    """Say where rows are of a run that was never opened."""
    return (
        f"run {run} was not opened: what was logged to it is kept in {journal}. To have it, once the run exists: "
        f"{sync_command(store, as_fork=True)}"
    )


def kept_in(store: str, trouble: str, journal: str | None) -> str:
    """Say where rows are that did not come into their store, and how to bring them in, if `trouble` does not say it."""
    if not journal or journal in trouble:
        return ""
    return f" What is not in the store is kept in {journal}. To bring it in: {sync_command(store)}"


def _place(opened: Opened, step: str) -> str:
    """Name the step that a run was rewound to, and the revision unless it is the one that was the present one."""
    return (
        step if _is_direct(opened) or opened.parent is None else f"{step} of {opened.run.id}@{opened.parent.revision}"
    )


def _is_direct(opened: Opened) -> bool:
    """Say whether what was cut off is the end of the revision before, and nothing else."""
    return opened.kind == "rewound" and opened.parent is not None and opened.parent.revision == opened.revision - 1


def _archived(storage: Storage, opened: Opened) -> str:
    """Say what a rewind archived, and under which name."""
    number = opened.revision - 1
    what = f"all from step {opened.start} on is" if _is_direct(opened) else "what was there is"
    if _is_direct(opened) and not is_quiet():
        try:
            view = resolve(storage, opened.run, number)
            files = reader.files(storage, view, "metrics", start=opened.start)
            if sum(file.segment.size for file in files) <= COUNTED_BYTES:
                rows = reader.count(storage, view, "metrics", start=opened.start)
                what = f"{rows:,} rows are" if rows > 1 else "1 row is" if rows else "what was printed or set since is"
        except RewindError:
            pass  # then it is not counted
    return f"; {what} archived as {opened.run.id}@{number}"
