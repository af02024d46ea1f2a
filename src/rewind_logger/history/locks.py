"""Locks on files of this machine, which the operating system takes back when a process dies."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from pathlib import Path

from rewind_logger.storage.descriptor import open_file

_held: set[str] = set()
_guard = threading.Lock()


def _enter_child() -> None:
    """Note in a forked child that it holds no lock: it does not inherit its parent's, and may outlive it."""
    global _guard
    _guard = threading.Lock()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_enter_child)


def acquire(path: Path, *, create: bool = True) -> int | None:
    """Lock a file and return its descriptor, or None if it is locked, by this process or another.

    The lock is a POSIX record lock and not `flock`: a forked child (a data loader's worker) does not hold it on when
    its parent is killed. Such locks do not exclude a process from itself, and closing any descriptor of the file gives
    them up: hence the set beside them, which is asked before the file is opened.

    Raises:
        OSError: If the file cannot be opened, or its file system knows no locks.
    """
    name = os.path.realpath(path)
    with _guard:
        if name in _held:
            return None
        fd = open_file(path, os.O_RDWR | (os.O_CREAT if create else 0))
        try:
            locked = _try_lock(fd)
        except OSError:
            os.close(fd)
            raise
        if not locked:
            os.close(fd)
            return None
        _held.add(name)
        return fd


def create(path: Path, content: bytes = b"") -> int:
    """Make a file that appears with its content and locked, and return its descriptor.

    Whoever saw it before it was locked would think that its owner is gone, and take it.

    Raises:
        OSError: If it cannot be made or locked.
    """
    unseen = path.with_name(f"{path.name}.new")
    fd = acquire(unseen)
    assert fd is not None  # nobody else knows the name
    moved(unseen, path)
    try:
        if os.write(fd, content) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        unseen.rename(path)
    except OSError:
        release(fd, path)
        raise
    return fd


def look(path: Path) -> tuple[bool, bytes] | None:
    """Tell whether somebody holds a file's lock, and what is in a file that nobody holds.

    The lock is not taken even for a moment: whoever opens a run then would think that its writer lives. None where the
    file cannot be read, or the system does not tell.
    """
    with _guard:
        if os.path.realpath(path) in _held:
            return True, b""
        try:
            fd = open_file(path, os.O_RDONLY)
        except OSError:
            return None
        try:
            locked = _is_locked(fd)
            return None if locked is None else (locked, b"" if locked else os.read(fd, 1 << 16))
        except OSError:
            return None
        finally:
            os.close(fd)


def read(path: Path) -> bytes | None:
    """Return what is in a file; None if this process has it locked, and would give that up by closing it.

    Raises:
        OSError: If it cannot be read.
    """
    with _guard:
        return None if os.path.realpath(path) in _held else path.read_bytes()


def moved(path: Path, target: Path) -> None:
    """Note that a locked file has another name now."""
    with _guard:
        _held.discard(os.path.realpath(path))
        _held.add(os.path.realpath(target))


def release(fd: int, path: Path) -> None:
    """Unlock what `acquire` locked."""
    with _guard:
        _held.discard(os.path.realpath(path))
        with contextlib.suppress(OSError):
            os.close(fd)


_TAKEN = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)

if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> bool:
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
        return True

    def _is_locked(fd: int) -> bool | None:
        return None
else:
    import fcntl
    import struct

    # struct flock, as far as this asks for it: type, whence, start, length and owner.
    _FLOCK = {"linux": ("hhqqi4x", 0), "darwin": ("qqihh", 3)}

    def _try_lock(fd: int) -> bool:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
        return True

    def _is_locked(fd: int) -> bool | None:
        layout, type_at = _FLOCK.get(sys.platform, ("", 0))
        if not layout:
            return None
        asked = [0, 0, 0, 0, 0]
        asked[type_at] = fcntl.F_WRLCK
        try:
            answer = struct.unpack(layout, fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack(layout, *asked)))
        except OSError:
            return None
        return bool(answer[type_at] != fcntl.F_UNLCK)
