"""Uploads: blobs on their way from a journal into the store."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from rewind_logger.errors import TransientStorageError
from rewind_logger.format import names
from rewind_logger.history import blobs
from rewind_logger.history.journals.part import PASSING
from rewind_logger.history.together import together
from rewind_logger.storage.base import Storage, raise_first

LOG = logging.getLogger("rewind_logger")

TOGETHER_BYTES = 32 << 20
"""Blobs are held in memory, and sent at the same time, up to this many bytes; a larger one alone."""

ASK_BYTES = 1 << 20
"""Of a blob of this size or more the store is asked whether it has it: that takes a request, and may save more."""

REMEMBERED_S = 6 * 3600.0
"""How long a blob that was brought in is known to be there: a row may refer to it much later than it was looked at."""

REMEMBERED = 1 << 17
"""Blobs that are known to be in the store, at most."""


class Uploads:
    """Brings blobs into a store, each once. Not for use by two threads at once, but for `in`."""

    def __init__(self, storage: Storage) -> None:
        """Take the store."""
        self._storage = storage
        self._done: dict[str, float] = {}  # when, by the wall time

    def __contains__(self, digest: str) -> bool:
        """Whether a blob was brought in, not long ago."""
        done = self._done.get(digest)
        return done is not None and 0 <= time.time() - done < REMEMBERED_S

    def send(self, found: Mapping[str, bytes | Path]) -> None:
        """Bring in blobs; one that cannot be read back is named in the log and left out.

        Args:
            found: By digest the content, or the file that holds it.

        Raises:
            StorageError: If the store failed; those that are there are not sent again.
        """
        if len(self._done) + len(found) > REMEMBERED:
            self._done = {}
        now = time.time()
        for group in together(self._missing(found), lambda one: len(one[1]), TOGETHER_BYTES):
            outcomes = self._storage.put_each([(names.blob(digest), data) for digest, data in group])
            for (digest, _), error in zip(group, outcomes, strict=True):
                if error is None:
                    self._done[digest] = now
            raise_first(outcomes)

    def _missing(self, found: Mapping[str, bytes | Path]) -> Iterator[tuple[str, bytes]]:
        """Yield the blobs that the store may not have."""
        for digest, source in found.items():
            if digest in self:
                continue
            data = source if isinstance(source, bytes) else _read(digest, source)
            if data is None:
                continue
            if len(data) >= ASK_BYTES and blobs.renew(self._storage, digest, len(data)):
                self._done[digest] = time.time()
            else:
                yield digest, data


def _read(digest: str, path: Path) -> bytes | None:
    """Read a blob back from a journal; None if that will never do.

    Raises:
        TransientStorageError: If it may do later.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        if error.errno in PASSING:
            raise TransientStorageError(f"The file {path} could not be read back: {error}") from error
        LOG.error("The file %s, which rows refer to, could not be read back: %s", path, error)
        return None
    if blobs.digest_of(data) == digest:
        return data
    # After a loss of power: nothing in a journal is synced.
    LOG.error("The file %s, which rows refer to, is damaged: they refer to nothing.", path)
    return None
