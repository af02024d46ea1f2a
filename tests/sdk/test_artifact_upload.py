"""Artifacts on their way to a remote store: training goes on, and nothing is seen before it is whole."""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from rewind_logger import Artifact, ConfigError, StorageError, TransientStorageError, init, open_store
from rewind_logger.history.opening import OpenRequest
from rewind_logger.sdk import run as run_module
from rewind_logger.sdk.artifacts import uploads
from rewind_logger.storage.faults import CountingStorage
from rewind_logger.types import Position
from tests.conftest import Bucket
from tests.sdk.test_artifacts import content, told
from tests.sdk.uploading import REF, Far, Gate, files_in, of_file, opened, staged, stored, to_open


def test_a_flush_waits_for_artifacts_too(far: Far, tmp_path: Path) -> None:
    far.on_file = gate = Gate()
    run = opened(far)
    run.log({"a": 0})
    artifact = run.log_artifact(of_file(tmp_path / "model", "one"))
    assert gate.reached.wait(60)
    assert not run.flush(0.01), "it is on its way"
    assert len(stored(far).history()) == 1, "rows do not wait for it"
    gate.open.set()
    assert run.flush(60)
    assert [one.version for one in stored(far).artifacts] == [artifact.version]
    run.finish()


def test_a_flush_does_not_wait_for_an_artifact_whose_store_is_away(far: Far, tmp_path: Path) -> None:
    def away() -> None:
        raise TransientStorageError("The network is down.")

    far.on_file = away
    run = opened(far)
    run.log_artifact(of_file(tmp_path / "model", "one"))
    assert not run.flush()
    far.on_file = lambda: None
    assert run.flush(60)
    assert len(stored(far).artifacts) == 1
    run.finish()


def test_on_s3(bucket: Bucket, spool: Path, tmp_path: Path) -> None:
    where: dict[str, Any] = {"dir": f"{bucket.url}/exp", "storage_options": bucket.storage_options}
    (tmp_path / "large").write_bytes(os.urandom(20_000_000))
    with init(**where, project="p", id="r1") as run:
        for step in range(4):
            artifact = of_file(tmp_path / "model", f"step {step}")
            artifact.add_file(tmp_path / "large")
            run.log_artifact(artifact, aliases=["best"] if step < 3 else [])
            run.log({"a": step})
        assert artifact.wait().version == "v3"
        far = Artifact("far", "reference")
        path = open_store(**to_open(where)).run("p/r1").artifact("m").digest
        entry = far.add_reference(
            f"{bucket.url}/exp/blobs/{path[:2]}/{path}", name="manifest", storage_options=bucket.storage_options
        )
        assert entry.size
        run.log_artifact(far)
    with init(**where, project="p", resume_from="r1?_step=2") as run:
        assert content(run.use_artifact("m:best"), tmp_path) == "step 2"
        run.log_artifact(of_file(tmp_path / "model", "again"))
    store = open_store(**to_open(where))
    assert told(store.run("p/r1")) == [("m:v0", [], 0), ("m:v1", [], 1), ("m:v2", ["best"], 2), ("m:v3", ["latest"], 3)]
    archived = store.run("p/r1@1")
    assert [one.qualified_name for one in archived.artifacts][3:] == ["p/r1@1/m:v3", "p/r1@1/far:v0"]
    assert content(archived.artifact("m:v3"), tmp_path) == "step 3"
    folder = Path(archived.artifact("m:v3").download(tmp_path / "folder"))
    assert (folder / "large").read_bytes() == (tmp_path / "large").read_bytes()
    assert b'"content.txt"' in Path(archived.artifact("far").file(tmp_path / "far")).read_bytes()
    assert files_in(spool) == [], "nothing waits on this machine"


def test_training_goes_on_and_nothing_is_seen_before_it_is_whole(far: Far, spool: Path, tmp_path: Path) -> None:
    gate = far.on_file = Gate()
    run = opened(far)
    run.log({"a": 0}, step=5)
    artifact = run.log_artifact(of_file(tmp_path / "model", "as it was"))
    (tmp_path / "model").write_text("written over")
    assert gate.reached.wait(60)
    run.log({"a": 1}, step=9)
    assert not run.flush(0.05), "an artifact is on its way, and the rows do not wait for it"
    assert stored(far).last_step == 9
    assert stored(far).artifacts == []
    with pytest.raises(ConfigError, match="still being uploaded: its version is known after wait"):
        _ = artifact.version
    with pytest.raises(TransientStorageError, match="0 of 1 files"):
        artifact.wait(0.01)
    gate.open.set()
    assert artifact.wait(60).version == "v0"
    assert told(stored(far)) == [("m:v0", ["latest"], 5)]
    assert content(stored(far).artifact("m"), tmp_path) == "as it was"
    run.finish()


def test_files_go_up_several_at_a_time_and_not_more(far: Far, tmp_path: Path) -> None:
    together = threading.Barrier(uploads.AT_ONCE)
    lock, now, most = threading.Lock(), 0, 0

    def count() -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        together.wait(60)
        with lock:
            now -= 1

    far.on_file = count
    run = opened(far)
    artifact = Artifact("m", "text")
    for number in range(2 * uploads.AT_ONCE):
        with artifact.new_file(f"{number}") as file:
            file.write(str(number))
    run.log_artifact(artifact).wait(60)
    assert most == uploads.AT_ONCE
    run.finish()


def test_an_unchanged_artifact_is_not_sent_again(far: Far, tmp_path: Path) -> None:
    assert isinstance(far.inner, CountingStorage)
    run = opened(far)
    run.log_artifact(of_file(tmp_path / "model", "x" * 100_000), aliases=["a"]).wait(60)
    before = far.inner.traffic
    second = run.log_artifact(of_file(tmp_path / "model", "x" * 100_000), aliases=["b"])
    run._artifacts.rest(60)
    took = far.inner.traffic - before
    assert took.requests == {"info": 2, "touch": 2}, "one for the file, one for the manifest"
    assert (second.wait(60).version, second.aliases) == ("v0", ["latest", "a", "b"])
    run.finish()


def test_a_store_that_is_away_is_tried_again_and_reported_once(
    far: Far, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = iter(range(4))

    def fail() -> None:
        if next(left, None) is not None:
            raise TransientStorageError("The network is down.")

    far.on_file = fail
    run = opened(far)
    assert run.log_artifact(of_file(tmp_path / "model", "x")).wait(60).version == "v0"
    run.finish()
    assert [record.message for record in caplog.records] == [
        "The artifact m of step 0 of run p/r1 waits: The network is down."
    ]
    assert content(stored(far).artifact("m"), tmp_path) == "x"


def test_a_run_that_ends_while_the_store_is_away_says_what_is_missing(
    far: Far, spool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_module, "FINISH_TIMEOUT_S", 0.2)

    def fail() -> None:
        raise TransientStorageError("The network is down.")

    far.on_file = fail
    run = opened(far)
    run.log({"a": 0})
    artifact = run.log_artifact(of_file(tmp_path / "model", "x"))
    run.finish()
    assert "The artifact m of step 1 of run p/r1 is not in far://" in caplog.text
    assert "The network is down" in caplog.records[-1].message
    with pytest.raises(StorageError, match="Log it again"):
        artifact.wait()
    assert stored(far).artifacts == []
    assert stored(far).last_step == 0
    assert staged(spool) == []


def test_a_file_that_vanishes_ends_neither_training_nor_the_next_upload(
    far: Far, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gate = far.on_file = Gate()
    run = opened(far)
    run.log_artifact(of_file(tmp_path / "first", "first"))
    lost = run.log_artifact(of_file(tmp_path / "promised", "lost", policy="immutable"))
    assert gate.reached.wait(60)
    (tmp_path / "promised").unlink()
    later = run.log_artifact(of_file(tmp_path / "model", "later"))
    gate.open.set()
    assert later.wait(60).version == "v1"
    with pytest.raises(StorageError, match="promised"):
        lost.wait()
    run.finish()
    assert [content(one, tmp_path) for one in stored(far).artifacts] == ["first", "later"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_the_end_of_a_run_waits_and_says_how_far_it_is(
    far: Far, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "PROGRESS_S", 0.01)
    monkeypatch.setattr(run_module, "FINISH_TIMEOUT_S", 0.01)
    gate = far.on_file = Gate()
    lines: list[str] = []

    class Screen:
        def write(self, text: str) -> None:
            lines.append(text)
            if text.startswith("rewind-logger: uploading"):
                gate.open.set()

        def flush(self) -> None:
            pass

    run = opened(far)
    run.log_artifact(of_file(tmp_path / "model", "x" * 2_000_000))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Screen())
        run.finish()
    assert "rewind-logger: uploading artifact m of step 0: 0 of 1 files, 0 of 2 MB." in lines
    assert content(stored(far).artifact("m"), tmp_path)[:3] == "xxx"


def test_what_was_cut_off_while_it_was_uploaded_is_in_no_revision(
    far: Far, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = opened(far)
    run.log({"a": 0}, step=2, commit=True)
    gate = far.on_file = Gate()
    kept = run.log_artifact(of_file(tmp_path / "model", "kept"))  # at step 3
    run.log({"a": 0}, step=8, commit=True)
    lost = run.log_artifact(of_file(tmp_path / "model", "lost"))  # at step 9
    assert gate.reached.wait(60)
    run._open(OpenRequest(at=Position(REF, None, 6)))
    gate.open.set()
    kept.wait(60)
    run._artifacts.rest(60)
    with pytest.raises(ConfigError, match="went back to before step 9"):
        _ = lost.version
    run.finish()
    assert told(stored(far)) == [("m:v0", ["latest"], 3)]
    assert "an artifact of step 9 came into the store after run p/r1 had been opened anew" in capsys.readouterr().err
