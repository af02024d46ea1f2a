"""Large files go to a store in parts: in little memory, and not at all when something comes between."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.exceptions import ConnectionClosedError

from rewind_logger.errors import StorageError, TransientStorageError
from rewind_logger.storage import Storage, open_storage
from rewind_logger.storage.base import CHUNK_BYTES
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.s3 import S3Storage
from tests.conftest import Bucket
from tests.storage.test_local import everything_in, files_no_larger_than

SEND = """
import ast, os, resource, signal, sys
from rewind_logger.storage import open_storage

url, options, source, target, killed_at = sys.argv[1], ast.literal_eval(sys.argv[2]), *sys.argv[3:5], int(sys.argv[5])
storage = open_storage(url, options)
storage.put("small", b"x")
sent = 0

def count(**_):
    global sent
    sent += 1
    if sent == killed_at:
        os.kill(os.getpid(), signal.SIGKILL)

if killed_at:
    sending = storage.inner._for_files(storage.inner.filesystem, os.path.getsize(source))
    sending.connect()
    sending.s3.meta.events.register("before-send.s3.UploadPart", count)
from pathlib import Path
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
storage.put_file(target, Path(source))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
storage_size = storage.size(target)
assert storage_size == os.path.getsize(source), storage_size
for piece in storage.read_chunks(target):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def send(storage: Storage, options: dict[str, Any], source: Path, *, killed_at: int = 0) -> tuple[int, list[int]]:
    """Send a file from a process of its own; return its exit status and how many MiB its memory grew by."""
    done = subprocess.run(
        [sys.executable, "-c", SEND, storage.url, repr(options), str(source), "large", str(killed_at)],
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.returncode, [int(line) // 1024 for line in done.stdout.split()]


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of eight parts."""
    return write(tmp_path / "large", 8 * CHUNK_BYTES)


def write(path: Path, size: int) -> Path:
    with open(path, "wb") as file:
        for _ in range(size // CHUNK_BYTES):
            file.write(os.urandom(CHUNK_BYTES))
    return path


def test_a_process_killed_in_an_upload_leaves_nothing_to_be_seen(bucket: Bucket, large: Path) -> None:
    storage = open_storage(bucket.url, bucket.storage_options)
    status, _ = send(storage, bucket.storage_options, large, killed_at=6)
    assert status == -signal.SIGKILL
    assert [line.name for line in storage.list("")] == ["small"]
    with pytest.raises(FileNotFoundError):
        storage.size("large")


def test_an_upload_whose_connection_breaks_leaves_nothing_to_be_seen(bucket: Bucket, large: Path) -> None:
    storage = S3Storage(bucket.url, bucket.storage_options)
    storage.put("small", b"x")
    parts = iter(range(100))

    def break_down(**_: object) -> None:
        if next(parts) >= 5:
            raise ConnectionResetError("Connection reset by peer")

    sending = storage._for_files(storage.filesystem, 8 * CHUNK_BYTES)
    storage.put_file("large", large)  # connects
    storage.delete("large")
    sending.s3.meta.events.register("before-send.s3.UploadPart", break_down)
    with pytest.raises(TransientStorageError):
        storage.put_file("large", large)
    assert [line.name for line in storage.list("")] == ["small"]
    name = bucket.url.removeprefix("s3://")
    assert "Uploads" not in storage.filesystem.call_s3("list_multipart_uploads", Bucket=name)  # its parts cost nothing
    sending.s3.meta.events.unregister("before-send.s3.UploadPart", break_down)
    storage.put_file("large", large)
    assert b"".join(storage.read_chunks("large")) == large.read_bytes()


def test_a_part_that_is_lost_is_sent_again_and_nothing_else(bucket: Bucket, large: Path) -> None:
    storage = S3Storage(bucket.url, bucket.storage_options)
    sent: list[str] = []

    def lose(request: Any, **_: object) -> None:
        sent.append(parse_qs(urlsplit(request.url).query)["partNumber"][0])
        if len(sent) in (2, 7):
            raise ConnectionClosedError(endpoint_url=request.url)

    sending = storage._for_files(storage.filesystem, 8 * CHUNK_BYTES)
    sending.connect()
    sending.s3.meta.events.register("before-send.s3.UploadPart", lose)
    storage.put_file("large", large)
    assert len(sent) == 8 + 2
    assert set(sent) == set("12345678")
    assert b"".join(storage.read_chunks("large")) == large.read_bytes()


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "source", 2 * CHUNK_BYTES)
    storage = LocalStorage(tmp_path / "store")
    storage.put("f/a", b"as it was")
    with files_no_larger_than(CHUNK_BYTES + 10), pytest.raises(StorageError, match="write"):
        storage.put_file("f/a", source)
    assert everything_in(tmp_path / "store") == ["f", "f/a"]
    assert storage.read("f/a") == b"as it was"


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_file_that_is_no_longer_what_it_was_is_not_stored(tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"after")
    storage = LocalStorage(tmp_path / "store") if kind == "local" else MemoryStorage(f"memory://{tmp_path}")
    with pytest.raises(StorageError, match="source changed while it was being stored"):
        storage.put_file("a", source, sha256=hashlib.sha256(b"before").hexdigest())
    assert storage.list("") == []


def test_a_reader_sees_the_old_object_or_the_new_one(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "store")
    sources = [write(tmp_path / str(n), 2 * CHUNK_BYTES) for n in range(2)]
    storage.put_file("a", sources[0])
    whole = {source.read_bytes() for source in sources}
    seen: set[bytes] = set()
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            seen.add(storage.read("a"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for n in range(6):
        storage.put_file("a", sources[n % 2])
    done.set()
    watcher.join()
    assert seen
    assert seen <= whole


SIZES = [96, pytest.param(200, marks=pytest.mark.exhaustive)]


@pytest.mark.parametrize("mib", SIZES)
@pytest.mark.parametrize("kind", ["local", "s3"])
def test_memory_does_not_grow_with_the_file(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, mib: int
) -> None:
    options: dict[str, Any] = {}
    storage: Storage = LocalStorage(tmp_path / "store")
    if kind == "s3":
        bucket = request.getfixturevalue("bucket")
        options, storage = bucket.storage_options, open_storage(bucket.url, bucket.storage_options)
    status, grown = send(storage, options, write(tmp_path / "source", mib << 20))
    assert status == 0
    sent, received = grown
    # Four parts of 8 MiB are under way at a time, each of which is there twice for a while.
    assert sent <= (20 if kind == "local" else 80)
    assert received <= 80


def test_an_upload_in_parts_that_was_cut_short_is_found_and_discarded(bucket: Bucket) -> None:
    storage = open_storage(f"{bucket.url}/größe", bucket.storage_options)
    other = open_storage(f"{bucket.url}/other", bucket.storage_options)
    storage.put("whole", b"x")
    s3 = storage.inner.filesystem  # type: ignore[attr-defined]
    for name in ("größe/blobs/9f/a b", "größe/skipped/c", "other/d"):
        s3.call_s3("create_multipart_upload", Bucket=bucket.url.removeprefix("s3://"), Key=name)
    (found,) = storage.unfinished(skip=["skipped"])
    assert found.name.startswith("blobs/9f/a b?uploadId=")
    assert found.modified is not None and found.modified <= time.time()  # moto always says 2010
    storage.discard(found)
    storage.discard(found)
    assert [one.name.partition("?")[0] for one in storage.unfinished()] == ["skipped/c"]
    assert len(list(other.unfinished())) == 1
    assert storage.read("whole") == b"x"


def test_a_file_that_was_half_written_is_found_and_discarded(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("a/b/whole", b"x")
    half = tmp_path / "a" / "b" / ".0123456789abcdef.tmp"
    half.write_bytes(b"half")
    (tmp_path / "a" / ".not ours").write_bytes(b"x")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / half.name).write_bytes(b"not ours either")
    (found,) = storage.unfinished(skip=["checkpoints"])
    assert (found.name, found.size) == ("a/b/.0123456789abcdef.tmp", 4)
    storage.discard(found)
    storage.discard(found)
    assert not half.exists()
    assert (tmp_path / "a" / ".not ours").exists() and (tmp_path / "checkpoints" / half.name).exists()
