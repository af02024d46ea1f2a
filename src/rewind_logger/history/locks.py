"""Locks on files of this machine, which the operating system takes back when a process dies."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

_held: set[str] = set()
_guard = threading.Lock()


def acquire(path: Path, *, create: bool = True) -> int | None:
    """Lock a file and return its descriptor, or None if it is locked, by this process or another.

    The lock is a POSIX record lock and not `flock`: a forked child (a data loader's worker) does not hold it on when
    its parent is killed. Such locks do not exclude a process from itself, hence the set beside them.

    Raises:
        OSError: If the file cannot be opened.
    """
    name = os.fspath(path.absolute())
    with _guard:
        if name in _held:
            return None
        fd = os.open(path, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
        if not _try_lock(fd):
            os.close(fd)
            return None
        _held.add(name)
        return fd


def moved(path: Path, target: Path) -> None:
    """Note that a locked file has another name now."""
    with _guard:
        _held.discard(os.fspath(path.absolute()))
        _held.add(os.fspath(target.absolute()))


def release(fd: int, path: Path) -> None:
    """Unlock what `acquire` locked."""
    with _guard:
        _held.discard(os.fspath(path.absolute()))
        with contextlib.suppress(OSError):
            os.close(fd)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> bool:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True
