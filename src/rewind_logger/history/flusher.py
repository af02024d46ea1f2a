"""The flusher: the one background thread of a writer. It decides when to flush, and tries again what failed."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable

from rewind_logger.errors import FencedError, StorageError, TransientStorageError
from rewind_logger.history.outage import Outage
from rewind_logger.storage.base import Retries

LOG = logging.getLogger("rewind_logger")

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
"""Seconds before the first and, doubling, between later attempts at a store that fails."""


class Flusher:
    """Runs `drain` when it is due or asked for, and `tidy` after each that succeeded."""

    def __init__(
        self,
        name: str,
        drain: Callable[[], object],
        tidy: Callable[[], None],
        due: Callable[[], float | None],
        idle: Callable[[], float | None] = lambda: None,
        retries: Callable[[], Retries] = Retries,
        failure: StorageError | None = None,
    ) -> None:
        """Start the thread.

        Args:
            name: Of the run, for messages.
            drain: Brings everything that waits into the store.
            tidy: What may follow at leisure; nobody waits for it, and it does not fail.
            due: Returns when a drain is due, on the monotonic clock; None if nothing waits.
            idle: Called before each wait; returns when it wants to be called again, on the same clock. Does not fail.
            retries: Returns what was asked of the store in vain until now.
            failure: Why the store is known to be away.
        """
        self._name = name
        self._outage = Outage(name, retries, failure=failure)
        self._away_at_first = failure is not None
        self._drain = drain
        self._tidy = tidy
        self._due = due
        self._idle = idle
        # Not an event, whose lock is not re-entrant: a signal's handler may log or flush while this thread wakes us.
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._state = threading.Condition()
        self._asked = 0
        self._answered = 0
        self._attempted = 0
        self._failure: Exception | None = None
        self._stopping = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"rewind-logger {name}", daemon=True)
        self._thread.start()

    @property
    def away_since(self) -> float | None:
        """When the store failed first, on the monotonic clock; None if it is well."""
        return self._outage.since

    def wake(self) -> None:
        """Have the thread look again at when a drain is due."""
        self._wakes.put(None)

    def request(self, timeout: float | None, waiting: Callable[[], None] | None = None) -> bool:
        """Drain now and wait for it.

        Args:
            timeout: Seconds to wait at most, with failures tried again; None: wait for one attempt to end.
            waiting: Called about once a second meanwhile.

        Returns:
            Whether everything that waited at the call was drained; False if the time ran out, or the thread ended.

        Raises:
            FencedError: If the run is no longer ours.
            StorageError: If the attempt failed, and there is no timeout or trying again cannot help.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._state:
            self._asked += 1
            mine = self._asked
            self.wake()
        while True:
            with self._state:
                if self._answered >= mine:
                    return True
                # An attempt that had begun before says nothing about the store as it is now.
                # No local name for it: its traceback will refer to this frame, and both to the rows of the attempt.
                tried = self._attempted >= mine and self._failure is not None
                if tried and (deadline is None or not isinstance(self._failure, TransientStorageError)):
                    assert self._failure is not None
                    raise self._failure
                if self._ended:
                    if isinstance(self._failure, FencedError):
                        raise self._failure
                    return False
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                self._state.wait(left if waiting is None else min(1.0, 1.0 if left is None else left))
            if waiting is not None:
                waiting()

    def stop(self, timeout: float | None = None) -> None:
        """End the thread, once the attempt that it is in has ended.

        Args:
            timeout: Seconds to wait for that at most: a store that hangs must not keep a process from ending.
        """
        self._stopping = True
        self.wake()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def _run(self) -> None:
        try:
            self._loop()
        finally:
            self._outage.end()
            with self._state:
                self._ended = True
                self._state.notify_all()

    def _loop(self) -> None:
        failures, attempted = int(self._away_at_first), 0
        wait, retry_at = FIRST_RETRY_S, time.monotonic() + FIRST_RETRY_S if failures else 0.0
        while not self._stopping:
            asked = self._asked
            due = self._due()
            if failures and due is not None:
                due = max(due, retry_at)
            if asked > attempted:
                due, wait = 0.0, FIRST_RETRY_S
            left = None if due is None else due - time.monotonic()
            if left is None or left > 0:
                self._sleep(left, self._idle())
                continue
            attempted = asked
            error = self._attempt()
            if error is None:
                self._outage.succeeded()
                failures, wait = 0, FIRST_RETRY_S
            else:
                if not isinstance(error, FencedError):
                    self._outage.failed(error)
                retry_at = time.monotonic() + wait
                wait = min(2 * wait, LAST_RETRY_S)
                failures += 1
            with self._state:
                self._attempted = asked
                self._failure = error
                # A writer that is being closed may have left some of it in its journal.
                if error is None and not self._stopping:
                    self._answered = asked
                self._state.notify_all()
            if isinstance(error, FencedError):
                return
            if error is None:
                self._tidy()

    def _sleep(self, seconds: float | None, until: float | None) -> None:
        """Wait until somebody wakes us, or the first of the times is over."""
        if until is not None:
            left = max(0.0, until - time.monotonic())
            seconds = left if seconds is None else min(seconds, left)
        with contextlib.suppress(queue.Empty):
            self._wakes.get(timeout=seconds)
            while True:
                self._wakes.get_nowait()

    def _attempt(self) -> Exception | None:
        try:
            self._drain()
        except (FencedError, StorageError) as error:
            return error
        except Exception as error:  # a bug must neither end training nor silence the run for good
            LOG.exception("Rows of run %s could not be flushed; they are kept and tried again.", self._name)
            return error
        return None
