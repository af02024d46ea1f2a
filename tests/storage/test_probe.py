"""A store that replaces what should only be created is found out."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from rewind_logger.errors import TransientStorageError
from rewind_logger.storage import Storage
from rewind_logger.storage.faults import CountingStorage, Fault, FaultyStorage, script
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.probe import is_conditional
from rewind_logger.storage.remote import FsspecStorage
from rewind_logger.storage.retry import RetryingStorage
from tests.storage.backends import CarelessFileSystem, PlainFileSystem, UnableFileSystem, registered


def fsspec_storage(filesystem: type[PlainFileSystem]) -> Storage:
    return FsspecStorage(f"{filesystem.protocol}://{secrets.token_hex(8)}")


@pytest.mark.parametrize(
    ("filesystem", "expected"), [(PlainFileSystem, True), (CarelessFileSystem, False), (UnableFileSystem, False)]
)
def test_what_a_backend_does_is_found_by_one_request(filesystem: type[PlainFileSystem], expected: bool) -> None:
    with registered(filesystem):
        storage = CountingStorage(fsspec_storage(filesystem))
        assert storage.conditional is None
        assert storage.create("claim", b"mine")
        before = storage.traffic
        assert is_conditional(storage, "claim", b"mine") is expected
        assert (storage.traffic - before).requests == {"create": 1}
        assert storage.read("claim") == b"mine"


def test_a_lost_reply_does_not_mislead_the_probe() -> None:
    lost = Fault("after", TransientStorageError("The reply was lost."))
    for filesystem, expected in ((PlainFileSystem, True), (CarelessFileSystem, False)):
        with registered(filesystem):
            inner = fsspec_storage(filesystem)
            assert inner.create("claim", b"mine")
            storage = RetryingStorage(FaultyStorage(inner, script({0: lost})), sleep=lambda seconds: None)
            assert is_conditional(storage, "claim", b"mine") is expected


def test_what_is_known_is_not_asked(tmp_path: Path) -> None:
    for inner in (LocalStorage(tmp_path), MemoryStorage(f"memory://{secrets.token_hex(8)}")):
        storage = CountingStorage(inner)
        assert is_conditional(storage, "claim", b"mine") is True
        assert storage.traffic.total == 0
