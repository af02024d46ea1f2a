"""The last checkpoint of a run that can be gone on from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rewind_logger.errors import ConfigError, CorruptError, RunNotFoundError
from rewind_logger.lightning.checkpoint import read_checkpoint
from rewind_logger.sdk.checkpoints import Checkpoint
from rewind_logger.sdk.stored import StoredRun
from rewind_logger.storage import Storage
from rewind_logger.types import Position, RunRef


def last_checkpoint(storage: Storage, run: RunRef, storage_options: Mapping[str, Any] | None) -> str | None:
    """Return the path or URL of the newest checkpoint of a run's present revision that a fit can load.

    One that was deleted, that was cut short by a kill or holds weights only is passed by, and so is one in whose place
    lies another by now: a `last.ckpt` that was written after the step to which the run was rewound.

    Raises:
        StorageError: If the store fails.
    """
    try:
        saved = StoredRun(storage, Position(run, None, None)).checkpoints
    except RunNotFoundError:
        return None
    return next((one.path for one in reversed(saved) if _is_there(one, storage_options)), None)


def _is_there(saved: Checkpoint, storage_options: Mapping[str, Any] | None) -> bool:
    """Say whether a file holds the checkpoint that the run's list names."""
    if saved.path is None:
        return False
    try:
        found = read_checkpoint(saved.path, storage_options)
    except (ConfigError, CorruptError):
        return False
    return any((mark.next_step, mark.revision) == (saved.next_step, saved.revision) for mark in found.marks)
