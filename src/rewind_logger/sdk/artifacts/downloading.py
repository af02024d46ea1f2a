"""Bringing the files of an artifact into a folder: verified, and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rewind_logger.errors import ConfigError, CorruptError
from rewind_logger.format import manifest, names
from rewind_logger.format.manifest import Entry
from rewind_logger.history import blobs
from rewind_logger.storage.base import Storage
from rewind_logger.storage.descriptor import replacing
from rewind_logger.storage.external import fetch

AT_ONCE = 8
"""Files that are fetched at the same time."""


def read_manifest(storage: Storage, digest: str, label: str) -> dict[str, Entry]:
    """Return what an artifact holds.

    Raises:
        CorruptError: If its manifest is missing, damaged, or refused.
    """
    where = f"The manifest of {label}, {names.blob(blobs.check_digest(digest))} in {storage.url},"
    try:
        return manifest.decode(blobs.read(storage, digest), where)
    except FileNotFoundError as error:
        raise CorruptError(f"{where} is missing: restore it from a backup.") from error


def download(storage: Storage, entries: Mapping[str, Entry], root: Path) -> None:
    """Fetch files into a folder; those that are there already stay.

    Args:
        storage: The store.
        entries: The files by name, as a manifest that was read gives them.
        root: The folder.

    Raises:
        CorruptError: If a file is not what it should be, or would be written through a link; the others may be there.
        StorageError: If the store fails.
        OSError: If the folder cannot be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    work = [(name, entry, locate(root, name)) for name, entry in entries.items()]

    def one(item: tuple[str, Entry, Path]) -> None:
        fetch_one(storage, *item)

    if len(work) < 2:
        for item in work:
            one(item)
        return
    with ThreadPoolExecutor(min(AT_ONCE, len(work)), thread_name_prefix="rewind-logger-download") as pool:
        for _ in pool.map(one, work):
            pass


def fetch_one(storage: Storage, name: str, entry: Entry, target: Path) -> None:
    """Fetch one file, unless it is there."""
    if is_there(target, entry):
        return
    if entry.sha256 is not None:
        try:
            blobs.download(storage, entry.sha256, entry.size, target)
        except FileNotFoundError as error:
            raise CorruptError(
                f"{name!r} cannot be downloaded: {names.blob(entry.sha256)} is missing in {storage.url}. Restore it "
                "from a backup, or log the artifact again."
            ) from error
        return
    assert entry.reference is not None
    with replacing(target) as temporary:
        try:
            options = storage.options_for(entry.reference)
            sha256, size = fetch(entry.reference, temporary, options, expected=entry.size)
        except ConfigError as error:
            raise CorruptError(f"{name!r} is a reference that is not followed: {error}") from error
        except CorruptError as error:
            raise CorruptError(
                f"{name!r} is not written: {error} It is no longer what it was when that was logged, and references "
                "are not copied; restore it there, or log the artifact again."
            ) from error
        known = entry.checksum or ""
        if entry.size not in (None, size) or (known.startswith("sha256:") and known != f"sha256:{sha256}"):
            raise CorruptError(
                f"{entry.reference} is no longer what it was when {name!r} was logged: it has {size:,} bytes and the "
                f"SHA-256 {sha256}. References are not copied; restore it there."
            )


def is_there(path: Path, entry: Entry) -> bool:
    """Whether a file is what an entry says, as far as the entry says it."""
    known = entry.sha256 or (entry.checksum or "").partition("sha256:")[2]
    if not known or path.is_symlink() or not path.is_file():
        return False
    return (entry.size is None or path.stat().st_size == entry.size) and blobs.measure(path)[0] == known


def locate(root: Path, name: str) -> Path:
    """Return where a file of a manifest belongs.

    Raises:
        CorruptError: If a link within the folder would lead out of it.
    """
    if (wrong := manifest.what_is_wrong_with(name)) is not None:
        raise CorruptError(f"The file is not written: {wrong}.")
    folder = root
    for part in name.split("/")[:-1]:
        folder = folder / part
        if folder.is_symlink():
            raise CorruptError(f"{name!r} is not written: {folder} is a link, which may lead anywhere. Remove it.")
    return root / name


def verify(entries: Mapping[str, Entry], root: Path) -> None:
    """Check that a folder holds exactly these files; references of which nothing is known are not looked at.

    Raises:
        CorruptError: If one is missing, is another, or does not belong there.
    """
    found = set(_files(root))
    if surplus := sorted(found - entries.keys()):
        raise CorruptError(f"{root / surplus[0]} does not belong to the artifact, nor do {len(surplus) - 1} others.")
    for name, entry in entries.items():
        if entry.sha256 is None and not (entry.checksum or "").startswith("sha256:"):
            continue
        if name not in found:
            raise CorruptError(f"{root / name} is missing: download the artifact again.")
        if not is_there(root / name, entry):
            raise CorruptError(f"{root / name} is not what was logged: delete it, and download the artifact again.")


def _files(root: Path) -> Iterable[str]:
    """Yield the names of all files below a folder."""
    for folder, _, files in os.walk(root):
        for file in files:
            yield Path(folder, file).relative_to(root).as_posix()
