"""Processes that may not write where a store, a spool or a home should be."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from rewind_logger import open_store
from tests.conftest import Bucket
from tests.figures import count
from tests.history.processes import running
from tests.sdk.reading import rows

USER = 65_533
"""Whom nobody has given a name, nor a home: as in many containers."""


def as_nobody() -> list[str]:
    """The words before a command that is to have no right to write; none are needed for who has none."""
    if os.geteuid() != 0:
        return []
    assert shutil.which("setpriv"), "root may write anywhere: setpriv (util-linux) is needed to be somebody else"
    may_read = [
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
    ]  # the interpreter, which may be root's
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *may_read]


def run(
    code: str, folder: Path, environment: Mapping[str, str] | None = None, *, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run a script that may write to `folder`/tmp alone."""
    known = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    return subprocess.run(
        [*as_nobody(), sys.executable, "-c", code],
        cwd=folder,
        env={**known, "TMPDIR": str(own(folder / "tmp")), **(environment or {})},
        capture_output=True,
        text=True,
        check=check,
    )


def own(folder: Path) -> Path:
    """Make a folder that the user may write to."""
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(folder, USER, USER)
    return folder


LOGS = """
import os, signal, sys
import rewind_logger
run = rewind_logger.init(dir={url!r}, project="p", id="a", storage_options={options!r})
for i in range(run.step, {stop}):
    run.log({{"a": i}})
{ending}
"""

KILL = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(
    "home",
    [
        "none",
        pytest.param("/nonexistent", marks=pytest.mark.exhaustive),
        pytest.param("read-only", marks=pytest.mark.exhaustive),
    ],
)
def test_without_a_home_the_journal_of_a_remote_store_lies_with_temporary_files(
    home: str, bucket: Bucket, tmp_path: Path
) -> None:
    """And a kill costs nothing."""
    url = f"{bucket.url}/exp"
    (tmp_path / "home").mkdir(mode=0o555)
    where = {"none": {}, "/nonexistent": {"HOME": "/nonexistent"}, "read-only": {"HOME": str(tmp_path / "home")}}[home]
    first = LOGS.format(url=url, options=bucket.storage_options, stop=500, ending=KILL)
    done = run(first, tmp_path, where, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert ("rows wait in" in done.stderr) == (home != "none"), done.stderr
    count("faults injected")
    second = LOGS.format(url=url, options=bucket.storage_options, stop=600, ending="run.finish()")
    run(second, tmp_path, where)
    stored = open_store(url, bucket.storage_options).run("p/a")
    found = stored.history().to_arrow()["a"].to_pylist()
    count("rows checked", 600)
    count("rows lost", 600 - len(found))
    assert found == list(range(600)) and stored.state == "finished"
    assert not list(tmp_path.rglob("*.part")), "nothing waits any more"


def test_a_store_that_may_not_be_written_is_refused_at_once_and_can_be_read(tmp_path: Path) -> None:
    store = tmp_path / "store"
    own(tmp_path / "store")
    run(LOGS.format(url=str(store), options=None, stop=50, ending="run.finish()"), tmp_path)
    for folder in [store, *(path for path in store.rglob("*") if path.is_dir())]:
        folder.chmod(0o555)
    count("faults injected")
    refused = run(LOGS.format(url=str(store), options=None, stop=60, ending="run.finish()"), tmp_path, check=False)
    assert refused.returncode == 1
    assert "StorageError: Could not" in refused.stderr and "permission was denied" in refused.stderr
    assert "Check who owns the folder and its mode" in refused.stderr
    reads = f"import rewind_logger\nprint(len(rewind_logger.open_store({str(store)!r}).run('p/a').history()))"
    assert run(reads, tmp_path).stdout == "50\n"


REVOKED = """
import rewind_logger
run = rewind_logger.init(dir="store", project="p", id="a", console=False, system_metrics=False)
for i in range(100):
    run.log({"a": i})
run.flush()
print("open", flush=True)
input()
for i in range(100, 300):
    run.log({"a": i})
try:
    run.flush()
except rewind_logger.StorageError as error:
    print("refused" if "permission was denied" in str(error) else error, flush=True)
input()
for i in range(300, 400):
    run.log({"a": i})
run.finish()
"""


@pytest.mark.parametrize("restored", [pytest.param(True, marks=pytest.mark.exhaustive), False])
def test_the_right_to_write_can_be_lost_and_had_again_while_a_run_goes_on(restored: bool, tmp_path: Path) -> None:
    """If it is not had again, the rows are kept where there is a right, and are there with the next opening."""
    store = own(tmp_path / "store")
    temporary = {"TMPDIR": str(own(tmp_path / "tmp")), "HOME": "/nonexistent"}

    def set_mode(mode: int) -> None:
        for folder in [store, *(path for path in store.rglob("*") if path.is_dir())]:
            folder.chmod(mode)

    with running(REVOKED, tmp_path, before=as_nobody(), **temporary) as script:
        script.hear("open")
        set_mode(0o555)
        count("faults injected")
        script.go_on()
        script.hear("refused")
        if restored:
            set_mode(0o755)
        script.go_on()
        told = script.end()
    set_mode(0o755)
    if restored:
        assert "finished at step 399." in told
    else:
        assert "but not all of it is in the store" in told and str(tmp_path / "tmp") in told
        ending = "run.finish()"
        done = run(LOGS.format(url=str(store), options=None, stop=400, ending=ending), tmp_path, temporary)
        assert "brought in: " in done.stderr
    found = [row["a"] for row in rows(str(store), "p/a") if "a" in row]
    count("rows checked", 400)
    count("rows lost", 400 - len(found))
    assert found == list(range(400))
