"""Blobs: files of a store that are named by the SHA-256 of their content, and so are there once for all its runs."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TypeGuard

from rewind_logger.errors import CorruptError
from rewind_logger.format import names
from rewind_logger.history.store_clock import about_now
from rewind_logger.storage.base import CHUNK_BYTES, Storage
from rewind_logger.storage.descriptor import open_file, replacing

FRESH_S = 12 * 3600.0
"""A blob that was put or touched no longer ago than this is there to be referred to: no collector removes it before the
row is in the store. One that is older is as if it might be gone the next moment (`design/009-collect.md`)."""

_DIGEST = re.compile("[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of some bytes as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def measure(path: Path) -> tuple[str, int]:
    """Return the SHA-256 and the size of a file, read piece by piece.

    Raises:
        OSError: If it cannot be read.
    """
    content, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        while piece := file.read(CHUNK_BYTES):
            content.update(piece)
            size += len(piece)
    return content.hexdigest(), size


def put(storage: Storage, data: bytes) -> str:
    """Store some bytes, unless the store has them: it is asked first, as `renew` does.

    Returns:
        Their digest.

    Raises:
        StorageError: If the store fails.
    """
    digest = digest_of(data)
    if not renew(storage, digest, len(data)):
        storage.put(names.blob(digest), data)
    return digest


def put_file(storage: Storage, path: Path, *, known: tuple[str, int] | None = None) -> tuple[str, int]:
    """Store the content of a file, unless the store has it; in a bounded amount of memory.

    Args:
        storage: The store.
        path: The file; it must not change meanwhile.
        known: Its digest and size, if they were measured before.

    Returns:
        Its digest and its size in bytes.

    Raises:
        OSError: If the file cannot be read.
        StorageError: If the store fails, or the file was changed meanwhile as far as that is noticed: a local store
            compares what it copies, a remote one does not.
    """
    digest, size = known or measure(path)
    if not renew(storage, digest, size):
        storage.put_file(names.blob(digest), path, sha256=digest)
    return digest, size


def renew(storage: Storage, digest: str, size: int | None = None) -> bool:
    """Whether the store has a blob to refer to, of that size, if one is given; an old one is touched.

    One request; a second to touch it, which is not done to a young one where it costs something.

    Returns:
        False if it has to be stored anew.

    Raises:
        CorruptError: If the digest is none.
        StorageError: If the store fails.
    """
    path = names.blob(check_digest(digest))
    try:
        found = storage.info(path)
        if size is not None and found.size != size:
            return False
        if not storage.cheap_touch and found.modified is not None and about_now(storage) - found.modified < FRESH_S:
            return True
        return storage.touch(path)
    except FileNotFoundError:
        return False


def exists(storage: Storage, digest: str, size: int | None = None) -> bool:
    """Whether the store has a blob, and of that size, if one is given: one request.

    Raises:
        CorruptError: If the digest is none.
        StorageError: If the store fails.
    """
    try:
        found = storage.size(names.blob(check_digest(digest)))
    except FileNotFoundError:
        return False
    return size is None or found == size


def read(storage: Storage, digest: str) -> bytes:
    """Return a blob, in one request.

    Raises:
        FileNotFoundError: If the store has none of that name.
        CorruptError: If the digest is none, or the blob is not what it says.
        StorageError: If the store fails.
    """
    path = names.blob(check_digest(digest))
    data = storage.read(path)
    if (found := digest_of(data)) != digest:
        raise _damaged(storage, path, found, len(data))
    return data


def download(storage: Storage, digest: str, size: int | None, target: Path) -> None:
    """Write a blob to a file, which appears whole and verified or not at all; in a bounded amount of memory.

    Args:
        storage: The store.
        digest: The blob.
        size: Its size in bytes, if that is known: a larger one is refused before the disk is full of it.
        target: The file; it is replaced, and its folder is made.

    Raises:
        FileNotFoundError: If the store has no such blob.
        CorruptError: If the digest is none, or the blob is not what it says; the message names both.
        StorageError: If the store fails.
        OSError: If the file cannot be written.
    """
    path = names.blob(check_digest(digest))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    content, written = hashlib.sha256(), 0
    with replacing(target) as temporary:
        with open(open_file(temporary, flags), "wb") as file:
            for piece in storage.read_chunks(path):
                content.update(piece)
                written += len(piece)
                if size is not None and written > size:
                    break
                file.write(piece)
        if content.hexdigest() != digest or size not in (None, written):
            raise _damaged(storage, path, content.hexdigest(), written, target)


def check_digest(digest: object) -> str:
    """Return a digest that may name a blob, or refuse it: it may have been read from what someone else wrote.

    Raises:
        CorruptError: If it is no text of 64 lower-case hexadecimal digits.
    """
    if not is_digest(digest):
        raise CorruptError(f"{str(digest)[:100]!r} is no SHA-256: what names it was damaged, or not written by us.")
    return digest


def is_digest(value: object) -> TypeGuard[str]:
    """Say whether it may name a blob: a text of 64 lower-case hexadecimal digits."""
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _damaged(storage: Storage, path: str, found: str, size: int, target: Path | None = None) -> CorruptError:
    """Say that a blob is not what its name says."""
    kept = f" {target} was not written." if target else ""
    return CorruptError(
        f"The blob {path} in {storage.url} is damaged: its {size:,} bytes have the SHA-256 {found}, which should be "
        f"its name.{kept} Delete it, and store the file again from where it came."
    )
