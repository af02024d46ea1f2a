"""How a revision of a run ended, or whether it is being written."""

from __future__ import annotations

import time
from typing import Literal, cast

from rewind_logger.errors import CorruptError
from rewind_logger.format import documents, names
from rewind_logger.format.documents import End
from rewind_logger.history import claims
from rewind_logger.history.damage import report
from rewind_logger.history.heartbeat import SILENT_S, last_beat
from rewind_logger.history.journals import abandoned
from rewind_logger.history.journals.roots import journal_root
from rewind_logger.history.view import View
from rewind_logger.storage.base import Storage

State = Literal["running", "finished", "failed", "crashed", "superseded"]


def state(storage: Storage, view: View, now_ms: int | None = None) -> State:
    """Return how a revision ended, in up to three requests.

    Args:
        storage: The store.
        view: The revision, not cut.
        now_ms: The time in milliseconds since 1970-01-01 UTC; now, if it is not given.
    """
    end = closing_mark(storage, view.folder)
    if not view.head:
        return "superseded" if end is None else cast(State, end.state)
    beat = last_beat(storage, view.folder)
    if end is not None and end.next_step >= view.next_step and (beat is None or beat <= end.ended_ms):
        return cast(State, end.state)
    nonce = view.folder.rpartition("-")[2]
    gone = abandoned.is_abandoned(journal_root(storage, view.run), nonce)
    if gone is not None:
        return "crashed" if gone else "running"
    if beat is None:
        base = claims.base_of(storage, view.run, view.folder)
        if base.recovery is not None:  # the rows of a writer that was found dead
            return "crashed"
        beat = base.created_ms if end is None else end.ended_ms
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    return "running" if now_ms - beat <= 1000 * SILENT_S else "crashed"


def closing_mark(storage: Storage, folder: str) -> End | None:
    """Return the closing mark of a term, None if it has none."""
    path = names.end(folder)
    try:
        return documents.decode_end(storage.read(path), path)
    except FileNotFoundError:
        return None
    except CorruptError as error:
        report(f"{error} Until then it is passed by.")
        return None
