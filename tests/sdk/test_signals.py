"""A signal's handler that logs, in the midst of whatever the main thread does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from rewind_logger import init
from rewind_logger.history import outbox
from tests.sdk.reading import rows

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
