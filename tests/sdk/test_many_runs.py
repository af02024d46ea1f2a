"""A process with many runs, one with few descriptors, and paths that people have."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from rewind_logger import ConfigError, StorageError, init, open_store
from rewind_logger.storage import open_storage
from tests.conftest import Bucket
from tests.figures import count
from tests.sdk.reading import rows
from tests.sdk.scripts import script

MANY = """
import os, resource, threading
import rewind_logger

def used():
    return len(os.listdir("/proc/self/fd")), threading.active_count()

options = dict(project="p", console=False, system_metrics=False)
rewind_logger.init(id="first", **options).finish()
before = used()
runs = []
for number in range({runs}):
    runs.append(rewind_logger.init(id=f"r{{number}}", **options))
    for step in range(5):
        runs[-1].log({{"a": step}})
    if not {together}:
        runs[-1].finish()
for step in range(5, 10) if {together} else ():
    for run in runs:
        run.log({{"a": step}})
for run in runs:
    run.finish()
print(before, used())
assert used() == before
"""


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("runs", [25, pytest.param(1000, marks=pytest.mark.exhaustive)])
def test_a_process_may_have_a_thousand_runs_and_keeps_nothing_of_those_that_ended(
    runs: int, together: bool, tmp_path: Path
) -> None:
    done = script(MANY.format(runs=runs, together=together), tmp_path, REWIND_LOGGER_QUIET="1")
    assert done.stderr == ""
    store = open_store(tmp_path / "rewind_logs")
    for number in range(runs):
        found = store.run(f"p/r{number}").history().to_arrow()["a"].to_pylist()
        count("rows checked", len(found))
        assert found == list(range(10 if together else 5))


FEW = """
import resource
import rewind_logger
resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {limit}))
runs = []
for number in range(100):
    try:
        runs.append(rewind_logger.init(project="p", id=f"r{{number}}", console=False, system_metrics=False))
    except rewind_logger.StorageError as error:
        assert "Too many open files" in str(error)
for step in range(200):
    for run in runs:
        run.log({{"a": step}})
for run in runs:
    run.finish()
print(" ".join(run.id for run in runs))
"""


def test_where_descriptors_run_out_no_run_that_was_opened_loses_a_row(tmp_path: Path) -> None:
    """What cannot have a file is held in memory; a run that cannot be opened is refused."""
    done = script(FEW.format(limit=64), tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "(Too many open files): rows are held in memory" in done.stderr
    opened = done.stdout.split()
    assert len(opened) > 10
    count("faults injected", done.stderr.count("Too many open files"))
    for name in opened:
        found = rows(str(tmp_path / "rewind_logs"), f"p/{name}")
        count("rows checked", 200)
        count("rows lost", 200 - len(found))
        assert [row["a"] for row in found] == list(range(200))


KILLED = """
import os, signal
import rewind_logger
run = rewind_logger.init(dir={url!r}, project={project!r}, id={id!r}, storage_options={options!r})
for i in range(100):
    run.log({{"a": i}})
os.kill(os.getpid(), signal.SIGKILL)
"""

FOLDERS = [
    "with spaces  and more",
    "spaces, ünï-cødé ☃ 漢字 🎉 and %20#?",
    "عربى",
    "quotes ' and \" and `",
    "per%20cent #hash ?query &and;semicolon",
    "-dash",
    "[brackets]{braces}*star",
    "line\nbreak",
    "/".join(["long" * 40] * 8),
]
EXHAUSTIVE = [pytest.param(folder, marks=pytest.mark.exhaustive) for folder in FOLDERS if folder != FOLDERS[1]]


@pytest.mark.parametrize("folder", [FOLDERS[1], *EXHAUSTIVE])
def test_a_store_and_a_spool_may_have_any_path(folder: str, bucket: Bucket, tmp_path: Path) -> None:
    project, run = "project of spaces ☃", "ID with ünï 漢字"
    for url, options in ((str(tmp_path / folder), None), (f"{bucket.url}/exp", bucket.storage_options)):
        code = KILLED.format(url=url, project=project, id=run, options=options)
        done = script(code, tmp_path, check=False, REWIND_LOGGER_SPOOL=str(tmp_path / "spool" / folder))
        assert done.returncode == -signal.SIGKILL, done.stderr
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool" / folder))
            where: dict[str, Any] = {"dir": url, "storage_options": options}
            with init(**where, project=project, id=run) as again:
                again.log({"a": 100})
        found = open_store(url, options).run(f"{project}/{run}").history().to_arrow()["a"].to_pylist()
        count("rows checked", 101)
        count("rows lost", 101 - len(found))
        assert found == list(range(101))


def test_a_path_that_the_disk_cannot_have_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"the name is too long for this file system.*shorter"):
        init(dir=tmp_path / ("x" * 300), project="p")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="is a file, not a folder"):
        init(dir=tmp_path / "file", project="p")
    with pytest.raises((ConfigError, StorageError)):
        open_storage("")
