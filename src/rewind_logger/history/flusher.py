"""The flusher: the one background thread of a writer. It decides when to flush, and tries again what failed."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from rewind_logger.errors import FencedError, StorageError, TransientStorageError
from rewind_logger.history.outage import Outage
from rewind_logger.storage.base import Retries

LOG = logging.getLogger("rewind_logger")

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
"""Seconds before the first and, doubling, between later attempts at a store that fails."""


@dataclass(slots=True, eq=False)
class _Errand:
    """Something to be done once."""

    work: Callable[[], None]
    done: bool = False
    error: Exception | None = None


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
            drain: Brings everything that waits into the store; returns False if it has not, and need not.
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
        self._drained = False  # whether the last attempt did what it was to do
        self._errands: deque[_Errand] = deque()
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
        with self._state:
            self._asked += 1
            mine = self._asked
            self.wake()

        def outcome() -> bool | None:
            if self._answered >= mine:
                return True
            # An attempt that had begun before says nothing about the store as it is now.
            # No local name for it: its traceback will refer to this frame, and both to the rows of the attempt.
            tried = self._attempted >= mine and self._failure is not None
            if tried and (timeout is None or not isinstance(self._failure, TransientStorageError)):
                assert self._failure is not None
                raise self._failure
            if self._ended and isinstance(self._failure, FencedError):
                raise self._failure
            return None

        return self._wait(outcome, timeout, waiting)

    def do(self, work: Callable[[], None], timeout: float | None, waiting: Callable[[], None] | None = None) -> bool:
        """Have the thread do something once, and wait for it.

        Args:
            work: What is to be done; its errors are raised here.
            timeout: Seconds to wait at most; what has not been begun by then is not done.
            waiting: Called about once a second meanwhile.

        Returns:
            Whether it was done; False if the time ran out, or the thread ended.
        """
        errand = _Errand(work)

        def outcome() -> bool | None:
            if errand.error is not None:
                raise errand.error
            return errand.done or None

        self._errands.append(errand)
        try:
            self.wake()
            return self._wait(outcome, timeout, waiting)
        finally:
            with contextlib.suppress(ValueError):
                self._errands.remove(errand)

    def _wait(
        self, outcome: Callable[[], bool | None], timeout: float | None, waiting: Callable[[], None] | None
    ) -> bool:
        """Wait until something has come out of the thread's work; False if the time ran out, or the thread ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._state:
                found = outcome()
                if found is not None:
                    return found
                left = None if deadline is None else deadline - time.monotonic()
                if self._ended or (left is not None and left <= 0):
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
            self._do_errands()
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
                if self._drained:
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

    def _do_errands(self) -> None:
        while True:
            try:
                errand = self._errands.popleft()
            except IndexError:
                return
            try:
                errand.work()
            except Exception as error:
                errand.error = error
            with self._state:
                errand.done = True
                self._state.notify_all()

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
            self._drained = self._drain() is not False
        except (FencedError, StorageError) as error:
            return error
        except Exception as error:  # a bug must neither end training nor silence the run for good
            LOG.exception("Rows of run %s could not be flushed; they are kept and tried again.", self._name)
            return error
        return None
