"""References: which blobs the rows of a store name, held in little memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rewind_logger.errors import CorruptError
from rewind_logger.format import names, segment
from rewind_logger.history import blobs
from rewind_logger.history.carrying import named
from rewind_logger.history.journals import place
from rewind_logger.history.journals.abandoned import folders
from rewind_logger.history.journals.part import parse_part
from rewind_logger.history.journals.place import PART
from rewind_logger.history.together import together
from rewind_logger.storage.base import Storage
from rewind_logger.types import STREAMS_WITH_BLOBS

TOGETHER_BYTES = 32 << 20
"""Segments are held in memory up to this many bytes at a time."""

HELD = 1 << 18
"""Names that are held as they come, before they are put in order."""


class References:
    """The blobs that rows name.

    Of each name the first 64 bits are kept, 8 bytes a blob. Two names that begin alike are taken for one: then a blob
    stays that could go, once in very many.
    """

    def __init__(self) -> None:
        self._sorted: npt.NDArray[np.uint64] = np.empty(0, np.uint64)
        self._new: set[int] = set()

    def __contains__(self, digest: str) -> bool:
        short = _short(digest)
        if short in self._new:
            return True
        at = int(np.searchsorted(self._sorted, np.uint64(short)))
        return at < len(self._sorted) and int(self._sorted[at]) == short

    def add(self, digest: str) -> None:
        """Note a name."""
        self._new.add(_short(digest))
        if len(self._new) >= HELD:
            self._sorted = np.union1d(self._sorted, np.fromiter(self._new, np.uint64, len(self._new)))
            self._new.clear()


class Reading:
    """Notes what segments and journals name, and what the manifests among it name in turn."""

    def __init__(self, storage: Storage) -> None:
        """Take the store."""
        self._storage = storage
        self.blobs = References()
        self._manifests = References()

    def add_segments(self, found: Iterable[tuple[str, str, int]]) -> None:
        """Note what segments name, each given by path, stream and size; one that is gone by now names nothing.

        Raises:
            CorruptError: If one is damaged: what it names is not known.
        """
        for group in together(found, lambda one: one[2], TOGETHER_BYTES):
            bodies = self._storage.read_each([path for path, _, _ in group])
            for (path, stream, _), body in zip(group, bodies, strict=True):
                if isinstance(body, FileNotFoundError):
                    continue
                if isinstance(body, Exception):
                    raise body
                try:
                    texts = segment.decode(body)["text"].to_pylist()
                except CorruptError as error:
                    raise CorruptError(f"The segment {path} in {self._storage.url} is damaged: {error}") from error
                self._add_texts(stream, texts)

    def add_journals(self, root: Path) -> None:
        """Note what rows name that wait in the journals of a run in a folder of this machine.

        Raises:
            CorruptError: If one cannot be read: what it names is not known.
        """
        for folder in folders(root):
            try:
                parts = [path for path in place.files(folder) if PART.fullmatch(path.name)]
            except OSError as error:
                raise CorruptError(f"The journal {folder} cannot be read: {error}") from error
            for path in parts:
                self._add_part(path)

    def _add_part(self, path: Path) -> None:
        try:
            batch = parse_part(0, path.read_bytes())
        except FileNotFoundError:  # its rows came into the store
            return
        except OSError as error:
            raise CorruptError(f"The journal {path} cannot be read: {error}") from error
        for stream, rows in batch.rows.items():
            if stream in STREAMS_WITH_BLOBS:
                self._add_texts(stream, [value for row in rows for value in row.values.values()])

    def _add_texts(self, stream: str, texts: Iterable[Any]) -> None:
        manifests = []
        for text in texts:
            if isinstance(text, str) and '"sha256"' in text:
                for digest, _ in named(text):
                    self.blobs.add(digest)
                    if stream == "artifacts" and digest not in self._manifests:
                        self._manifests.add(digest)
                        manifests.append(digest)
        self._add_manifests(manifests)

    def _add_manifests(self, digests: Iterable[str]) -> None:
        for group in together(digests, lambda _: 1 << 16, TOGETHER_BYTES):
            for digest, body in zip(group, self._storage.read_each(map(names.blob, group)), strict=True):
                if isinstance(body, FileNotFoundError):
                    continue
                if isinstance(body, Exception):
                    raise body
                if blobs.digest_of(body) != digest:
                    raise CorruptError(
                        f"The blob {names.blob(digest)} in {self._storage.url} is damaged: it lists the files of an "
                        "artifact, and it is not known which. Log the artifact again, or restore it from a backup."
                    )
                for listed, _ in _listed(body):
                    self.blobs.add(listed)


def _listed(manifest: bytes) -> Iterator[tuple[str, int | None]]:
    try:
        text = manifest.decode()
        json.loads(text)
    except ValueError:
        return  # what an artifact row names need not be a manifest, in a store that someone else wrote
    yield from named(text)


def _short(digest: str) -> int:
    return int(digest[:16], 16)
