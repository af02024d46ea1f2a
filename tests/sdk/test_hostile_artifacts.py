"""An artifact that someone made to do harm, or that was damaged, writes nothing where it should not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rewind_logger import Artifact, CorruptError, init, open_store
from rewind_logger.format import names
from rewind_logger.history import blobs
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
