"""An artifact that someone made to do harm, or that was damaged, writes nothing where it should not."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from rewind_logger import Artifact, CorruptError, init, open_store
from rewind_logger.format import names
from rewind_logger.history import blobs
from rewind_logger.storage import external
from rewind_logger.storage.descriptor import open_file
from rewind_logger.storage.external import read_chunks
from rewind_logger.storage.local import LocalStorage


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file beside the folder of the download."""
    path = tmp_path / "secret"
    path.write_text("as it was")
    return path


def planted(url: str, entries: dict[str, Any], name: str = "m") -> Artifact:
    """An artifact whose manifest somebody else wrote."""
    storage = LocalStorage(url)
    blobs.put(storage, b"evil")
    manifest = json.dumps({"format": 1, "entries": entries}).encode()
    digest = blobs.put(storage, manifest)
    row = {
        "name": name,
        "type": "t",
        "manifest": {"sha256": digest, "size": len(manifest)},
        "size": 4,
        "files": 1,
        "aliases": [],
    }
    with init(dir=url, project="p", id="r1") as run:
        run._append("artifacts", {"logged": json.dumps(row)}, 0)
    return open_store(url).run("p/r1").artifacts[-1]


EVIL = {"sha256": blobs.digest_of(b"evil"), "size": 4}


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "..\\secret", "C:secret"])
def test_no_name_leads_out_of_the_folder(url: str, tmp_path: Path, secret: Path, name: str) -> None:
    artifact = planted(url, {name: EVIL, "fine": EVIL})
    for call in (artifact.download, artifact.verify, lambda root: artifact.manifest):
        with pytest.raises(CorruptError, match="made to do harm"):
            call(tmp_path / "folder")
    assert secret.read_text() == "as it was"
    assert not (tmp_path / "folder" / "fine").exists()


def test_an_absolute_name_is_refused(url: str, tmp_path: Path, secret: Path) -> None:
    with pytest.raises(CorruptError, match="not relative"):
        planted(url, {str(secret): EVIL}).download(tmp_path / "folder")
    assert secret.read_text() == "as it was"


def test_no_link_in_the_folder_is_followed(url: str, tmp_path: Path, secret: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(CorruptError, match="is a link, which may lead anywhere"):
        planted(url, {"link/secret": EVIL}).download(folder)
    assert secret.read_text() == "as it was"
    (folder / "file").symlink_to(secret)
    planted(url, {"file": EVIL}).download(folder)
    assert (folder / "file").read_text() == "evil"
    assert not (folder / "file").is_symlink()
    assert secret.read_text() == "as it was"


@pytest.mark.parametrize("name", ["../m", "a/b", "", "..", 7, None])
def test_no_artifact_is_called_so_that_its_folder_lies_elsewhere(url: str, name: Any) -> None:
    with pytest.raises(CorruptError, match="no name of an artifact"):
        planted(url, {"fine": EVIL}, name)


def test_references_to_strange_places_are_not_followed(url: str, tmp_path: Path) -> None:
    for number, reference in enumerate(["ssh://host/x", "simplecache::file:///etc/passwd", "/etc/passwd", "x"]):
        artifact = planted(url, {"far": {"reference": reference}}, f"m{number}")
        with pytest.raises(CorruptError, match="is not followed"):
            artifact.download(tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []


@pytest.fixture
def small_disk() -> Iterator[None]:
    """No file can be of more than 64 MiB: what is written without end comes to one."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="Windows has no devices in folders")
@pytest.mark.parametrize("size", [{"size": 4}, {}], ids=["size", "no size"])
@pytest.mark.parametrize("kind", ["device", "link to a device", "pipe", "socket"])
@pytest.mark.usefixtures("small_disk")
def test_a_reference_to_no_file_is_not_read(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, size: dict[str, int]
) -> None:
    """A device may have no end, and to open a pipe waits until somebody writes to it, which nobody does."""
    path = tmp_path / "x"
    listening = socket.socket(socket.AF_UNIX)
    if kind == "device":
        path = Path("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        listening.bind("x")
    else:
        path.symlink_to("/dev/zero")
    artifact = planted(url, {"inner/far": {"reference": path.as_uri(), **size}})
    with listening, pytest.raises(CorruptError, match=f"'inner/far' is .* not followed: {path.as_uri()} is a device"):
        artifact.download(tmp_path / "folder")
    assert [one for one in (tmp_path / "folder").rglob("*") if not one.is_dir()] == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
def test_nothing_is_asked_of_a_pipe_that_is_referred_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    entry = Artifact("m", "t").add_reference((tmp_path / "x").as_uri())
    assert (entry.size, entry.digest) == (None, None)


def test_a_file_that_is_replaced_by_a_pipe_at_the_last_moment_is_not_read(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("Windows has no pipes in folders")
    path = tmp_path / "x"
    path.write_bytes(b"evil")
    artifact = planted(url, {"far": {"reference": path.as_uri(), "size": 4}})

    def replaced(path: Path, flags: int) -> int:
        if flags & os.O_ACCMODE == os.O_RDONLY:
            path.unlink()
            os.mkfifo(path)
        return open_file(path, flags)

    monkeypatch.setattr(external, "open_file", replaced)
    with pytest.raises(CorruptError, match="is a device, a pipe or a socket"):
        artifact.download(tmp_path / "folder")


@pytest.mark.parametrize("scheme", ["file", "memory"])
def test_of_a_reference_no_more_is_read_than_it_should_have(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    content = b"evil" * 1_000
    if scheme == "file":
        reference = (tmp_path / "x").as_uri()
        (tmp_path / "x").write_bytes(content)
    else:
        reference = "memory://far/x"
        fsspec.filesystem("memory").pipe("/far/x", content)
    monkeypatch.setattr(external, "CHUNK_BYTES", 16)
    read = []

    def counted(*given: Any) -> Generator[bytes, None, None]:
        for piece in read_chunks(*given):
            read.append(piece)
            yield piece

    monkeypatch.setattr(external, "read_chunks", counted)
    artifact = planted(url, {"inner/far": {"reference": reference, "size": 100}})
    with pytest.raises(
        CorruptError,
        match=f"'inner/far' is not written: {reference} has more than the 100 bytes that were expected of it. .*"
        "restore it there, or log the artifact again",
    ):
        artifact.download(tmp_path / "folder")
    assert sum(map(len, read)) <= 100 + 16
    assert [one for one in (tmp_path / "folder").rglob("*") if not one.is_dir()] == []
    (tmp_path / "folder" / "inner" / "far").write_bytes(b"as it was")
    with pytest.raises(CorruptError, match="has more than"):
        artifact.get_entry("inner/far").download(tmp_path / "folder")
    assert (tmp_path / "folder" / "inner" / "far").read_bytes() == b"as it was"
    planted(url, {"far": {"reference": reference, "size": len(content)}}, "whole").download(tmp_path / "folder")
    assert (tmp_path / "folder" / "far").read_bytes() == content


def test_what_was_damaged_in_the_store_is_not_downloaded(url: str, tmp_path: Path) -> None:
    with init(dir=url, project="p", id="r1") as run:
        artifact = Artifact("m", "t")
        for name in ("one", "two"):
            with artifact.new_file(name) as file:
                file.write(name)
        run.log_artifact(artifact)
    stored = open_store(url).run("p/r1").artifact("m")
    path = Path(url, names.blob(blobs.digest_of(b"one")))
    for damage in (b"ONE", b"one and more", b""):
        path.write_bytes(damage)
        with pytest.raises(CorruptError, match=rf"blobs/../{path.name} .* is damaged.*one was not written"):
            stored.download(tmp_path / os.urandom(4).hex())
    path.unlink()
    with pytest.raises(CorruptError, match=r"'one' cannot be downloaded: .* is missing"):
        stored.get_entry("one").download(tmp_path / "folder")
    assert list((tmp_path / "folder").iterdir()) == []
    stored.get_entry("two").download(tmp_path / "folder")
    manifest = Path(url, names.blob(stored.digest))
    manifest.write_bytes(manifest.read_bytes().replace(b"two", b"six"))
    with pytest.raises(CorruptError, match="is damaged"):
        open_store(url).run("p/r1").artifact("m").download(tmp_path / "folder")
    manifest.unlink()
    with pytest.raises(CorruptError, match=r"manifest of m:v0, blobs/.* is missing"):
        open_store(url).run("p/r1").artifact("m").download(tmp_path / "folder")


def test_a_folder_that_was_changed_is_told_and_mended(url: str, tmp_path: Path) -> None:
    with init(dir=url, project="p", id="r1") as run:
        artifact = Artifact("m", "t")
        for name in ("one", "inner/two"):
            with artifact.new_file(name) as file:
                file.write(name)
        run.log_artifact(artifact)
    folder = tmp_path / "folder"
    artifact.download(folder)
    artifact.verify(folder)
    (folder / "one").write_text("ONE")
    with pytest.raises(CorruptError, match="one is not what was logged"):
        artifact.verify(folder)
    artifact.download(folder)
    artifact.verify(folder)
    (folder / "inner" / "two").unlink()
    with pytest.raises(CorruptError, match="two is missing"):
        artifact.verify(folder)
    artifact.download(folder)
    (folder / "surplus").touch()
    with pytest.raises(CorruptError, match="surplus does not belong"):
        artifact.verify(folder)
