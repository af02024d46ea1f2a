"""Whatever a process does with threads, forks and event loops while it logs, and however it ends."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

from rewind_logger import init, open_store
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
    "an exit handler that logs": "import atexit; atexit.register(lambda: run.log({'a': 100}))",
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
    assert found[:100] == list(range(100)) and len(found) <= 101


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
