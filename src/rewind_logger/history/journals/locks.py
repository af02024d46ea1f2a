"""Locks on files of this machine, which the operating system takes back when a process dies."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import threading
from pathlib import Path

from rewind_logger.storage import within
from rewind_logger.storage.descriptor import open_file

_held: dict[str, int] = {}
"""By name the descriptors of the files that this process has locked."""

_guard = threading.RLock()  # re-entrant: a signal's handler may come into any of these


def _enter_child() -> None:
    """Hold no lock in a forked child: its parent's are its parent's, and it may outlive it."""
    global _guard
    _guard = threading.RLock()
    for fd in _held.values():
        with contextlib.suppress(OSError):
            os.close(fd)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_enter_child)


def acquire(path: Path, *, create: bool = True) -> int | None:
    """Lock a file and return its descriptor, or None if it is locked, by this process or another.

    Where the system has such, the lock is one of the open file and not of the process. The latter would be given up by
    whoever reads the file in this process and closes it again, such as a copy of the whole store; and somebody else
    would then take the journal that is being written for abandoned. A forked child (a data loader's worker) has the
    open file too, and closes it at once, so that it does not hold the lock on when its parent is killed. Neither kind
    of lock is asked whether this process has it: hence the names beside them.

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
        _held[name] = fd
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
        if not within.is_file(path):  # to open a pipe would wait for ever
            return None
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
    """Return what is in a file; None if this process has it locked, and might give that up by closing it.

    Raises:
        OSError: If it cannot be read.
    """
    with _guard:
        return None if os.path.realpath(path) in _held else path.read_bytes()


def moved(path: Path, target: Path) -> None:
    """Note that a locked file has another name now."""
    with _guard:
        fd = _held.pop(os.path.realpath(path), None)
        if fd is not None:
            _held[os.path.realpath(target)] = fd


def release(fd: int, path: Path) -> None:
    """Unlock what `acquire` locked."""
    with _guard:
        _held.pop(os.path.realpath(path), None)
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

    def _whole_file() -> bytes | None:
        """Return the words that ask for a lock on all of a file; None where they are not known."""
        layout, type_at = _FLOCK.get(sys.platform, ("", 0))
        asked = [0, 0, 0, 0, 0]
        asked[type_at] = fcntl.F_WRLCK
        return struct.pack(layout, *asked) if layout else None

    def _try_lock(fd: int) -> bool:
        try:
            _lock(fd)
        except OSError as error:
            if error.errno in _TAKEN:
                return False
            raise
        return True

    def _lock(fd: int) -> None:
        command, asked = getattr(fcntl, "F_OFD_SETLK", None), _whole_file()
        if command is not None and asked is not None:
            try:
                fcntl.fcntl(fd, command, asked)
                return
            except OSError as error:
                if error.errno in _TAKEN:
                    raise
        # An old kernel, or a file system that does not know them.
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _is_locked(fd: int) -> bool | None:
        asked = _whole_file()
        if asked is None:
            return None
        layout, type_at = _FLOCK[sys.platform]
        try:
            answer = struct.unpack(layout, fcntl.fcntl(fd, fcntl.F_GETLK, asked))
        except OSError:
            return None
        return bool(answer[type_at] != fcntl.F_UNLCK)
