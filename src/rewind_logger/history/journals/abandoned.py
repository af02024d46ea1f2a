"""Journals whose writers are gone."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rewind_logger.errors import CorruptError, FormatVersionError, StorageError, TransientStorageError
from rewind_logger.format.version import check_version
from rewind_logger.history.journals import locks, place
from rewind_logger.history.journals.part import PASSING, Batch, parse_part
from rewind_logger.history.journals.place import BLOB, CLAIMED, NOTED, OWNER, PART, RECOVERING
from rewind_logger.storage import within
from rewind_logger.types import OPENING_CLOCK

LOG = logging.getLogger("rewind_logger")

_LOOK_AGAIN_S = 0.05


@dataclass(slots=True)
class Abandoned:
    """A journal whose writer is gone; locked by us while it is looked at."""

    folders: list[Path]
    """One on each disk that it lies on, in the order in which it went to them."""
    nonce: str
    created_ms: int
    claimed: int | None
    """The number of the last claim that the writer made, None if it made none."""
    host: str | None = None
    """The machine that it was written on, if it tells."""
    endpoint: str | None = None
    """The server that its writer's options named, if it tells."""
    damaged: set[Path] = field(default_factory=set)
    """Parts that could not be read."""
    _given: bool | None = None

    @property
    def folder(self) -> Path:
        """The first of them."""
        return self.folders[0]

    @property
    def where(self) -> str:
        """Its folder, or folders, for messages."""
        return " and ".join(str(folder) for folder in self.folders)

    def batches(self, start: int) -> Iterator[Batch]:
        """Yield the batches in order; damaged ones are named and passed over.

        Args:
            start: The clock of rows that were logged before theirs was known.

        Raises:
            TransientStorageError: If a part cannot be read now, but may be later.
        """
        for paths in self._parts():
            try:
                batch = parse_part(start, *[path.read_bytes() for path in paths], steps_given=self._steps_given())
            except (CorruptError, OSError) as error:
                _raise_if_passing(error, paths[0])
                self._say_damaged(paths, f"its rows are left out. {error}")
            else:
                if batch.damaged:
                    self._say_damaged(paths, "the rows behind the damage are left out.")
                yield batch

    def has_steps(self) -> bool:
        """Say whether it holds rows of steps, and not only what precedes an opening."""
        return any(
            batch.unopened or row.clock >= 0
            for batch in self.batches(OPENING_CLOCK)
            for rows in batch.rows.values()
            for row in rows
        )

    def blobs(self) -> dict[str, Path]:
        """Return by digest the files of the blobs that its rows may refer to."""
        return {match[1]: path for path in self._files() if (match := BLOB.fullmatch(path.name))}

    def note_once(self, note: str) -> str | None:
        """Return a note, None if somebody was told before."""
        try:
            (self.folder / NOTED).touch(exist_ok=False)
        except FileExistsError:
            return None
        except OSError:
            pass
        return note

    def remove(self) -> None:
        """Let it go: what can be read of it is in the store."""
        for folder in self.folders:
            place.remove(folder, keep=[path for path in self.damaged if path.parent == folder])

    def _steps_given(self) -> bool:
        """Say whether steps were given while the run was not open, as the parts from before its opening tell."""
        if self._given is None:
            self._given = False
            for paths in self._parts():
                try:
                    batch = parse_part(0, *[path.read_bytes() for path in paths])
                except (CorruptError, OSError) as error:
                    _raise_if_passing(error, paths[0])
                    continue
                self._given = batch.steps_given
                if batch.steps_given or not batch.unopened:
                    break
        return self._given

    def _parts(self) -> list[list[Path]]:
        """Return the parts in order, of each its files in the order of the folders."""
        found: dict[str, list[Path]] = {}
        for path in self._files():
            if PART.fullmatch(path.name):
                found.setdefault(path.name, []).append(path)
        return [found[name] for name in sorted(found)]

    def _files(self) -> Iterator[Path]:
        for folder in self.folders:
            try:
                yield from place.files(folder)
            except OSError as error:
                _raise_if_passing(error, folder)
                raise StorageError(f"The journal {folder} cannot be read: {error}") from error

    def _say_damaged(self, paths: list[Path], what: str) -> None:
        if self.damaged.isdisjoint(paths):
            LOG.error("The journal part %s is damaged: it is kept, and %s", " and ".join(map(str, paths)), what)
        self.damaged.update(paths)


def _raise_if_passing(error: Exception, path: Path) -> None:
    """Do not take what is wrong with the process for what is wrong with a file."""
    if isinstance(error, OSError) and error.errno in PASSING:
        raise TransientStorageError(f"The journal in {path} cannot be read now: {error}") from error


@contextlib.contextmanager
def abandoned(*roots: Path | None, wait_s: float = 0.0) -> Iterator[list[Abandoned]]:
    """Give the journals of a run whose writers are gone, oldest first, locked as long as the context lasts.

    Args:
        roots: The folders that they may be in; one journal may be in several.
        wait_s: How many seconds to wait at most for others who have locked one as this does.

    Raises:
        TransientStorageError: If one cannot be looked into now, but may be later.
    """
    deadline = time.monotonic() + wait_s
    held: list[tuple[int, Path]] = []
    found: dict[str, Abandoned] = {}
    created: dict[str, int] = {}
    passed_by: set[str] = set()
    try:
        for folder in (folder for root in roots for folder in folders(root)):
            owner = folder / OWNER
            if not within.is_file(owner):  # no journal; or a link or a pipe, which nobody opens
                continue
            try:
                fd = _acquire(owner, deadline)
                if fd is None:
                    passed_by.add(folder.name)  # its writer lives
                    continue
                held.append((fd, owner))
                with contextlib.suppress(OSError):
                    (folder / RECOVERING).touch()
                about = _about(fd, folder)
                if about is None:
                    passed_by.add(folder.name)
                    continue
                created_ns = os.fstat(fd).st_mtime_ns
                claims = [match for path in folder.iterdir() if (match := CLAIMED.fullmatch(path.name))]
            except OSError as error:  # no journal, or one that its writer is just removing
                _raise_if_passing(error, folder)
                continue
            first = created[folder.name] = min(created_ns, created.get(folder.name, created_ns))
            one = found.setdefault(
                folder.name, Abandoned([], folder.name, 0, None, about.get("host"), about.get("endpoint"))
            )
            one.folders.append(folder)
            one.created_ms = first // 1_000_000
            one.claimed = max((int(match[1]) for match in claims), default=one.claimed)
        yield [found[nonce] for nonce in sorted(found.keys() - passed_by, key=created.__getitem__)]
    finally:
        for fd, path in held:
            with contextlib.suppress(OSError):
                path.with_name(RECOVERING).unlink()
            locks.release(fd, path)


def _acquire(owner: Path, deadline: float) -> int | None:
    """Lock a journal; None if it stays locked, by its writer, or beyond a deadline on the monotonic clock."""
    waiting = False
    while (fd := locks.acquire(owner, create=False)) is None:
        # What one who was killed left of this is seen only while the journal is locked: by another one like him.
        if not within.is_file(owner.with_name(RECOVERING)):
            return None
        if time.monotonic() >= deadline:
            if waiting:
                LOG.warning("The rows of the journal %s are still being brought in: waiting no longer.", owner.parent)
            return None
        if not waiting:
            LOG.warning("Waiting for another process, which is bringing in the rows of the journal %s.", owner.parent)
            waiting = True
        time.sleep(_LOOK_AGAIN_S)
    return fd


def folders(root: Path | None) -> list[Path]:
    """Return what lies in a folder, links aside, as far as it can be looked into.

    Raises:
        TransientStorageError: If it cannot be now, but may be later.
    """
    if root is None:
        return []
    try:
        return sorted(path for path in root.iterdir() if not path.is_symlink())
    except OSError as error:
        _raise_if_passing(error, root)
        return []


def is_abandoned(root: Path | None, nonce: str) -> bool | None:
    """Tell whether the writer of a journal is gone, without touching it; None where this machine cannot tell."""
    if root is None:
        return None
    found = locks.look(root / nonce / OWNER)
    if found is None or found[0]:
        return None if found is None else False
    try:
        # Over a network the locks of others may not be seen; and a journal that could not be locked says no host.
        return True if json.loads(found[1])["host"] == socket.gethostname() else None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _about(fd: int, folder: Path) -> dict[str, Any] | None:
    """Return what a journal says of itself; None if this version does not know its format.

    Read through the locked descriptor: to close another one on the same file would give the lock up.
    """
    data = os.pread(fd, 1 << 16, 0)
    try:
        fields: dict[str, Any] = json.loads(data) if data else {"format": 1}  # its writer was killed before a word
        check_version(fields.get("format"), f"The journal {folder}")
    except FormatVersionError as error:
        LOG.warning("%s Until then its rows are left there.", error)
        return None
    except (CorruptError, ValueError, AttributeError, RecursionError):
        return {}  # a word that was cut short: its parts say what they are
    return fields
