"""What a store in a folder promises beyond what every store does."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rewind_logger.errors import StorageError, TransientStorageError
from rewind_logger.storage import ObjectInfo
from rewind_logger.storage.local import LocalStorage
from tests.storage.backends import refuse_links

LARGE = 200_000_000


def link_and_lose_the_reply(source: str | Path, target: str | Path) -> None:
    """Be a file server whose reply was lost, and whose client then met its own link."""
    os.link(source, target)
    os.link(source, target)


def everything_in(folder: Path) -> list[str]:
    """All names below a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@contextlib.contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let the operating system fail writes beyond a size, in this process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_it_has_a_path_and_makes_nothing_before_the_first_write(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "store")
    assert storage.local_path == tmp_path / "store"
    assert storage.url == str(tmp_path / "store")
    assert storage.list("") == []
    assert everything_in(tmp_path) == []


def test_a_relative_folder_stays_where_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    storage = LocalStorage("../store")
    monkeypatch.chdir("/")
    storage.put("a", b"x")
    assert (tmp_path / "store" / "a").read_bytes() == b"x"


@pytest.mark.parametrize("links", [True, False])
def test_objects_are_plain_files_and_nothing_else_is_left(tmp_path: Path, links: bool) -> None:
    storage = LocalStorage(tmp_path) if links else LocalStorage(tmp_path, link=refuse_links)
    storage.put("f/put", b"1")
    storage.put("f/put", b"22")
    storage.create("f/created", b"333")
    storage.create("f/created", b"4444")
    assert everything_in(tmp_path) == ["f", "f/created", "f/put"]
    assert (tmp_path / "f" / "put").read_bytes() == b"22"
    assert (tmp_path / "f" / "created").read_bytes() == b"333"


def test_others_may_read_what_the_umask_lets_them(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        storage = LocalStorage(tmp_path)
        storage.put("put", b"")
        storage.create("created", b"")
    finally:
        os.umask(before)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("put", "created")] == [0o640, 0o640]


def test_hidden_files_are_not_listed(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("f/a", b"x")
    (tmp_path / "f" / ".DS_Store").write_bytes(b"someone else's")
    (tmp_path / "f" / ".1234.tmp").write_bytes(b"left by a crash")
    assert storage.list("f") == [ObjectInfo("a", 1)]


@pytest.mark.parametrize("links", [True, False])
def test_a_write_that_fails_leaves_nothing(tmp_path: Path, links: bool) -> None:
    storage = LocalStorage(tmp_path) if links else LocalStorage(tmp_path, link=refuse_links)
    storage.put("replaced", b"whole")
    with files_no_larger_than(1000):
        with pytest.raises(StorageError, match=r"Could not create .*new: File too large\."):
            storage.create("new", b"x" * 5000)
        with pytest.raises(StorageError, match=r"Could not write .*replaced: File too large\."):
            storage.put("replaced", b"x" * 5000)
    assert everything_in(tmp_path) == ["replaced"]
    assert storage.read("replaced") == b"whole"
    assert storage.create("new", b"now")


def test_a_link_whose_reply_was_lost_is_known_as_our_own(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path, link=link_and_lose_the_reply)
    assert storage.create("a", b"mine") is True
    assert storage.create("a", b"theirs") is False
    assert everything_in(tmp_path) == ["a"]
    assert storage.read("a") == b"mine"


def test_a_failing_link_is_an_error_and_not_a_loss(tmp_path: Path) -> None:
    def fail(source: object, target: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.raises(TransientStorageError, match=r"Could not create .*a: Input/output error\."):
        LocalStorage(tmp_path, link=fail).create("a", b"x")
    assert everything_in(tmp_path) == []


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("file", b"x")
    for request in (lambda: storage.put("file/below", b""), lambda: storage.create("file/below/deep", b"")):
        with pytest.raises(StorageError, match=r"file/below.* a part of the path is a file, not a folder\. Move"):
            request()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no such folder here")
def test_where_no_folder_can_be_made_it_is_said(tmp_path: Path) -> None:
    """Also where the system says that the folder above is missing, which is there."""
    storage = LocalStorage("/proc/rewind logger/deep")
    for request in (lambda: storage.put("below/a", b""), lambda: storage.create("below/deep/a", b"")):
        with pytest.raises(StorageError, match=r"/proc/rewind logger/deep/below.* Check the disk and the folder"):
            request()


def test_a_folder_where_an_object_should_be(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.put("folder/object", b"x")
    with pytest.raises(StorageError, match=r"Could not write .*folder: it is a folder, not a file\. Move"):
        storage.put("folder", b"")
    assert storage.create("folder", b"") is False
    assert everything_in(tmp_path) == ["folder", "folder/object"]


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"the name is too long for this file system\. Choose shorter"):
        LocalStorage(tmp_path).put("x" * 300, b"")
    assert everything_in(tmp_path) == []


CRASH = """
import os, sys
from rewind_logger.storage.local import LocalStorage
from tests.storage.backends import refuse_links
folder, verb, links, size = sys.argv[1:]
storage = LocalStorage(folder, link=os.link if links == "links" else refuse_links)
data = bytes(int(size))
print("ready", flush=True)
getattr(storage, verb)("f/object", data)
print("done", flush=True)
"""


@pytest.mark.parametrize("verb", ["put", "create"])
@pytest.mark.parametrize("links", ["links", "no links"])
def test_a_kill_in_the_middle_of_a_write_leaves_no_half_object(tmp_path: Path, verb: str, links: str) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    if verb == "put":
        (folder / "object").write_bytes(b"as it was")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    child = subprocess.Popen(
        [sys.executable, "-c", CRASH, str(tmp_path), verb, links, str(LARGE)], stdout=subprocess.PIPE, env=environment
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"ready\n"
    while child.poll() is None and not any(path.stat().st_size for path in folder.glob(".*")):
        pass  # until it has begun to write
    child.send_signal(signal.SIGKILL)
    assert child.communicate()[0] == b"", "the write was done before it was killed: make the object larger"

    assert [path.stat().st_size < LARGE for path in folder.glob(".*")] == [True]
    storage = LocalStorage(tmp_path)
    assert storage.list("f") == ([ObjectInfo("object", 9)] if verb == "put" else [])
    if verb == "put":
        assert storage.read("f/object") == b"as it was"
    else:
        with pytest.raises(FileNotFoundError):
            storage.read("f/object")
        assert storage.create("f/object", b"the next one") is True
