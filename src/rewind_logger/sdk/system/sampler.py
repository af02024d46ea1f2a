"""The sampler: one thread that measures the machine for all runs of the process."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable

from rewind_logger.sdk.system.gpus import Gpus
from rewind_logger.sdk.system.machine import Machine
from rewind_logger.sdk.system.measures import Measures
from rewind_logger.types import Scalar

LOG = logging.getLogger("rewind_logger")

INTERVAL_S = 15.0
"""Between two samples of a run."""

FIRST_S = 1.0
"""Before the first one: the use of a processor is measured over a time."""

LAST_S = 5.0
"""A run that comes to rest gets a last sample, if the one before is so old."""

TOGETHER_S = 1.0
"""A run whose sample is due so soon gets that of another."""

WAIT_S = 1.0
"""How long a run that comes to rest waits for the thread, which may hang at a disk that does not answer."""


class Taker:
    """Takes samples, for one run."""

    def __init__(self, take: Callable[[dict[str, Scalar]], None]) -> None:
        """Take what to do with a sample."""
        self.take = take
        self.since = 0.0
        """When it began, or got its last sample, on the monotonic clock."""
        self.due = 0.0
        self.taken = threading.Event()


class Sampler:
    """Measures as long as somebody takes samples; then its thread ends."""

    def __init__(self) -> None:
        """Begin without a thread."""
        self._lock = threading.RLock()  # re-entrant: a signal's handler may finish a run
        self._takers: list[Taker] = []
        self._wakes: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def add(self, taker: Taker) -> None:
        """Have somebody take samples."""
        with self._lock:
            if taker in self._takers:
                return
            taker.since = time.monotonic()
            taker.due = taker.since + FIRST_S
            self._takers.append(taker)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="rewind-logger system metrics", daemon=True)
                with contextlib.suppress(RuntimeError):  # the interpreter is ending
                    thread.start()
                    self._thread = thread
        self._wakes.put(None)

    def remove(self, taker: Taker, timeout: float | None = None) -> None:
        """Let somebody go.

        Args:
            taker: Who.
            timeout: Seconds to wait at most for a last sample, if it is time for one; None: there shall be none.
        """
        with self._lock:
            if taker not in self._takers:
                return
            thread = self._thread
            wanted = timeout is not None and time.monotonic() - taker.since >= LAST_S and thread is not None
            if wanted:
                taker.taken.clear()
                taker.due = 0.0
        if wanted and timeout is not None:
            self._wakes.put(None)
            taker.taken.wait(min(timeout, WAIT_S))
        with self._lock:
            self._takers.remove(taker)
            last = not self._takers
        self._wakes.put(None)
        if last and thread is not None and thread is not threading.current_thread():
            thread.join(WAIT_S)

    def _run(self) -> None:
        machine = _Whole()
        try:
            while (wait := self._wait()) is not None:
                if wait > 0:
                    with contextlib.suppress(queue.Empty):
                        self._wakes.get(timeout=wait)
                    continue
                self._give(machine.sample())
        except Exception:
            LOG.exception("The use of the machine is not measured any more.")
        finally:
            machine.close()

    def _wait(self) -> float | None:
        """Return for how many seconds there is nothing to do; None to end."""
        with self._lock:
            if not self._takers:
                self._thread = None
                return None
            return min(taker.due for taker in self._takers) - time.monotonic()

    def _give(self, values: dict[str, Scalar]) -> None:
        """Give a sample to all whose time has come. Nobody who has been removed gets one."""
        with self._lock:
            now = time.monotonic()
            for taker in self._takers:
                if taker.due <= now + TOGETHER_S:
                    taker.since, taker.due = now, now + INTERVAL_S
                    taker.take(values)
                    taker.taken.set()


class _Whole:
    """Everything that is measured."""

    def __init__(self) -> None:
        measures = Measures()
        self._parts: list[Machine | Gpus] = []
        try:
            self._parts.append(Machine(measures))
        except Exception as error:
            LOG.debug("The machine is not measured: %s", error)
        try:
            self._parts.append(Gpus(measures, importlib.import_module("pynvml")))
        except Exception as error:
            LOG.debug("GPUs are not measured: %s", error)

    def sample(self) -> dict[str, Scalar]:
        values: dict[str, Scalar] = {}
        for part in self._parts:
            values.update(part.sample())
        return values

    def close(self) -> None:
        for part in self._parts:
            if isinstance(part, Gpus):
                part.close()


_sampler = Sampler()


def of_process() -> Sampler:
    """Return the one of this process."""
    _watch_forks()
    return _sampler


@functools.cache
def _watch_forks() -> None:
    """Have forked children begin with one of their own."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_begin_anew)


def _begin_anew() -> None:
    global _sampler
    _sampler = Sampler()
