"""The console of a run: records what the process prints while the run is open."""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from rewind_logger.sdk.companion import Companion
from rewind_logger.sdk.console import tap
from rewind_logger.sdk.console.allowance import Allowance, Printed
from rewind_logger.sdk.console.screen import Screen, Stamp
from rewind_logger.types import Scalar

if TYPE_CHECKING:
    from rewind_logger.sdk.run import Run

LOG = logging.getLogger("rewind_logger")

UNFINISHED_S = 1.0
"""How often a line that is not finished, such as a progress bar, is recorded."""

HELD_LINES = 1_000
"""Lines that are kept for an opening that is to come: the last ones."""

HEARD = 10_000
"""Writes that may wait for a thread that is busy with others."""

TOGETHER = 100
"""Writes of unfinished lines that are looked at together."""

CROWD = 1_000
"""Writes that wait, from which on whoever prints waits too: by then it prints faster than anybody can read."""

CROWD_S = 0.05
"""How long, in seconds; not for ever, since who is at work may wait for something that the printing thread has."""

SOON_S = 0.01
"""After how many seconds the thread does what could not be done at once: most of it is done by the next who prints."""

TURN_S = 1.0
"""How long a flush waits for a thread that is at work."""

Mode = Literal["off", "held", "on"]

_time_ns = time.time_ns


class Console(Companion):
    """Hears what is printed, makes lines of it and adds them to a run's stream `console`.

    A finished line is in the journal when `print` returns. Whoever prints never waits: the text is put into a queue,
    and the thread that finds nobody at work works it off. Where that needs a lock that another thread has (which may be
    reporting something, and so be printing, while it logs), it is left to a thread of our own; which also records
    unfinished lines, once a second as long as they change.
    """

    def __init__(self, run: Run, now: Callable[[], float] = time.monotonic, *, background: bool = True) -> None:
        """Take a run; nothing is heard before `prepare` or `begin`.

        Args:
            run: Whose rows they become.
            now: Seconds, on a clock that is monotonic.
            background: Whether a thread calls `tick`.
        """
        self._run = run
        self._now = now
        self._background = background
        self._mode: Mode = "off"
        self._heard: deque[tuple[str, str, int | None, int]] = deque(maxlen=HEARD)
        self._turn = threading.Lock()  # of the one who works off what was heard
        self._worker: int | None = None  # the thread that has it
        # A number is that of one line of the run, whoever wrote the others: what is forked, merged and copied is told
        # apart by nothing else.
        first = secrets.randbits(51)
        self._screens = {"stdout": Screen(first), "stderr": Screen(first)}
        self._allowance = Allowance(now)
        self._rows: deque[Printed] = deque()
        self._floor: int | None = None  # the clock of the last row: those of a term never run backwards
        self._due: float | None = None  # when what is unfinished is to be recorded
        self._soon = False  # whether the thread is to do what could not be done at once
        self._wakes: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._failed = False

    # As a companion

    def prepare(self) -> None:
        """Hear what is printed, and hold it for the opening that is to come."""
        if self._mode == "on":
            self.flush(None)
        self._set_mode("held")
        tap.listen(self.hear)

    def begin(self) -> None:
        """Record what was held and what comes."""
        if self._mode != "on":
            self._set_mode("on")
        if self._background:
            self._start_thread()
        tap.listen(self.hear)
        self.flush(None)

    def flush(self, timeout: float | None) -> bool:
        """Record everything, unfinished lines too."""
        return self._take_turn(TURN_S if timeout is None else min(timeout, TURN_S), self._settle)

    def rest(self, timeout: float) -> None:
        """Record everything, and hear nothing more."""
        tap.leave(self.hear)
        self.flush(timeout)
        if self._mode == "on":
            self._set_mode("off")
        self._stop_thread()

    def disown(self) -> None:
        """Hear nothing."""
        self._mode, self._thread = "off", None
        self._turn, self._worker = threading.Lock(), None
        tap.leave(self.hear)

    # By whoever prints

    def hear(self, source: str, text: str) -> None:
        """Take what was just written."""
        self._heard.append((source, text, self._run._clock, _time_ns()))
        # `print` writes a line and then its end: what has no end is looked at with what follows, or in time.
        if "\n" in text or self._due is None or len(self._heard) > TOGETHER:
            self._work_off()

    def _work_off(self) -> None:
        """Make lines of what was heard and record them, unless somebody is at it."""
        for _ in range(2):  # once more for those who came meanwhile; not for ever for one who prints without end
            if not self._heard:
                return
            if not self._turn.acquire(blocking=False) and not self._wait_for_turn():
                break
            try:  # `_do`, in fewer calls
                self._worker = threading.get_ident()
                self._record()
            except Exception:
                self._report()
            finally:
                self._worker = None
                self._turn.release()
        if self._heard:
            self._ask()

    def _wait_for_turn(self) -> bool:
        """Wait a little if so much was heard that it would be lost; return whether it is our turn then."""
        crowded = len(self._heard) >= CROWD and self._worker != threading.get_ident()
        return crowded and self._turn.acquire(timeout=CROWD_S)

    # By the thread

    def tick(self) -> None:
        """Record what waits, and what is unfinished if that is due."""
        self._take_turn(TURN_S, self._catch_up)
        self._soon = bool(self._heard)

    def _ask(self) -> None:
        """Have the thread do what nobody else may come to do."""
        if not self._soon:
            self._soon = True
            self._wakes.put(True)

    def _loop(self, wakes: queue.SimpleQueue[bool]) -> None:
        while True:
            wait = None if self._due is None else max(0.0, self._due - self._now())
            try:
                if not wakes.get(timeout=SOON_S if self._soon else wait):
                    return
            except queue.Empty:
                self.tick()

    def _start_thread(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._due, self._soon, self._wakes = None, False, queue.SimpleQueue()
            name = f"rewind-logger console {self._run._ref}"
            thread = threading.Thread(target=self._loop, args=(self._wakes,), name=name, daemon=True)
            with contextlib.suppress(RuntimeError):  # the interpreter is ending: the flush at the end does it
                thread.start()
                self._thread = thread

    def _stop_thread(self) -> None:
        thread, self._thread = self._thread, None
        self._wakes.put(False)
        if thread is not None and thread is not threading.current_thread():
            thread.join(TURN_S)

    # Whose turn it is

    def _take_turn(self, timeout: float, work: Callable[[], None]) -> bool:
        """Wait for a turn, for so many seconds at most, and do some work; return whether that was done."""
        # A signal's handler may have come into our own work.
        if self._worker == threading.get_ident() or not self._turn.acquire(timeout=timeout):
            return False
        self._do(work)
        return True

    def _do(self, work: Callable[[], None]) -> None:
        """Do some work and give the turn back; nothing that fails comes to whoever prints."""
        try:
            self._worker = threading.get_ident()
            work()
        except Exception:
            self._report()
        finally:
            self._worker = None
            self._turn.release()

    def _report(self) -> None:
        """Say once that something failed."""
        if not self._failed:
            self._failed = True
            LOG.exception("What is printed could not be recorded in run %s.", self._run._ref)

    # The work

    def _record(self) -> None:
        """Make lines of what was heard, and record them if nobody has to be waited for."""
        self._read()
        if self._mode != "on":
            return
        if self._rows:
            if self._run._lock.acquire(blocking=False):
                try:
                    self._append()
                finally:
                    self._run._lock.release()
            else:
                self._ask()
        if self._due is None and (self._allowance.holds or any(screen.changed for screen in self._screens.values())):
            self._due = self._now() + UNFINISHED_S
            self._wakes.put(True)

    def _catch_up(self) -> None:
        """Record what could not be recorded at once, and what is unfinished if that is due."""
        self._read()
        if self._due is not None and self._now() >= self._due:
            self._settle()
        elif self._mode == "on" and self._rows:
            with self._run._lock:
                self._append()

    def _settle(self) -> None:
        """Record everything."""
        self._read()
        self._due = None
        if self._mode == "on":
            self._rows.extend(self._allowance.release())
            for source, screen in self._screens.items():
                self._rows.extend(Printed(source, *state) for state in screen.changes())
            with self._run._lock:
                self._append()

    def _set_mode(self, mode: Mode) -> None:
        def change() -> None:
            self._mode, self._floor = mode, None

        self._take_turn(TURN_S, change)
        self._mode = mode

    def _read(self) -> None:
        """Make lines of what was heard up to now."""
        heard, mode = self._heard, self._mode
        before = ""
        for left in range(len(heard) - 1, -1, -1):
            source, text, clock, time_ns = heard.popleft()
            if before:
                text, before = before + text, ""
            elif left and heard[0][1] == "\n" and heard[0][0] == source:
                before = text
                continue
            if mode == "off":
                continue
            stamp = Stamp(clock if mode == "on" else None, time_ns // 1_000_000)
            for state in self._screens[source].feed(text, stamp):
                line = Printed(source, *state)
                if mode == "held":
                    if len(self._rows) == HELD_LINES:
                        self._rows.popleft()
                    self._rows.append(line)
                elif self._allowance.passes(line):
                    self._rows.append(line)

    def _append(self) -> None:
        """Add the rows to the run, whose lock we have."""
        while self._rows:
            source, number, text, stamp = self._rows.popleft()
            clock = self._run._clock if stamp.clock is None else stamp.clock
            opened = self._run._opened
            if clock is not None and opened is not None:  # which may have been opened since that was printed
                clock = max(clock, opened.start, self._floor or 0)
            self._floor = clock
            values: dict[str, Scalar] = {source: text}
            if number is not None:
                values["line"] = number
            try:
                self._run._append("console", values, clock, None, stamp.time_ms)
            except UnicodeEncodeError:  # half of a surrogate pair, as the name of a file may have
                values[source] = text.encode(errors="replace").decode()
                self._run._append("console", values, clock, None, stamp.time_ms)
