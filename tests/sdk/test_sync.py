"""`rewind_logger.sync`: what a person types to bring in what waits on a machine."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

from rewind_logger import ConfigError, init, open_store, sync
from rewind_logger.storage import open_storage
from tests.conftest import Bucket
from tests.history.lines import end, line, log, opened, read
from tests.history.machine import die
from tests.sdk.reading import rows
from tests.sdk.scripts import script
from tests.servers import moto_server


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def credentials(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give those of the server where its client looks for them."""
    options = bucket.storage_options
    monkeypatch.setenv("AWS_ENDPOINT_URL", options["client_kwargs"]["endpoint_url"])
    monkeypatch.setenv("AWS_DEFAULT_REGION", options["client_kwargs"]["region_name"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options["key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options["secret"])


KILLED = """
import os, signal, sys
import rewind_logger
run = rewind_logger.init(dir=sys.argv[1], project="p", id=sys.argv[2], console=False, system_metrics=False)
for i in range(10):
    run.log({"a": i})
run.flush()
run._writer._flusher.stop()  # what follows is in the journal only
for i in range(10, 30):
    run.log({"a": i})
os.kill(os.getpid(), signal.SIGKILL)
"""


def kill(url: str, folder: Path, run: str = "r1") -> None:
    """Log thirty rows in a process that is killed when ten of them are in the store."""
    code = KILLED.replace("sys.argv[1]", repr(url)).replace("sys.argv[2]", repr(run))
    assert script(code, folder, check=False).returncode == -signal.SIGKILL


@pytest.mark.usefixtures("credentials")
def test_without_a_url_every_remote_store_of_the_machine_is_synced(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = [f"{bucket.url}/one", f"{bucket.url}/two words"]
    for url in urls:
        kill(url, tmp_path)
    found = sync()
    assert sorted((one.store, str(one.run), one.what) for one in found) == [(url, "p/r1", "brought in") for url in urls]
    assert all(one.rows >= 20 for one in found)
    for url in urls:
        assert open_store(url).run("p/r1").history().to_arrow()["a"].to_pylist() == list(range(30))
    assert sync() == []
    assert not list((tmp_path / "spool").rglob("*.part"))


def test_the_command_that_messages_name_brings_rows_in(url: str, tmp_path: Path) -> None:
    kill(url, tmp_path)
    done = script(f"import rewind_logger; print(*rewind_logger.sync({url!r}), sep='\\n')", tmp_path)
    assert "rows were brought in" in done.stdout
    assert [row["a"] for row in rows(url, "p/r1")] == list(range(30))


def test_the_rows_of_a_writer_that_was_taken_over_become_a_fork_by_the_command_it_names(
    url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = init(dir=url, project="p", id="r1", config={"lr": 0.1}, console=False, system_metrics=False)
    first.log({"a": 0})
    first.flush()
    second = init_elsewhere(url, tmp_path)
    for i in range(1, 4):
        first.log({"a": i})
    first.finish()
    assert f"rewind_logger.sync('{url}', as_fork=True)" in caplog.text
    assert second == [0, 100]
    (found,) = sync(url, as_fork=True)
    assert found.fork is not None
    fork = open_store(url).run(str(found.fork))
    assert fork.history().to_arrow()["a"].to_pylist() == [0, 1, 2, 3]
    assert fork.config == {"lr": 0.1}
    assert fork.revisions[0].parent is not None
    assert [row["a"] for row in rows(url, "p/r1")] == [0, 100]


def init_elsewhere(url: str, folder: Path) -> list[object]:
    """Go on with the run in another process; return what the run has then."""
    code = f"with rewind_logger.init(dir={url!r}, project='p', id='r1') as run: run.log({{'a': 100}})"
    script(f"import rewind_logger\n{code}", folder)
    return [row["a"] for row in rows(url, "p/r1")]


def test_a_live_run_of_this_very_process_is_left_alone(url: str) -> None:
    run = init(dir=url, project="p", id="r1")
    run.log({"a": 0})
    assert {one.what for one in sync(url, as_fork=True)} <= {"in use"}
    run.log({"a": 1})
    assert run.flush()
    run.finish()
    assert sync(url) == []


def test_what_is_no_store_is_refused() -> None:
    with pytest.raises(ConfigError):
        sync("nothing://x")


def test_nothing_waits_where_nothing_was_logged(tmp_path: Path) -> None:
    assert sync() == []
    assert sync(tmp_path / "no store") == []
    assert not os.listdir(tmp_path)


def test_rows_of_a_run_at_another_endpoint_under_the_same_url_wait_for_that(bucket: Bucket) -> None:
    url = f"{bucket.url}/exp"
    with moto_server() as other:
        other.create_bucket(bucket.url.removeprefix("s3://"))
        here, there = (open_storage(url, options) for options in (bucket.storage_options, other.storage_options))
        writer = opened(here)
        log(writer, range(3))
        assert writer.flush()
        log(writer, [3])
        die(writer)
        [found] = sync(url, storage_options=other.storage_options)
        assert found.what == "waiting" and "opened at another endpoint" in found.trouble
        end(opened(there))
        assert read(there) == []
    [found] = sync(url, storage_options=bucket.storage_options)
    assert found.what == "brought in"
    assert read(here) == line(range(4))
