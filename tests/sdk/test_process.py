"""What becomes of a run when its process ends, dies or forks, and what is said on the way."""

from __future__ import annotations

import copy
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from rewind_logger import init, open_store
from tests.conftest import Bucket
from tests.sdk.reading import rows
from tests.sdk.scripts import script

HEAD = "import rewind_logger\nrun = rewind_logger.init(project='p', id='r1')\n"


def resolving(bucket: Bucket) -> tuple[dict[str, Any], str]:
    """Return options with which names are resolved again and again, in an executor, and a script that opens a run."""
    options = copy.deepcopy(bucket.storage_options)
    endpoint = options["client_kwargs"]["endpoint_url"].replace("127.0.0.1", "localhost")
    options["client_kwargs"]["endpoint_url"] = endpoint
    options["config_kwargs"] = {"connector_args": {"use_dns_cache": False}}
    opening = f"init(dir={bucket.url!r} + '/x', project='p', id='r1', storage_options={options!r})"
    return options, f"import rewind_logger\nrun = rewind_logger.{opening}\n"


def test_an_unfinished_run_is_finished_at_the_end_of_the_process(tmp_path: Path) -> None:
    done = script(HEAD + "for i in range(100): run.log({'a': i})\ndel run", tmp_path)
    assert len(rows(str(tmp_path / "rewind_logs"), "p/r1")) == 100
    assert open_store(tmp_path / "rewind_logs").run("p/r1").state == "finished"
    assert done.stderr.splitlines() == [
        f"rewind-logger: run p/r1 in {tmp_path}/rewind_logs is new.",
        "rewind-logger: run p/r1 finished at step 99.",
    ]


def test_a_process_that_ends_by_an_exception_has_a_failed_run(tmp_path: Path) -> None:
    done = script(HEAD + "run.log({'a': 0})\nraise ValueError('boom')", tmp_path, check=False)
    assert done.returncode == 1
    assert open_store(tmp_path / "rewind_logs").run("p/r1").state == "failed"
    assert len(rows(str(tmp_path / "rewind_logs"), "p/r1")) == 1


def test_the_end_of_the_process_finishes_a_run_on_s3(tmp_path: Path, bucket: Bucket) -> None:
    """By then executors take no more work, and the backend needs one to find the address of the server."""
    _, code = resolving(bucket)
    done = script(code + "for i in range(100): run.log({'a': i})", tmp_path, XDG_CACHE_HOME=str(tmp_path))
    stored = open_store(f"{bucket.url}/x", bucket.storage_options).run("p/r1")
    assert (len(stored.history()), stored.state) == (100, "finished"), done.stderr
    assert not list(tmp_path.rglob("*.part")), "nothing is left in the spool"


TRAINING = """
def train():
    for i in range(20):
        run.log({'a': i})
        time.sleep(0.02)
    print("trained")
"""


@pytest.mark.parametrize(
    "start", ["threading.Thread(target=train).start()", "ThreadPoolExecutor().submit(train)"], ids=["thread", "pool"]
)
def test_threads_that_train_beyond_the_end_of_the_script_log_to_their_run_until_they_end(
    start: str, tmp_path: Path
) -> None:
    """Python waits for such threads; what it calls at its end comes before that, or after it."""
    imports = "import threading, time\nfrom concurrent.futures import ThreadPoolExecutor\n"
    done = script(imports + HEAD + TRAINING + start, tmp_path)
    stored = open_store(tmp_path / "rewind_logs").run("p/r1")
    assert "trained" in done.stdout, done.stderr
    assert (len(stored.history()), stored.state) == (20, "finished")
    assert done.stderr.count("finished at step 19.") == 1


def test_what_they_log_to_s3_when_executors_have_ended_is_in_the_store_or_in_the_journal(
    tmp_path: Path, bucket: Bucket
) -> None:
    options, code = resolving(bucket)
    code = "import threading, time\n" + code + TRAINING + "threading.Thread(target=train).start()"
    done = script(code, tmp_path, XDG_CACHE_HOME=str(tmp_path))
    assert "trained" in done.stdout, done.stderr
    store = open_store(f"{bucket.url}/x", bucket.storage_options)
    whole = "p/r1 finished at step 19." in done.stderr
    if not whole:
        assert "not all of it is in the store" in done.stderr and "is kept in" in done.stderr, done.stderr
        assert list(tmp_path.rglob("*.part"))
        sync = f"import rewind_logger\nrewind_logger.sync({bucket.url!r} + '/x', storage_options={options!r})"
        script(sync, tmp_path, XDG_CACHE_HOME=str(tmp_path))
    assert len(store.run("p/r1").history()) == 20, done.stderr


def test_after_a_kill_the_next_opening_brings_the_rows_in(tmp_path: Path) -> None:
    code = HEAD + "for i in range(500): run.log({'a': i})\nimport os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    done = script(code, tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    url = str(tmp_path / "rewind_logs")
    with init(dir=url, project="p", resume_from="r1?_step=99") as run:
        assert run.step == 100
    assert len(rows(url, "p/r1")) == 100
    assert len(rows(url, "p/r1@1")) == 500, "the archived revision has its last rows too"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_logs_nothing_and_says_so_once(tmp_path: Path) -> None:
    code = HEAD + (
        "import os, sys, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"  # Python 3.12: a fork beside threads
        "run.log({'a': 0})\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    for i in range(3): run.log({'a': -1})\n"
        "    run.config.lr = 1\n"
        "    sys.exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "run.log({'a': 1})\n"
    )
    done = script(code, tmp_path)
    assert rows(str(tmp_path / "rewind_logs"), "p/r1") == [{"_step": 0, "a": 0}, {"_step": 1, "a": 1}]
    assert done.stderr.count("belongs to the parent of this forked process") == 1
    assert done.stderr.count("finished") == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_may_open_a_run_of_its_own(tmp_path: Path) -> None:
    code = HEAD + (
        "import os, sys, warnings\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    run = rewind_logger.init(project='p', id='r2')\n"
        "    run.log({'a': 2})\n"
        "    sys.exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
        "run.log({'a': 1})\n"
    )
    script(code, tmp_path)
    url = str(tmp_path / "rewind_logs")
    assert rows(url, "p/r1") == [{"_step": 0, "a": 1}]
    assert rows(url, "p/r2") == [{"_step": 0, "a": 2}]


def test_quiet(tmp_path: Path) -> None:
    assert script(HEAD + "run.log({'a': 0})", tmp_path, REWIND_LOGGER_QUIET="1").stderr == ""


@pytest.mark.parametrize("end", ["sys.stderr.close()", "sys.stderr = None", "os.close(2)"])
def test_without_a_stderr_everything_works(tmp_path: Path, end: str) -> None:
    script(f"import os, sys\n{end}\n" + HEAD + "run.log({'a': 0})\nrun.finish()", tmp_path)
    assert len(rows(str(tmp_path / "rewind_logs"), "p/r1")) == 1


def test_what_is_printed_to_a_closed_stream_goes_into_no_file(tmp_path: Path) -> None:
    """The next file that is opened would get the stream's number."""
    close = "import os\nfor number in range(3): os.close(number)\n"
    printing = "for step in range(100):\n    run.log({'a': step})\n    os.write(2, b'a line of somebody else')\n"
    script(close + HEAD + printing + "run.finish()", tmp_path)
    assert [row["a"] for row in rows(str(tmp_path / "rewind_logs"), "p/r1")] == list(range(100))
