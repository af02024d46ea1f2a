"""Blobs: stored once, read back verified or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from rewind_logger.errors import CorruptError, TransientStorageError
from rewind_logger.format import names
from rewind_logger.history import blobs
from rewind_logger.storage import Storage
from rewind_logger.storage.base import CHUNK_BYTES
from rewind_logger.storage.faults import CountingStorage, Fault, FaultyStorage
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage


@pytest.fixture
def storage() -> Storage:
    return MemoryStorage(f"memory://{secrets.token_hex(8)}")


def test_what_is_stored_comes_back(storage: Storage, tmp_path: Path) -> None:
    data = os.urandom(CHUNK_BYTES + 5)
    (tmp_path / "source").write_bytes(data)
    digest, size = blobs.put_file(storage, tmp_path / "source")
    assert (digest, size) == (blobs.digest_of(data), len(data))
    assert blobs.read(storage, digest) == data
    blobs.download(storage, digest, size, tmp_path / "new folder" / "target")
    assert (tmp_path / "new folder" / "target").read_bytes() == data
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["target"]


@pytest.mark.parametrize("data", [b"", b"x"])
def test_small_ones_too(storage: Storage, tmp_path: Path, data: bytes) -> None:
    digest = blobs.put(storage, data)
    assert blobs.exists(storage, digest)
    assert blobs.exists(storage, digest, len(data))
    assert blobs.read(storage, digest) == data
    blobs.download(storage, digest, len(data), tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == data


def test_what_the_store_has_is_asked_for_once_and_not_sent_again(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"content")
    blobs.put(storage, b"content")
    counted = CountingStorage(storage)
    blobs.put(counted, b"content")
    blobs.put_file(counted, tmp_path / "source")
    assert counted.traffic.requests == {"info": 2, "touch": 2}
    assert counted.traffic.bytes_written == 0


def test_half_a_blob_is_stored_again(storage: Storage) -> None:
    digest = blobs.digest_of(b"content")
    storage.put(names.blob(digest), b"cont")  # as a store that is not atomic may have it
    assert not blobs.exists(storage, digest, 7)
    assert blobs.put(storage, b"content") == digest
    assert blobs.read(storage, digest) == b"content"


@pytest.mark.parametrize("damaged", [b"CONTENT", b"conten", b"content and more", b""])
def test_a_damaged_blob_is_refused_and_named(storage: Storage, tmp_path: Path, damaged: bytes) -> None:
    digest = blobs.put(storage, b"content")
    storage.put(names.blob(digest), damaged)
    with pytest.raises(CorruptError, match=f"blobs/../{digest} in memory://"):
        blobs.read(storage, digest)
    (tmp_path / "target").write_bytes(b"as it was")
    for size in (7, None):
        with pytest.raises(CorruptError, match=rf"blobs/../{digest} .*target was not written"):
            blobs.download(storage, digest, size, tmp_path / "target")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("target", b"as it was")]


def test_a_blob_larger_than_it_should_be_is_not_downloaded_to_its_end(storage: Storage, tmp_path: Path) -> None:
    digest = blobs.put(storage, b"content")
    storage.put(names.blob(digest), bytes(5 * CHUNK_BYTES))
    counted = CountingStorage(storage)
    with pytest.raises(CorruptError):
        blobs.download(counted, digest, 7, tmp_path / "target")
    assert counted.traffic.bytes_read == CHUNK_BYTES


def test_a_missing_blob(storage: Storage, tmp_path: Path) -> None:
    digest = blobs.digest_of(b"never stored")
    assert not blobs.exists(storage, digest)
    with pytest.raises(FileNotFoundError, match=digest):
        blobs.read(storage, digest)
    with pytest.raises(FileNotFoundError, match=digest):
        blobs.download(storage, digest, 3, tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_breaks_off_leaves_nothing(storage: Storage, tmp_path: Path) -> None:
    digest = blobs.put(storage, bytes(2 * CHUNK_BYTES))
    lost = Fault("before", TransientStorageError("lost"))
    broken = FaultyStorage(storage, lambda request: lost if request.number == 1 else None)
    with pytest.raises(TransientStorageError, match="lost"):
        blobs.download(broken, digest, 2 * CHUNK_BYTES, tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", "AB" * 32, "a" * 63, "a" * 65, "a" * 63 + "\n", None, 7])
def test_what_is_no_digest_names_no_blob(storage: Storage, tmp_path: Path, digest: object) -> None:
    for request in (
        lambda: blobs.exists(storage, digest),  # type: ignore[arg-type]
        lambda: blobs.read(storage, digest),  # type: ignore[arg-type]
        lambda: blobs.download(storage, digest, 1, tmp_path / "a"),  # type: ignore[arg-type]
    ):
        with pytest.raises(CorruptError, match="is no SHA-256"):
            request()


def test_blobs_lie_where_the_format_says(tmp_path: Path) -> None:
    digest = blobs.put(LocalStorage(tmp_path), b"content")
    assert (tmp_path / "blobs" / digest[:2] / digest).read_bytes() == b"content"
