"""How the machine is used is recorded beside what is logged, and rewinds with it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pynvml
import pytest

from rewind_logger import init, open_store
from rewind_logger.sdk.system import sampler
from rewind_logger.sdk.system.gpus import Gpus
from rewind_logger.sdk.system.machine import Machine
from rewind_logger.sdk.system.measures import Measures
from rewind_logger.sdk.system.sampler import Sampler, Taker
from tests.history.processes import running

OFF: dict[str, Any] = {"project": "p", "console": False}

EVERYWHERE = {
    "process/cpu_percent",
    "process/memory_bytes",
    "process/threads",
    "machine/cpu_percent",
    "machine/memory_used_bytes",
    "machine/memory_percent",
    "disk/free_bytes",
    "disk/used_percent",
}
"""What each system tells, whether it counts input and output or not."""


@pytest.fixture
def at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take one sample a run: that at its end."""
    monkeypatch.setattr(sampler, "FIRST_S", 3600.0)
    monkeypatch.setattr(sampler, "LAST_S", 0.0)


def steps(url: str, name: str = "p/r") -> list[int]:
    """At which steps samples were taken."""
    rows = open_store(url).run(name).history(stream="system").to_arrow().to_pylist()
    return [row["_step"] for row in rows]


@pytest.mark.usefixtures("at_the_end")
def test_a_sample_has_a_column_for_each_measure(any_url: str) -> None:
    with init(dir=any_url, id="r", **OFF) as run:
        run.log({"loss": 1.0})
    stored = open_store(any_url).run("p/r")
    frame = stored.history(stream="system").to_pandas()
    assert list(frame.columns[:2]) == ["_step", "_timestamp"]
    assert set(frame.columns) >= EVERYWHERE
    assert frame["_step"].tolist() == [1]
    assert frame["process/memory_bytes"][0] > 10 << 20
    assert 0 < frame["machine/memory_percent"][0] <= 100
    assert stored.history("process/threads", stream="system").keys == ["process/threads"]
    assert stored.history().keys == ["loss"], "metrics are kept apart"
    assert "process/threads" not in stored.summary


@pytest.mark.usefixtures("at_the_end")
def test_samples_rewind_with_the_run(any_url: str) -> None:
    for step in range(3):
        with init(dir=any_url, id="r", **OFF) as run:
            run.log({"loss": 1.0}, step=2 * step)
    assert steps(any_url) == [0, 2, 4]
    with init(dir=any_url, resume_from="r?_step=2", **OFF) as run:
        assert run.revision == 2
    assert steps(any_url) == [0, 2, 3]
    assert steps(any_url, "p/r@1") == [0, 2, 4]
    assert steps(any_url, "p/r@1?_step=3") == [0, 2]


def test_it_can_be_turned_off(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "LAST_S", 0.0)
    with init(dir=url, id="r", system_metrics=False, **OFF), init(dir=url, mode="disabled", **OFF):
        assert not [thread for thread in threading.enumerate() if thread.name == "rewind-logger system metrics"]
    assert steps(url) == []


def test_one_thread_measures_for_all_runs_and_ends_with_the_last(url: str) -> None:
    def threads() -> int:
        return sum(thread.name == "rewind-logger system metrics" for thread in threading.enumerate())

    with init(dir=url, id="r", **OFF):
        with init(dir=url, id="s", **OFF):
            assert threads() == 1
        assert threads() == 1
    assert threads() == 0


def test_samples_come_soon_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "FIRST_S", 0.0)
    monkeypatch.setattr(sampler, "INTERVAL_S", 0.01)
    taken: list[dict[str, Any]] = []
    enough = threading.Semaphore(0)

    def take(values: dict[str, Any]) -> None:
        taken.append(values)
        enough.release()

    one, taker = Sampler(), Taker(take)
    one.add(taker)
    one.add(taker)
    for _ in range(5):
        assert enough.acquire(timeout=60)
    one.remove(taker)
    count = len(taken)
    rates = {"network/received_bytes_per_s", "network/sent_bytes_per_s"}
    assert rates <= taken[-1].keys()
    assert min(taken[-1][name] for name in rates) >= 0
    one.remove(taker)
    assert len(taken) == count, "nothing comes to whoever is gone"


def test_a_run_that_comes_to_rest_soon_after_a_sample_gets_no_other(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "FIRST_S", 3600.0)
    with init(dir=url, id="r", **OFF):
        pass
    assert steps(url) == []


def test_what_cannot_be_measured_is_left_out_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such file: /proc/net/dev")

    monkeypatch.setattr(psutil, "net_io_counters", fails)
    monkeypatch.setattr(psutil, "virtual_memory", fails)
    with caplog.at_level(logging.DEBUG, "rewind_logger"):
        machine = Machine(Measures())
        found = [machine.sample() for _ in range(3)]
    assert found[-1].keys() & EVERYWHERE == EVERYWHERE - {"machine/memory_used_bytes", "machine/memory_percent"}
    assert len([message for message in caplog.messages if "/proc/net/dev" in message]) == 2


def test_a_counter_that_begins_anew_gives_no_rate() -> None:
    measures = Measures()
    assert measures.rates(10.0, {"bytes_per_s": 500}) == {}
    assert measures.rates(12.0, {"bytes_per_s": 700}) == {"bytes_per_s": 100.0}
    assert measures.rates(13.0, {"bytes_per_s": 5}) == {}
    assert measures.rates(14.0, {"bytes_per_s": 10}) == {"bytes_per_s": 5.0}


class Driver:
    """Answers as the driver of two GPUs does, one of which does not tell its power."""

    NVML_TEMPERATURE_GPU = pynvml.NVML_TEMPERATURE_GPU

    def __getattr__(self, name: str) -> Any:
        assert callable(getattr(pynvml, name)), "the real module has it"
        raise NotImplementedError(name)

    def nvmlInit(self) -> None: ...

    def nvmlShutdown(self) -> None: ...

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=90 + handle, memory=40)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=80 << 30, used=20 << 30, free=60 << 30)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        if handle:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return 350_500

    def nvmlDeviceGetTemperature(self, handle: int, kind: int) -> int:
        assert kind == pynvml.NVML_TEMPERATURE_GPU
        return 61


def test_each_gpu_has_its_measures() -> None:
    for name in vars(Driver):
        assert name.startswith("_") or hasattr(pynvml, name), "the real module has it"
    gpus = Gpus(Measures(), Driver())
    assert gpus.sample() == {
        "gpu/0/utilization_percent": 90,
        "gpu/0/memory_used_bytes": 20 << 30,
        "gpu/0/memory_percent": 25.0,
        "gpu/0/power_watts": 350.5,
        "gpu/0/temperature_celsius": 61,
        "gpu/1/utilization_percent": 91,
        "gpu/1/memory_used_bytes": 20 << 30,
        "gpu/1/memory_percent": 25.0,
        "gpu/1/temperature_celsius": 61,
    }
    gpus.close()


def devices() -> int:
    """How many GPUs there are."""
    try:
        pynvml.nvmlInit()
        return int(pynvml.nvmlDeviceGetCount())
    except pynvml.NVMLError:
        return 0


@pytest.mark.skipif(devices() > 0, reason="there is a GPU")
def test_without_a_gpu_there_are_no_measures_of_one() -> None:
    assert Gpus(Measures(), pynvml).sample() == {}


@pytest.mark.skipif(devices() == 0, reason="needs a GPU")
def test_a_real_gpu() -> None:
    found = Gpus(Measures(), pynvml).sample()
    assert {"gpu/0/utilization_percent", "gpu/0/memory_used_bytes", "gpu/0/memory_percent"} <= found.keys()


CRASH = """
import sys
import rewind_logger
from rewind_logger.sdk.system import sampler

sampler.FIRST_S, sampler.INTERVAL_S = 0.0, 0.01
run = rewind_logger.init(project="p", id="r", console=False)
for step in range(10):
    run.log({"loss": 1.0})
append, left = run._append, [3]

def record(stream, *rest):
    append(stream, *rest)
    left[0] -= stream == "system"
    if left[0] == 0:
        print("sampled", flush=True)

run._append = record
input()
"""


def test_the_gap_between_a_crash_and_its_resume_is_one_in_time_and_none_on_the_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(CRASH, tmp_path) as script:
        script.hear("sampled")
        script.kill()
    url = str(tmp_path / "rewind_logs")
    monkeypatch.setattr(sampler, "FIRST_S", 3600.0)
    monkeypatch.setattr(sampler, "LAST_S", 0.0)
    with init(dir=url, id="r", resume="must", **OFF) as run:
        assert run.starting_step == 10
    rows = open_store(url).run("p/r").history(stream="system").to_arrow().to_pylist()
    clock, seconds = [row["_step"] for row in rows], [row["_timestamp"] for row in rows]
    assert len(clock) >= 4, "what was sampled before the kill is there, and what came after"
    assert (clock[0], clock[-1]) == (10, 10)
    assert seconds == sorted(seconds) and seconds[-1] > seconds[-2]


def test_a_run_that_ends_within_a_row_waits_for_no_sample(tmp_path: Path) -> None:
    """A signal's handler finishes it, while the thread that samples waits for that row."""
    run = init(dir=tmp_path, project="p", id="a", console=False)
    of_process = sampler.of_process()
    with run._lock:  # as within `log`
        while not of_process._takers:
            threading.Event().wait(0.001)
        of_process._takers[0].due = 0.0
        of_process._wakes.put(None)
        while of_process._lock.acquire(blocking=False):  # until a sample is being given
            of_process._lock.release()
            threading.Event().wait(0.0001)
        run.finish()
    assert open_store(tmp_path).run("p/a").state == "finished"
