"""A run whose disk is full, as a user meets it."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewind_logger import Run, StorageError, init, open_store
from tests.conftest import Bucket
from tests.disks import Disk, disk
from tests.figures import count
from tests.sdk.reading import rows


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A small disk; journals that find no room there go elsewhere."""
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with disk(tmp_path / "small", 4 << 20) as found:
        yield found


def settle(run: Run) -> None:
    """Wait for what a run does by itself: it frees a page now and then, and a disk that was filled is not full then."""
    run._companions.rest(60)
    run.flush()
    run.flush()  # which comes after the tidying up that follows the first


def test_a_run_that_ends_on_a_full_disk_says_where_its_rows_are_and_the_next_opening_has_them(
    small: Disk, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.must_be_alone()
    store = str(small.path / "store")
    run = init(dir=store, project="p", id="a", console=False, system_metrics=False)
    for step in range(100):
        run.log({"a": step})
    settle(run)
    with small.full():
        for step in range(100, 200):
            run.log({"a": step})
        run.finish()
    told = capsys.readouterr().err
    assert "but not all of it is in the store" in told and "no space is left on the device" in told
    assert f"kept in {tmp_path}/spool" in told
    assert [row["a"] for row in rows(store, "p/a")] == list(range(100))
    with init(dir=store, project="p", id="a") as run:
        run.log({"a": 200})
    assert "brought in: " in capsys.readouterr().err
    found = [row["a"] for row in rows(store, "p/a")]
    count("rows checked", 201)
    count("rows lost", 201 - len(found))
    assert found == list(range(201))


def test_rows_that_no_disk_takes_up_to_the_end_are_not_called_kept(
    small: Disk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """It is a loss, and it is said to be one."""
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", "/proc/none")
    monkeypatch.setattr(tempfile, "tempdir", "/proc/none")
    run = init(dir=str(small.path / "store"), project="p", id="a", console=False, system_metrics=False)
    settle(run)
    with small.full():
        run.log({"a": 0})
        run.finish()
    assert "but not all of it is in the store" in (told := capsys.readouterr().err)
    assert "kept in" not in told
    assert "Rows that were held in memory only never came into their store, and are lost." in caplog.text


def test_an_artifact_that_finds_no_room_is_refused_whole_and_can_be_logged_again(small: Disk, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.write_bytes(bytes(range(256)) * 4096)
    store = str(small.path / "store")
    with init(dir=store, project="p", id="a") as run:
        run.log({"a": 0})
        for left in (0, 300_000, 700_000):
            with small.full(left), pytest.raises(StorageError, match=r"no space is left|too large"):
                run.log_artifact(model, name="m")
        run.log_artifact(model, name="m")
        run.log({"a": 1})
    assert not [path for path in small.path.rglob("*") if path.name.startswith(".")], "nothing of it is left"
    [found] = open_store(store).run("p/a").artifacts
    assert (found.name, found.version) == ("m", "v0")
    assert (Path(found.download(tmp_path / "out")) / "model").read_bytes() == model.read_bytes()
    assert [row["a"] for row in rows(store, "p/a")] == [0, 1]


def test_an_artifact_for_a_bucket_that_finds_no_room_in_the_spool_is_refused_with_what_to_do(
    small: Disk, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(small.path / "spool"))
    (tmp_path / "model").write_bytes(bytes(1 << 20))
    url = f"{bucket.url}/exp"
    with caplog.at_level(logging.ERROR), init(dir=url, id="a", storage_options=bucket.storage_options) as run:
        with small.full(500_000), pytest.raises(StorageError, match=r"Make room there, set REWIND_LOGGER_SPOOL"):
            run.log_artifact(tmp_path / "model", name="m")
        run.log_artifact(tmp_path / "model", name="m").wait()
    assert not list((small.path / "spool").rglob("staged-*")), "nothing of it is left"
    [found] = open_store(url, bucket.storage_options).run("a").artifacts
    assert found.size == 1 << 20
