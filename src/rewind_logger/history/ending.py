"""The end of a run whose rows are in: it is marked and tidied, and that is waited for no longer than it may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from rewind_logger.errors import StorageError
from rewind_logger.history.delivery import Delivery
from rewind_logger.history.flusher import Flusher


class UnendedError(StorageError):
    """Every row is in the store, but that the run has ended could not be noted there."""

    def __init__(self, store: str, why: str) -> None:
        super().__init__(
            f"Every row is in {store}, but that the run has ended could not be noted there. {why} It may be shown as "
            "one that crashed, until it is opened and finished again."
        )


def note(
    state: str,
    store: str,
    delivery: Delivery,
    flusher: Flusher | None,
    timeout: float | None = None,
    waiting: Callable[[], None] | None = None,
) -> None:
    """Put the closing mark, and tidy. Nothing depends on either but how the run is shown, and how fast it is read.

    Args:
        state: "finished" or "failed".
        store: Where the store is, for the message.
        delivery: Writes to the store.
        flusher: Whose thread does it, for it can be left alone with a store that hangs; None: this thread does it.
        timeout: Seconds to wait for that thread at most; None: until it is done. A run may be left untidied.
        waiting: Called about once a second meanwhile.

    Raises:
        FencedError: If another writer has taken the run over.
        UnendedError: If the mark was refused, or not put in time; what is not under way by then is not done any more.
    """
    deadline = None if timeout is None else time.monotonic() + timeout

    def do(work: Callable[[], None]) -> bool:
        if flusher is None:
            work()
            return True
        return flusher.do(work, None if deadline is None else max(0.0, deadline - time.monotonic()), waiting)

    try:
        done = do(partial(delivery.end, state))
    except StorageError as error:
        raise UnendedError(store, str(error)) from error
    if not done:
        raise delivery.fenced or UnendedError(store, "It did not answer in time.")
    do(partial(delivery.tidy, closing=True))
