"""The parts of a journal: the rows of one flush batch each, and what is read back of them."""

from __future__ import annotations

import contextlib
import errno
import itertools
from pathlib import Path
from typing import NamedTuple

from rewind_logger.errors import CorruptError
from rewind_logger.format import frames
from rewind_logger.history import late_opening
from rewind_logger.history.journals.place import Place
from rewind_logger.types import STREAMS, Row

PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""What keeps a file from being read that is there, and whole: it is tried again."""


class Batch(NamedTuple):
    """The rows of one flush."""

    flushes: dict[str, int]
    """Per stream the number of the flush that its rows become."""
    rows: dict[str, list[Row]]
    """Of each stream that has any."""
    damaged: bool = False
    """Whether more rows were there, which cannot be read."""
    unopened: bool = False
    """Whether its clocks were counted from 0, since the run was not open."""
    steps_given: bool = False
    """Whether it says that steps were given meanwhile."""


class Part:
    """The rows of one flush batch, closed."""

    def __init__(self, name: str, places: list[Place], rest: bytes, blobs: dict[str, bytes | Place]) -> None:
        """Take what a batch consists of.

        Args:
            name: Of the files with its rows.
            places: Where there is one, in the order of their rows.
            rest: Rows that could not be written to any.
            blobs: By digest what they refer to, or where that is kept.
        """
        self.name = name
        self.rows = 0
        """How many it was given."""
        self.places = places
        self.rest = rest
        self._blobs = blobs

    @property
    def held(self) -> int:
        """How many bytes of it would be lost with this process."""
        return len(self.rest) + sum(len(data) for data in self._blobs.values() if isinstance(data, bytes))

    @property
    def blobs(self) -> dict[str, bytes | Path]:
        """By digest the blobs that its rows may refer to, or the files that hold them."""
        kept = self._blobs.items()
        return {digest: data.blob_path(digest) if isinstance(data, Place) else data for digest, data in kept}

    def holds(self, digest: str) -> bool:
        """Whether it has a blob."""
        return digest in self._blobs

    def read(self, start: int, steps_given: bool = False) -> Batch:
        """Return what is in it; `parse_part` says what the arguments are.

        Raises:
            CorruptError: If it is damaged.
            OSError: If the disk gives it back no more.
        """
        return parse_part(start, *[path.read_bytes() for path in self._paths], self.rest, steps_given=steps_given)

    def peek(self, start: int) -> Batch | None:
        """Return what is in it by now; None if it was let go meanwhile, or cannot be read: `read` says why."""
        try:
            batch = self.read(start)
        except (CorruptError, OSError):
            return None
        return batch if batch.flushes else None

    def keep(self, digest: str, data: bytes | Place) -> None:
        """Take note of where a blob is kept that was held in memory."""
        self._blobs[digest] = data

    def drop(self) -> None:
        """Let it go: its rows are in the store."""
        self.rest = b""
        for path in self._paths:
            with contextlib.suppress(OSError):
                path.unlink()

    def drop_blobs(self) -> None:
        """Let its blobs go: they are in the store."""
        for source in self.blobs.values():
            if isinstance(source, Path):
                with contextlib.suppress(OSError):
                    source.unlink()

    @property
    def _paths(self) -> list[Path]:
        """Its files: a journal may have been moved since it was closed."""
        return [place.folder / self.name for place in self.places]


def parse_part(start: int, *data: bytes, steps_given: bool = False) -> Batch:
    """Return the batch in the bytes of a part, of each up to a torn tail, or up to a damage.

    Args:
        start: Where the run was opened: the clock of rows that have none.
        data: The bytes.
        steps_given: Whether steps were given while the run was not open, which each later part says too.

    Raises:
        CorruptError: If they hold what is neither a row nor a header.
    """
    flushes: dict[str, int] = {}
    unopened = given = False
    keys: dict[int, list[str]] = {}
    rows: dict[str, list[Row]] = {}
    pieces = [(piece, *frames.read_frames(piece)) for piece in data]
    damaged = any(frames.is_damaged(piece, size) for piece, _, size in pieces)
    for payload in itertools.chain.from_iterable(payloads for _, payloads, _ in pieces):
        decoded = frames.decode(payload)
        try:
            if isinstance(decoded, dict):
                flushes = {str(stream): _flush(flush) for stream, flush in decoded["flush"].items()}
                unopened = unopened or decoded.get("unopened") is True
                given = given or decoded.get("steps_given") is True
            elif isinstance(decoded, frames.Keys):
                keys[decoded.stream_index] = decoded.keys
            else:
                index, row = decoded
                found = row.at(start, keys.get(index, ()))
                found = _placed(found, start, steps_given) if unopened and row.clock is not None else found
                rows.setdefault(STREAMS[index], []).append(found)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise CorruptError(f"A journal holds what this version does not know ({error!r}).") from error
    if not rows.keys() <= flushes.keys():
        raise CorruptError("A journal does not say which flushes its rows become.")
    return Batch(flushes, rows, damaged, unopened, given)


def _flush(value: object) -> int:
    """Return the number of a flush, which becomes part of a name."""
    if type(value) is not int or not 0 <= value < 10**18:
        raise ValueError("a flush has no number")
    return value


def _placed(row: Row, start: int, steps_given: bool) -> Row:
    """Return a row that was logged before its run was open where it belongs; a step that was given stays beside it."""
    clock = late_opening.place(row.clock, start, steps_given)
    if not steps_given:
        return row._replace(clock=clock)
    return row._replace(clock=clock, step=row.clock if row.step is None and row.clock != clock else row.step)
