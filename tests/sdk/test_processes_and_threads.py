"""Whatever a process does with threads, forks and event loops while it logs, and however it ends."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import Any

import pytest

from rewind_logger import Run, init, open_store
from rewind_logger.history import writer
from rewind_logger.history.opening import OpenRequest
from rewind_logger.sdk.run_spec import RunSpec
from rewind_logger.storage.local import LocalStorage
from rewind_logger.types import Position, RunRef
from tests.figures import count
from tests.sdk.reading import rows
from tests.sdk.scripts import script

FORKS = """
import os, signal, sys, threading, warnings
import faulthandler
faulthandler.register(signal.SIGALRM, chain=True)  # a child that waits for ever dies, and says where
warnings.simplefilter("ignore", DeprecationWarning)
import rewind_logger

run = rewind_logger.init(project="p", id="a")
stop = threading.Event()
logged = [0] * 4

def work(number):
    while not stop.is_set():
        run.log({{f"t{{number}}": logged[number]}})
        logged[number] += 1
        if logged[number] % 50 == 0:
            print("thread", number, logged[number])
        stop.wait(0.0005)

threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for child in range({forks}):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        run.log({{"child": child}})
        print("child", child)
        dict(run.summary), run.config.as_dict()
        if child % 3 == 0:
            with rewind_logger.init(project="p", id=f"c{{child}}") as mine:
                for i in range(20):
                    mine.log({{"a": i}})
        elif child % 3 == 1:
            run.finish()
        else:
            run.flush()
        os._exit(0) if child % 2 else sys.exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, status
stop.set()
for thread in threads:
    thread.join()
run.finish()
os.write(1, f"\\n={{logged}}\\n".encode())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("forks", [9, pytest.param(90, marks=pytest.mark.exhaustive)])
def test_a_fork_in_the_midst_of_logging_threads_holds_nobody_up_and_costs_no_row(forks: int, tmp_path: Path) -> None:
    """A lock that another thread held at that moment would be held for ever in the child."""
    done = script(FORKS.format(forks=forks), tmp_path)
    [logged] = [ast.literal_eval(line[1:]) for line in done.stdout.splitlines() if line.startswith("=")]
    store = str(tmp_path / "rewind_logs")
    found = rows(store, "p/a")
    for number, expected in enumerate(logged):
        mine = [row[f"t{number}"] for row in found if f"t{number}" in row]
        count("rows checked", expected)
        count("rows lost", expected - len(mine))
        assert mine == list(range(expected))
    assert len(open_store(store).runs()) == 1 + (forks + 2) // 3
    for child in range(0, forks, 3):
        assert [row["a"] for row in rows(store, f"p/c{child}")] == list(range(20))


HELD = """
import os, signal, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
from rewind_logger.errors import TransientStorageError
from rewind_logger.history import store_clock
from rewind_logger.storage import retry
from rewind_logger.storage.faults import Fault, FaultyStorage
from rewind_logger.storage.memory import MemoryStorage

def fail_first(request):
    return Fault("before", TransientStorageError("It is away.")) if request.number == 0 else None

memory = MemoryStorage("memory://held")
retrying = retry.RetryingStorage(FaultyStorage(memory, fail_first), first_wait=0)
held, done = threading.Event(), threading.Event()

def hold():
    with retry._lock:
        held.set()
        done.wait()

thread = threading.Thread(target=hold)
thread.start()
held.wait()
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    retrying.put("a", b"1")
    store_clock.about_now(memory)
    os._exit(0 if retrying.retries.requests == 1 else 1)
_, status = os.waitpid(pid, 0)
done.set()
thread.join()
print(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_while_requests_are_counted_can_count_its_own(tmp_path: Path) -> None:
    assert script(HELD, tmp_path).stdout.strip() == "0"


@pytest.mark.parametrize("when", ["while it is opened", "before its clock is set"])
def test_what_is_logged_while_a_run_is_opened_anew_stands_where_that_begins(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread may log at any moment of a rewind: what it logs belongs to the new revision, and to its start."""
    run = Run(RunSpec(storage=LocalStorage(tmp_path), run=RunRef("p", "a"), console=False, system_metrics=False))
    run._open(OpenRequest())
    for i in range(10):
        run.log({"a": i})
    module, name = (writer, "open_run") if when == "while it is opened" else (writer.Writer, "open")
    open_it = getattr(module, name)

    def log_meanwhile(*args: Any, **more: Any) -> Any:
        if name == "open_run":
            run.log({"a": 100})
        opened = open_it(*args, **more)
        run.log({"a": 101})
        run.summary["noted"] = 1
        return opened

    monkeypatch.setattr(module, name, log_meanwhile)
    run._open(OpenRequest(at=Position(run._ref, None, 3)))
    assert run.step == 3
    run.log({"a": 3})
    run.finish()
    found = [(row["_step"], row["a"]) for row in rows(str(tmp_path), "p/a")]
    late = [(3, 100), (3, 101)] if name == "open_run" else [(3, 101)]
    assert found == [(0, 0), (1, 1), (2, 2), *late, (3, 3)]
    assert open_store(tmp_path).run("p/a?_step=2").summary.get("noted") is None


BESIDE = """
import sys
from rewind_logger import init
from rewind_logger.history import cumulative, view

cumulative.DUE_SEGMENTS = cumulative.CLOSING_SEGMENTS = view.LONG_LINEAGE = 1
for _ in range(3):
    with init(project="p", id="a") as run:
        for i in range(6):
            run.log({"a": i, "b": "text"})
            run.flush()
        dict(run.summary)
with init(project="p", resume_from="a?_step=7") as run:
    run.log({"a": 1.5})
print("pandas" in sys.modules)
"""


def test_nothing_beside_training_imports_pandas(tmp_path: Path) -> None:
    """A process that was forked in the midst of that would wait for ever, once it needs it too."""
    assert script(BESIDE, tmp_path).stdout.strip() == "False"


ENDINGS = {
    "os._exit": "os._exit(1)",
    "SIGABRT": "os.abort()",
    "a fault": "import ctypes; ctypes.string_at(0)",
    "an error in a thread": "import threading; threading.Thread(target=lambda: 1 / 0).start()",
    "a daemon that logs": "import threading; threading.Thread(target=log_for_ever, daemon=True).start()",
    "sys.exit in a thread": "import threading; threading.Thread(target=sys.exit).start()",
}

ENDS = """
import os, sys
import rewind_logger
run = rewind_logger.init(project="p", id="a")

def log_for_ever():
    while True:
        run.log({{"daemon": 1}})

for i in range(100):
    run.log({{"a": i}})
{ending}
"""


@pytest.mark.parametrize(
    "how",
    ["os._exit", *(pytest.param(how, marks=pytest.mark.exhaustive) for how in ENDINGS if how != "os._exit")],
)
def test_no_row_is_lost_however_a_process_ends(how: str, tmp_path: Path) -> None:
    script(ENDS.format(ending=ENDINGS[how]), tmp_path, check=False)
    init(dir=tmp_path / "rewind_logs", project="p", id="a").finish()
    found = [row["a"] for row in rows(str(tmp_path / "rewind_logs"), "p/a") if "a" in row]
    count("rows checked", 100)
    count("rows lost", max(0, 100 - len(found)))
    assert found == list(range(100))


EXIT = """
import atexit
import rewind_logger

def log():
    (run if {of_run} else rewind_logger).log({{"late": 1}})

atexit.register(log) if {before} else None
run = rewind_logger.init(project="p", id="a")
None if {before} else atexit.register(log)
for i in range(100):
    run.log({{"a": i}})
"""


@pytest.mark.parametrize(("before", "of_run", "said"), [(True, True, "is finished: nothing more can be logged"),
                                                        (False, False, "needs a run that is open")])  # fmt: skip
def test_an_exit_handler_comes_after_the_end_of_the_run_and_its_row_is_refused(
    before: bool, of_run: bool, said: str, tmp_path: Path
) -> None:
    """Whenever it was registered: a run is finished before, while backends can still work."""
    done = script(EXIT.format(before=before, of_run=of_run), tmp_path, check=False)
    assert done.stderr.count("rewind_logger.errors.ConfigError: ") == 1 and said in done.stderr
    store = str(tmp_path / "rewind_logs")
    assert [row.get("a") for row in rows(store, "p/a")] == list(range(100))
    assert open_store(store).run("p/a").state == "finished"


LOOP = """
import asyncio
import rewind_logger

async def work(run, number):
    for i in range(50):
        run.log({"task": number, "i": i})
        if i % 20 == number:
            await asyncio.to_thread(run.flush)
        await asyncio.sleep(0)

async def main():
    with rewind_logger.init(project="p", id="a") as run:
        await asyncio.gather(*(work(run, number) for number in range(20)))

asyncio.run(main(), debug=True)
"""


def test_tasks_of_an_event_loop_log_to_one_run(tmp_path: Path) -> None:
    script(LOOP, tmp_path)
    found = rows(str(tmp_path / "rewind_logs"), "p/a")
    count("rows checked", 1000)
    count("rows lost", 1000 - len(found))
    for number in range(20):
        assert [row["i"] for row in found if row["task"] == number] == list(range(50))


LINGERING = """
import multiprocessing, threading, time
import rewind_logger

def child():
    run = rewind_logger.init(project="p", id="a")
    run.log({"a": 1})
    threading.Thread(target=time.sleep, args=(0.5,)).start()

if __name__ == "__main__":
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    print(process.exitcode)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_of_multiprocessing_finishes_its_run_though_a_thread_of_it_goes_on(tmp_path: Path) -> None:
    """It ends by `os._exit`, which calls nothing more."""
    assert script(LINGERING, tmp_path).stdout == "0\n"
    assert open_store(str(tmp_path / "rewind_logs")).run("p/a").state == "finished"
