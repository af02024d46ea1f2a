"""Machines whose clocks are wrong: nothing but what people are shown depends on the time of day."""

from __future__ import annotations

import secrets
import signal
import time
from pathlib import Path

import pytest

from rewind_logger.history import view
from rewind_logger.history.heartbeat import SILENT_S
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.writer import Writer
from rewind_logger.sdk import state as states
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.figures import count
from tests.sdk.reading import rows
from tests.sdk.scripts import script

YEAR_S = 365 * 86400

WRONG = """
import random, time
right, right_ns, chance = time.time, time.time_ns, random.Random({seed})
def error():
    return {years} * 31_536_000 + {jumps} * chance.uniform(-31_536_000, 31_536_000)
time.time = lambda: max(0.0, right() + error())
time.time_ns = lambda: int(max(0.0, right() + error()) * 1e9)

import os, signal
import rewind_logger
run = rewind_logger.init(dir="store", project="p", {opening})
for step in range(run.step, {stop}):
    run.log({{"a": step, "by": {seed}}})
    print(step)
{ending}
"""

KILL = "os.kill(os.getpid(), signal.SIGKILL)"


def test_machines_with_wrong_clocks_lose_and_mix_up_nothing(tmp_path: Path) -> None:
    """One after the other takes the run over, some are killed, one goes back; their clocks are years apart."""
    turns = [
        (10, 0, "id='a'", 100, KILL),
        (-10, 0, "id='a'", 200, KILL),
        (0, 1, "id='a'", 300, KILL),
        (-20, 0, "resume_from='a?_step=149'", 250, "run.finish()"),
        (5, 1, "id='a'", 350, KILL),
        (0, 0, "id='a'", 400, "run.finish()"),
    ]
    for seed, (years, jumps, opening, stop, ending) in enumerate(turns):
        code = WRONG.format(seed=seed, years=years, jumps=jumps, opening=opening, stop=stop, ending=ending)
        done = script(code, tmp_path, check=False)
        assert done.returncode == (-signal.SIGKILL if ending == KILL else 0), done.stderr
        count("faults injected")
    store = str(tmp_path / "store")
    by = [*[0] * 100, *[1] * 50, *[3] * 100, *[4] * 100, *[5] * 50]
    archived = [*[0] * 100, *[1] * 100, *[2] * 100]
    for name, expected in (("p/a", by), ("p/a@1", archived)):
        found = [(row["a"], row["by"]) for row in rows(store, name) if "a" in row]
        count("rows checked", len(expected))
        count("rows lost", len(expected) - len(found))
        assert found == list(enumerate(expected))


def test_a_clock_that_is_set_back_does_not_change_how_a_run_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    storage = MemoryStorage(f"memory://test-{secrets.token_hex(6)}")
    run, now_ns = RunRef("p", "a"), time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    writer = Writer(storage, run, background=False)
    writer.open(OpenRequest())
    term = writer._delivery.term
    assert term is not None

    def seen(later_s: float = 0) -> str:
        return states.state(storage, view.resolve(storage, run), now_ns // 1_000_000 + int(1000 * later_s))

    for error_s in (0, -3600, -YEAR_S, -7200, -YEAR_S):
        monkeypatch.setattr(time, "time_ns", lambda error_s=error_s: now_ns + error_s * 10**9)
        writer.append("metrics", {"a": 1}, 0)
        assert writer.flush()
        term.go_on()
        term.beat()
        assert (seen(), seen(SILENT_S + 10)) == ("running", "crashed"), "it goes on"
        assert writer.finish("finished")
        assert seen() == seen(1e6) == "finished"
    writer.close()
