"""Carrying: a fork into another store takes along the blobs that its rows refer to."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rewind_logger.errors import CorruptError
from rewind_logger.format import names
from rewind_logger.history import blobs, reader
from rewind_logger.history.together import together
from rewind_logger.history.view import View
from rewind_logger.storage.base import Storage
from rewind_logger.types import Stream

LOG = logging.getLogger("rewind_logger")

SMALL_BYTES = 4 << 20
"""Blobs up to this size are read whole, several at the same time; larger ones, and of unknown size, go by the disk."""

TOGETHER_BYTES = 64 << 20
"""Small ones are held in memory up to this many bytes at a time."""


def named_in(source: Storage, view: View, stream: Stream) -> dict[str, int | None]:
    """Return the blobs that the visible rows of a stream name.

    Args:
        source: The store.
        view: What is visible.
        stream: Whose values are JSON text; wherever in it an object has a `sha256`, that is a blob.

    Returns:
        By digest the size in bytes, None where no `size` is beside it.
    """
    found: dict[str, int | None] = {}
    if not any(stream in entry.sealed for entry in view.entries):
        return found
    for text in reader.read(source, view, stream)["text"].to_pylist():
        if text is not None and '"sha256"' in text:
            found.update(named(text))
    return found


def listed_in(source: Storage, manifests: Iterable[str]) -> dict[str, int | None]:
    """Return the blobs that these manifests of artifacts list, as `named_in` does; a damaged one lists nothing."""
    found: dict[str, int | None] = {}
    for digest in manifests:
        try:
            text = blobs.read(source, digest).decode(errors="replace")
        except (FileNotFoundError, CorruptError):
            continue  # said when it is copied itself
        found.update(named(text))
    return found


def carry(source: Storage, target: Storage, found: Mapping[str, int | None]) -> None:
    """Copy blobs into another store, verified; those that are missing or damaged are named in the log.

    Args:
        source: The store that has them.
        target: The store that gets them.
        found: By digest the size in bytes, None where it is not known.

    Raises:
        StorageError: If a store fails.
    """
    small = {digest: size for digest, size in found.items() if size is not None and size <= SMALL_BYTES}
    for group in together(small, small.__getitem__, TOGETHER_BYTES):
        bodies = source.read_each([names.blob(digest) for digest in group])
        objects = []
        for digest, body in zip(group, bodies, strict=True):
            if isinstance(body, FileNotFoundError) or (isinstance(body, bytes) and blobs.digest_of(body) != digest):
                _say(source, digest)
            elif isinstance(body, Exception):
                raise body
            else:
                objects.append((names.blob(digest), body))
        target.put_many(objects)
    with tempfile.TemporaryDirectory(prefix="rewind-logger-") as folder:
        for digest, size in found.items():
            if digest not in small and not blobs.renew(target, digest, size):
                _carry_large(source, target, digest, size, Path(folder, digest))


def _carry_large(source: Storage, target: Storage, digest: str, size: int | None, file: Path) -> None:
    try:
        blobs.download(source, digest, size, file)
    except (FileNotFoundError, CorruptError):
        _say(source, digest)
        return
    blobs.put_file(target, file, known=(digest, file.stat().st_size))
    file.unlink()


def _say(source: Storage, digest: str) -> None:
    LOG.error("The blob %s in %s is missing or damaged, and so it is in the copy.", names.blob(digest), source.url)


def named(text: str) -> Iterator[tuple[str, int | None]]:
    """Yield the blobs that a JSON text names: the digest, and the size in bytes if it says one."""
    try:
        waiting: list[Any] = [json.loads(text)]
    except (ValueError, RecursionError):
        return
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(value.values())
            digest, size = value.get("sha256"), value.get("size")
            if blobs.is_digest(digest):
                yield digest, size if type(size) is int else None
