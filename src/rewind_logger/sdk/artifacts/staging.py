"""Where the files of artifacts wait for their upload, beside the journals of a run.

```
staged-{token}/owner            locked as long as the process lives that uploads from here
staged-{token}/{n}/artifact     what is uploaded, in words
staged-{token}/{n}/{i}          its files
```
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import threading
from pathlib import Path

from rewind_logger.history.journals import locks
from rewind_logger.storage.base import CHUNK_BYTES
from rewind_logger.storage.descriptor import open_file

_NUMBER = re.compile("[0-9]{9}")
_FOLDER = re.compile("staged-[0-9a-f]{16}")
OWNER = "owner"
ABOUT = "artifact"


class Staging:
    """The files that one process has waiting; its folder is there as long as something waits."""

    def __init__(self, root: Path) -> None:
        """Take the folder of the run's journals; nothing is made yet."""
        self._folder = root / f"staged-{secrets.token_hex(8)}"
        self._lock = threading.RLock()
        self._owner: int | None = None
        self._number = 0
        self._waiting = 0

    def begin(self, about: str) -> Path:
        """Return a new folder for the files of one artifact.

        Raises:
            OSError: If it cannot be made.
        """
        with self._lock:
            if self._owner is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._owner = locks.create(self._folder / OWNER)
            folder = self._folder / f"{self._number:09d}"
            self._number += 1
            folder.mkdir()
            (folder / ABOUT).write_text(about, encoding="utf-8")
            self._waiting += 1
            return folder

    def discard(self, folder: Path) -> None:
        """Remove what `begin` made: it is in the store, or given up."""
        remove(folder)
        with self._lock:
            self._waiting -= 1
            owner = self._owner
            if self._waiting or owner is None:
                return
            self._owner = None
            with contextlib.suppress(OSError):
                (self._folder / OWNER).unlink()
            locks.release(owner, self._folder / OWNER)
            with contextlib.suppress(OSError):
                self._folder.rmdir()
                self._folder.parent.rmdir()  # only if it was made for this

    def disown(self) -> None:
        """In a forked child: what is there is the parent's."""
        self._lock, self._owner, self._waiting = threading.RLock(), None, 0
        self._folder = self._folder.with_name(f"staged-{secrets.token_hex(8)}")


def copy(source: Path, target: Path) -> tuple[str, int]:
    """Copy a file, and return the SHA-256 and the size of what was copied.

    Raises:
        OSError: If that fails.
    """
    content, size = hashlib.sha256(), 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with open(source, "rb") as file, open(open_file(target, flags), "wb") as copied:
        while piece := file.read(CHUNK_BYTES):
            content.update(piece)
            size += len(piece)
            copied.write(piece)
    return content.hexdigest(), size


def remove(folder: Path) -> None:
    """Remove the folder of one artifact: the files that we put there, and nothing else that may lie there."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name == ABOUT or _NUMBER.fullmatch(path.name):
                path.unlink()
        folder.rmdir()


def clean(root: Path) -> list[str]:
    """Remove what processes that are gone left waiting; return what it was, in words."""
    found = []
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if not _FOLDER.fullmatch(folder.name):
            continue
        owner = folder / OWNER
        try:
            lock = locks.acquire(owner, create=False)
        except OSError:  # it is just being made, or removed
            continue
        if lock is None:
            continue  # its process lives
        try:
            for one in sorted(folder.iterdir()):
                if _NUMBER.fullmatch(one.name):
                    with contextlib.suppress(OSError, ValueError):
                        found.append((one / ABOUT).read_text(encoding="utf-8"))
                    remove(one)
            owner.unlink()
            with contextlib.suppress(OSError):
                folder.rmdir()
        finally:
            locks.release(lock, owner)
    return found
