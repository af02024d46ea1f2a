"""Of several that create the same name at the same time exactly one is told that it did."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from rewind_logger.storage import Storage, open_storage
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.remote import FsspecStorage
from tests.conftest import Bucket
from tests.storage.backends import CarelessFileSystem, refuse_links, registered
from tests.storage.racing import content_of, race_of_processes, race_of_threads


@pytest.fixture
def restless_threads() -> Iterator[None]:
    """Switch threads all the time."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def names(count: int) -> list[str]:
    return [f"{n:08d}.json" for n in range(count)]


def assert_one_winner_each(storage: Storage, won: Sequence[Sequence[str]], count: int) -> None:
    winner = {name: racer for racer, mine in enumerate(won) for name in mine}
    assert sorted(name for mine in won for name in mine) == names(count)  # no name twice, none left out
    assert storage.read_many(f"race/{name}" for name in names(count)) == [
        content_of(winner[name], name) for name in names(count)
    ]
    assert [line.name for line in storage.list("race")] == names(count)
    assert sum(bool(mine) for mine in won) > 1, "one racer won every name: that was no race"


def test_four_processes_on_a_local_disk(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    assert_one_winner_each(storage, race_of_processes(storage, names(1000)), 1000)


def test_four_processes_on_a_disk_without_links(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path, link=refuse_links)
    assert_one_winner_each(storage, race_of_processes(storage, names(1000)), 1000)


def test_four_threads_on_a_local_disk(tmp_path: Path, restless_threads: None) -> None:
    storage = LocalStorage(tmp_path)
    assert_one_winner_each(storage, race_of_threads(storage, names(250)), 250)


@pytest.mark.parametrize("count", [250, pytest.param(1000, marks=pytest.mark.exhaustive)])
def test_four_processes_on_s3(bucket: Bucket, count: int) -> None:
    storage = open_storage(bucket.url, bucket.storage_options)
    assert_one_winner_each(storage, race_of_processes(storage, names(count)), count)


def test_four_threads_in_memory(restless_threads: None) -> None:
    storage = MemoryStorage(f"memory://{secrets.token_hex(8)}")
    assert_one_winner_each(storage, race_of_threads(storage, names(1000)), 1000)


def test_a_store_that_ignores_the_condition_has_several_winners() -> None:
    """The race finds out a store that is not atomic."""
    with registered(CarelessFileSystem):
        storage = FsspecStorage(f"careless://{secrets.token_hex(8)}")
        won = race_of_threads(storage, names(10))
        assert [len(mine) for mine in won] == [10, 10, 10, 10]
