"""A gap: steps that a checkpoint contains, and whose rows are not before it in the run that goes on with it."""

from __future__ import annotations

import json
import logging

import numpy as np

from rewind_logger.errors import StorageError
from rewind_logger.format.columns import column_of
from rewind_logger.history import reader
from rewind_logger.history.rescue import sync_command
from rewind_logger.history.view import resolve
from rewind_logger.lightning.mark import Mark
from rewind_logger.lightning.saves import Saves
from rewind_logger.sdk import notice
from rewind_logger.sdk.run import Run

LOG = logging.getLogger("rewind_logger")


def find(run: Run, mark: Mark, *, listed: bool) -> None:
    """Record the gap before a checkpoint with which a run goes on, and say it, if there is one.

    Args:
        run: The run, open from the checkpoint on.
        mark: What the checkpoint says.
        listed: Whether its writer added it to the run's list, which is flushed before the file is written: where it is
            not in that, the history before it is not there either, but has stayed with a writer that lost the run.
    """
    start = mark.next_step
    try:
        settled = Saves.is_settled(run, mark)
        if listed and settled is None:
            first = _end(run, start)
            if first == start:
                return
            sentence = (
                f"{_steps(first, start)} of run {run._ref}, which the checkpoint contains, are not in the store: its"
                " writer had lost the run by then, or could not bring them in. If its journal is still on the machine"
                f" that trained, have them as a fork: {sync_command(run._storage.url, as_fork=True)}"
            )
        elif mark.row_pending and not settled and not _rows_from(run, start - 1):
            first = start - 1
            sentence = (
                f"rows of step {first}, logged after its checkpoint was saved, are not in the store: the process that"
                " saved it ended then."
            )
        else:
            return
    except StorageError as error:
        LOG.warning("Whether run %s is whole before step %d could not be found out: %s", run._ref, start, error)
        return
    run._note({"gap": json.dumps([first, start])}, start - 1)
    notice.warn(sentence)


def _rows_from(run: Run, step: int) -> int:
    return reader.count(run._storage, resolve(run._storage, run._ref), "metrics", start=step)


def _end(run: Run, stop: int) -> int:
    """Return one past the last step before `stop` (exclusive) that has rows."""
    view = resolve(run._storage, run._ref)
    wanted = reader.files(run._storage, view, "metrics", stop=stop)
    tables = reader.visible_tables(run._storage, wanted, columns=["clock"], stop=stop)
    return max((int(np.max(column_of(table, "clock"))) + 1 for _, table in tables if len(table)), default=0)


def _steps(first: int, stop: int) -> str:
    return f"step {first}" if first == stop - 1 else f"steps {first} to {stop - 1}"
