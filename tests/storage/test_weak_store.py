"""A store that cannot create conditionally is found out when a run is first opened in it, and used all the same."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rewind_logger import init, open_store
from rewind_logger.errors import TransientStorageError
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.writer import Writer
from rewind_logger.storage import Storage, open_storage
from rewind_logger.storage.faults import CountingStorage, Fault, FaultyStorage, Request
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.conftest import Bucket
from tests.storage.backends import CarelessFileSystem, PlainFileSystem, UnableFileSystem, registered

SENTENCE = (
    "{} may replace objects that it was asked only to create: two processes that open the same run in the same moment"
    " may both believe that it is theirs, and the rows of one would be lost; everything else holds."
)


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the journals of remote stores to the test."""
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))


@pytest.fixture
def name() -> str:
    """A place that nobody asked about before."""
    return secrets.token_hex(8)


def opening(storage: Storage, run: str = "r") -> tuple[tuple[str, ...], int]:
    """Open a run; return what it was told of the store, and how many objects it tried to create."""
    counted = CountingStorage(storage)
    writer = Writer(counted, RunRef("p", run), background=False)
    notes = writer.open(OpenRequest()).notes
    writer.close()
    return notes, counted.traffic.requests["create"]


@pytest.mark.parametrize("filesystem", [CarelessFileSystem, UnableFileSystem])
def test_the_first_opening_asks_and_every_opening_says_so(filesystem: type[PlainFileSystem], name: str) -> None:
    with registered(filesystem):
        url = f"{filesystem.protocol}://{name}"
        told = (SENTENCE.format(url),)
        assert opening(open_storage(url)) == (told, 2)  # the claim, and once more to see whether that is refused
        assert opening(open_storage(url)) == (told, 1)
        assert opening(open_storage(url), "another run") == (told, 1)


def test_of_a_store_that_refuses_nothing_is_said(name: str) -> None:
    with registered(PlainFileSystem):
        storage = open_storage(f"plain://{name}")
        assert opening(storage) == ((), 2)
        assert opening(storage) == ((), 1)


def test_s3_is_asked_too_for_some_servers_ignore_the_condition(bucket: Bucket) -> None:
    storage = open_storage(bucket.url, bucket.storage_options)
    assert opening(storage) == ((), 2)
    assert opening(storage) == ((), 1)


def test_where_it_is_known_nothing_is_asked(tmp_path: Path, name: str) -> None:
    for storage in (LocalStorage(tmp_path), MemoryStorage(f"memory://{name}")):
        assert opening(storage) == ((), 1)


def test_a_store_that_cannot_answer_is_asked_by_the_next_opening(name: str) -> None:
    """A run is not refused for the sake of a warning."""
    with registered(CarelessFileSystem):
        url = f"careless://{name}"
        created: list[Request] = []

        def fail_the_second(request: Request) -> Fault | None:
            created.extend([request] * (request.verb == "create"))
            failing = request.verb == "create" and len(created) == 2
            return Fault("before", TransientStorageError("lost")) if failing else None

        assert opening(FaultyStorage(open_storage(url), fail_the_second)) == ((), 2)
        assert opening(open_storage(url)) == ((SENTENCE.format(url),), 2)


class EitherFileSystem(PlainFileSystem):
    """A file system whose servers differ, as those do that speak S3's protocol."""

    protocol = "either"

    def __init__(self, endpoint: str, **options: Any) -> None:
        super().__init__(**options)
        self._careless = endpoint == "careless"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        super().pipe_file(path, value, mode="overwrite" if self._careless else mode, **kwargs)


def test_what_one_endpoint_does_is_not_believed_of_another_under_the_same_url(name: str) -> None:
    with registered(EitherFileSystem):
        url = f"either://{name}"
        for _ in range(2):
            assert opening(open_storage(url, {"endpoint": "good"}))[0] == ()
            assert opening(open_storage(url, {"endpoint": "careless"}))[0] == (SENTENCE.format(url),)
        assert opening(open_storage(url, {"endpoint": "good"}))[1] == 1
        assert opening(open_storage(url, {"endpoint": "careless"}))[1] == 1


@pytest.fixture
def careless(name: str) -> Iterator[str]:
    """The URL of a store that ignores the condition."""
    with registered(CarelessFileSystem):
        yield f"careless://{name}"


def test_it_is_said_in_the_line_of_the_run_which_is_logged_as_ever(
    careless: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with init(dir=careless, project="p", id="r") as run:
        for i in range(5):
            run.log({"i": i})
    first, last = capsys.readouterr().err.splitlines()
    assert first.endswith(f"run p/r in {careless} is new. {SENTENCE.format(careless)}")
    assert "finished at step 4" in last
    with init(dir=careless, project="p", resume_from="r?_step=2") as run:
        run.log({"i": 100})
    assert open_store(careless).run("p/r").history().to_arrow()["i"].to_pylist() == [0, 1, 2, 100]
    assert open_store(careless).run("p/r@1").history().to_arrow()["i"].to_pylist() == [0, 1, 2, 3, 4]
