"""What waits on this machine for its upload: it is there as long as it is needed, and nobody takes it away."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from rewind_logger import init, open_store
from rewind_logger.history.journals import locks
from rewind_logger.sdk.artifacts.staging import Staging, clean
from tests.conftest import Bucket
from tests.sdk.scripts import script
from tests.sdk.test_artifacts import content, told
from tests.sdk.uploading import Far, Gate, files_in, of_file, opened, staged, stored, to_open


def test_an_immutable_file_is_not_copied_first(far: Far, spool: Path, tmp_path: Path) -> None:
    gate = far.on_file = Gate()
    run = opened(far)
    run.log_artifact(of_file(tmp_path / "model", "x", policy="immutable"))
    assert gate.reached.wait(60)
    assert staged(spool) == ["artifact"]
    run.log_artifact(of_file(tmp_path / "other", "y"))
    assert staged(spool) == ["000000000", "artifact", "artifact"]
    gate.open.set()
    run.finish()
    assert [content(one, tmp_path) for one in stored(far).artifacts] == ["x", "y"]


def test_a_run_with_nothing_on_its_way_costs_nothing(far: Far, spool: Path, tmp_path: Path) -> None:
    run = opened(far)
    for word in ("one", "two"):
        run.log_artifact(of_file(tmp_path / "model", word)).wait(60)
        for thread in threading.enumerate():
            if thread.name.startswith("rewind-logger-upload"):
                thread.join(60)
        assert not any(thread.name.startswith("rewind-logger-upload") for thread in threading.enumerate())
        assert not list(spool.rglob("staged-*"))
    run.finish()
    assert [label for label, _, _ in told(stored(far))] == ["m:v0", "m:v1"]


KILLED = """
import ast, os, signal, sys
from pathlib import Path
import rewind_logger

url, options = {url!r}, ast.literal_eval({options!r})
run = rewind_logger.init(dir=url, project="p", id="r1", storage_options=options)
run.log({{"a": 0}})
run.flush()

def die(**_):
    os.kill(os.getpid(), signal.SIGKILL)

storage = run._storage.inner
sending = storage._for_files(storage.filesystem, 40_000_000)
sending.connect()
sending.s3.meta.events.register("before-send.s3.UploadPart", die)
Path("model").write_bytes(os.urandom(40_000_000))
artifact = rewind_logger.Artifact("m", "model")
artifact.add_file("model")
run.log_artifact(artifact)
run.log({{"a": 1}})
run.finish()
"""


def test_killed_in_an_upload(bucket: Bucket, spool: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where: dict[str, Any] = {"dir": f"{bucket.url}/exp", "storage_options": bucket.storage_options}
    code = KILLED.format(url=where["dir"], options=repr(bucket.storage_options))
    done = script(code, tmp_path, check=False, REWIND_LOGGER_SPOOL=str(spool))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert staged(spool) == ["000000000", "artifact"]
    store = open_store(**to_open(where))
    assert store.run("p/r1").artifacts == []
    with init(**where, project="p", id="r1") as run:
        said = capsys.readouterr().err
        assert "the artifact m of step 1 of run p/r1 is not in the store: its process was killed" in said
        assert staged(spool) == []
        assert run.step == 2, "the rows are there"
        run.log_artifact(of_file(tmp_path / "model", "again"))
    assert told(store.run("p/r1")) == [("m:v0", ["latest"], 2)]
    assert files_in(spool) == []
    name = bucket.url.removeprefix("s3://")
    with init(**where, project="p", id="r1"):
        assert "is not in the store" not in capsys.readouterr().err
    found = run._storage.inner.filesystem.call_s3("list_objects_v2", Bucket=name)["Contents"]  # type: ignore[attr-defined]
    assert not [one["Key"] for one in found if one["Size"] > 1_000_000 and re.search("blobs/", one["Key"])]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_leaves_the_upload_to_its_parent(far: Far, spool: Path, tmp_path: Path) -> None:
    gate = far.on_file = Gate()
    run = opened(far)
    artifact = run.log_artifact(of_file(tmp_path / "model", "x"))
    assert gate.reached.wait(60)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run.log_artifact(of_file(tmp_path / "other", "y"))
            run.finish()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert staged(spool) == ["000000000", "artifact"]
    gate.open.set()
    assert artifact.wait(60).version == "v0"
    run.finish()
    assert told(stored(far)) == [("m:v0", ["latest"], 0)]


def test_what_is_staged_outlasts_the_upload_before_it(tmp_path: Path) -> None:
    waiting = Staging(tmp_path)
    for _ in range(2):
        first, second = waiting.begin("first"), waiting.begin("second")
        waiting.discard(first)
        assert clean(tmp_path) == [], "it is still in use"
        assert (second / "artifact").read_text() == "second"
        waiting.discard(second)
        tmp_path.mkdir(exist_ok=True)
        assert list(tmp_path.iterdir()) == []


def test_what_a_living_process_has_waiting_is_left_alone(far: Far, spool: Path, tmp_path: Path) -> None:
    gate = far.on_file = Gate()
    run = opened(far)
    artifact = run.log_artifact(of_file(tmp_path / "model", "x"))
    assert gate.reached.wait(60)
    run._artifacts.begin()  # as another opening of the run on this machine would
    assert staged(spool) == ["000000000", "artifact"]
    gate.open.set()
    artifact.wait(60)
    run.finish()


def test_what_is_just_being_staged_is_left_alone(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment before it is locked another process looks for what was left waiting."""
    look = "import sys, pathlib as p; from rewind_logger.sdk.artifacts.staging import clean; clean(p.Path(sys.argv[1]))"
    staging, lock = Staging(spool), locks._try_lock

    def look_and_lock(fd: int) -> bool:
        subprocess.run([sys.executable, "-c", look, str(spool)], check=True)
        return lock(fd)

    monkeypatch.setattr(locks, "_try_lock", look_and_lock)
    folder = staging.begin("an artifact")
    monkeypatch.undo()
    assert (folder / "artifact").read_text() == "an artifact"
    subprocess.run([sys.executable, "-c", look, str(spool)], check=True)
    assert folder.is_dir(), "it is seen to be ours"
    staging.discard(folder)
    assert not spool.exists()
