"""A signal's handler that logs, in the midst of whatever the main thread does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from rewind_logger import init
from rewind_logger.history import cumulative
from rewind_logger.history.cumulative import Cumulative
from rewind_logger.history.journals import locks, outbox
from tests.figures import count
from tests.sdk.reading import rows
from tests.sdk.scripts import script

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that sends signals")

ROWS = 3_000
SIGNALS = 100


class Handler:
    """Logs from a signal's handler."""

    def __init__(self) -> None:
        self.calls = 0
        self.log = self.nothing

    def nothing(self, number: int) -> None:
        """Do nothing."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.calls < SIGNALS:
            self.calls += 1
            self.log(self.calls)


@contextmanager
def interrupted() -> Iterator[Handler]:
    """Have a handler called every few milliseconds of CPU time."""
    handler = Handler()
    before = signal.signal(signal.SIGVTALRM, handler)
    signal.setitimer(signal.ITIMER_VIRTUAL, 1e-3, 1e-3)
    try:
        yield handler
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@pytest.mark.parametrize("flush", [False, True])
def test_rows_that_a_handler_logs_disturb_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flush: bool
) -> None:
    """Keys are written once for many rows, and a batch is closed within: neither may be mixed up."""
    monkeypatch.setattr(outbox, "FLUSH_POINTS", 5_000)
    with init(dir=str(tmp_path), project="p", id="r") as run, interrupted() as handler:

        def log(number: int) -> None:
            run.log({f"handler/{number}": "a text"}, step=run.step)
            if flush and number % 20 == 0:
                run.flush()

        handler.log = log
        logged = 0
        while logged < ROWS or handler.calls < SIGNALS:
            run.log({"main": float(logged), "twice": 2.0 * logged})
            logged += 1
        handler.log = handler.nothing

    found = rows(str(tmp_path), "p/r")
    main = [row for row in found if "main" in row]
    assert [row["main"] for row in main] == list(range(logged))
    assert [row["twice"] for row in main] == [2 * i for i in range(logged)]
    assert {key for row in found for key in row if "handler" in key} == {f"handler/{i + 1}" for i in range(SIGNALS)}


INTERRUPTED = """
import os, signal, sys
import rewind_logger

ending, delay = sys.argv[1], float(sys.argv[2])
logged = 0

def handler(number, frame):
    if ending == "finish":
        run.finish(exit_code=1)
        os.write(1, f"\\n={logged}\\n".encode())
        os._exit(0)
    if ending == "log, flush and exit":
        run.log({"handler": 1})
        run.flush(1.0)
        sys.exit(0)
    if ending == "exit":
        sys.exit(143)
    raise KeyboardInterrupt

run = rewind_logger.init(project="p", id="a")
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, delay)
try:
    while True:
        run.log({"a": logged})
        logged += 1
        if logged % 50 == 0:
            run.flush()
        if logged % 20 == 0:
            print("line", logged)
finally:
    os.write(1, f"\\n={logged}\\n".encode())
"""

DELAYS = [
    delay if delay == 0.3 else pytest.param(delay, marks=pytest.mark.exhaustive)
    for delay in (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.8)
]


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("ending", ["finish", "log, flush and exit", "exit", "Ctrl-C"])
def test_a_signal_that_ends_the_process_costs_no_row_that_was_logged(ending: str, delay: float, tmp_path: Path) -> None:
    """As SLURM sends it before it kills, wherever the process is in it: nor does anything wait for ever."""
    code = INTERRUPTED.replace("sys.argv[1]", repr(ending)).replace("sys.argv[2]", str(delay))
    done = script(code, tmp_path, check=False)
    count("faults injected")
    [logged] = [int(line[1:]) for line in done.stdout.splitlines() if line.startswith("=")]
    if "a signal's handler cannot wait for what it interrupted" in done.stderr:
        init(dir=tmp_path / "rewind_logs", project="p", id="a", resume="must").finish()  # they are in the journal
    found = [row["a"] for row in rows(str(tmp_path / "rewind_logs"), "p/a") if "a" in row]
    count("rows checked", logged)
    count("rows lost", max(0, logged - len(found)))
    assert found == list(range(len(found))) and logged <= len(found) <= logged + 1, done.stderr


@pytest.mark.timeout(120)
@pytest.mark.parametrize("within", ["the summary", "the summary of what the run builds on", "a lock"])
def test_a_handler_that_flushes_waits_for_nobody_that_waits_for_it(
    within: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where, name = {
        "the summary": (Cumulative, "_catch_up"),
        "the summary of what the run builds on": (Cumulative, "_read_inherited"),
        "a lock": (locks, "_try_lock"),
    }[within]
    with init(dir=str(tmp_path), project="p", id="a") as run:
        run.log({"a": 1.0})
    run = init(dir=str(tmp_path), project="p", id="a", resume="must")
    run.define_metric("a", summary="max")
    other = init(dir=str(tmp_path), project="p", id="b", reinit="create_new")
    other.log({"b": 1.0})
    run.log({"a": 2.0})
    run.flush()
    run.log({"a": 3.0})
    real = getattr(where, name)
    flushed: list[bool] = []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if threading.current_thread() is threading.main_thread() and not flushed:
            flushed.append(False)
            signal.raise_signal(signal.SIGVTALRM)
        return real(*arguments, **options)

    def handler(number: int, frame: FrameType | None) -> None:
        flushed[:] = [run.flush() and run.flush()]  # the thread that does it tidies in between
        assert run.summary["a"] is not None
        other.finish()

    monkeypatch.setattr(cumulative, "DUE_SEGMENTS", 1)
    monkeypatch.setattr(where, name, interrupted)
    before = signal.signal(signal.SIGVTALRM, handler)
    try:
        if within == "a lock":
            init(dir=str(tmp_path), project="p", id="c", reinit="create_new").finish()
        assert run.summary["a"]["max"] == 3.0
    finally:
        signal.signal(signal.SIGVTALRM, before)
        run.finish()
    assert flushed == [True]
    assert [row["a"] for row in rows(str(tmp_path), "p/a")] == [1.0, 2.0, 3.0]
