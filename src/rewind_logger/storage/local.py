"""A storage in a folder of this machine, or of a network file system that is mounted on it."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from rewind_logger.errors import StorageError
from rewind_logger.storage import hidden, within
from rewind_logger.storage.base import (
    CHUNK_BYTES,
    Listing,
    ObjectInfo,
    Storage,
    Unfinished,
    check_content,
    check_path,
)
from rewind_logger.storage.descriptor import open_file
from rewind_logger.storage.translate import from_os

_LINK_REFUSED = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK})
"""What file systems without hard links answer: FAT, exFAT, some of FUSE and SMB, Android's shared storage."""

_FOLDER_SYNC_REFUSED = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EBADF})
"""What file systems answer that cannot sync a folder, and have no need to, or no way."""

_TRIES = 5
"""How often a folder is made for a file that is about to be written there."""


class LocalStorage(Storage):
    """Objects as files below a folder, which is made when the first one is written.

    A file is written under a hidden name and synced, and then given its name; the folder is synced after that. So it
    is seen whole or not at all, and once a method has returned it outlives a loss of power.

    `create` gives the name by a hard link, which fails if there is one. Where links are refused it reserves the name by
    an empty file (`O_EXCL`), which the written one then replaces: still one winner and never half an object, but for
    a moment an empty one is seen, and it stays if the machine dies in that moment.

    Args:
        folder: Where the store is; relative to the present working directory.
        link: Gives a file a second name, as `os.link`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     storage = LocalStorage(folder)
        ...     storage.create("a/b", b"first"), storage.create("a/b", b"second"), storage.read("a/b")
        (True, False, b'first')
    """

    conditional = True
    cheap_touch = True

    def __init__(
        self, folder: str | os.PathLike[str], *, link: Callable[[str | Path, str | Path], object] = os.link
    ) -> None:
        self.local_path: Path = Path(os.path.abspath(folder))
        self.url = str(self.local_path)
        self._link = link

    def create(self, path: str, data: bytes) -> bool:
        """See `Storage.create`."""
        target = self._locate(path)
        with _translated("create", target):
            if target.exists():  # Spares the losers' writes; the link decides.
                return False
            temporary = _write_temporary(target, [data])
            try:
                created = self._give_name(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
            if created:
                _sync_folder(target.parent)
            return created

    def put(self, path: str, data: bytes) -> None:
        """See `Storage.put`."""
        self._replace(path, [data])

    def put_file(self, path: str, source: Path, *, sha256: str | None = None) -> None:
        """See `Storage.put_file`."""
        with open(source, "rb") as file:
            self._replace(path, _checked(file, source, sha256))

    def _replace(self, path: str, pieces: Iterable[bytes]) -> None:
        """Write an object from its pieces."""
        target = self._locate(path)
        with _translated("write", target):
            temporary = _write_temporary(target, pieces)
            try:
                os.replace(temporary, target)
            except BaseException:
                temporary.unlink()
                raise
            _sync_folder(target.parent)

    def read(self, path: str) -> bytes:
        """See `Storage.read`."""
        target = self._locate(path)
        with _translated("read", target), open(target, "rb") as file:
            return file.read()

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """See `Storage.read_range`."""
        target = self._locate(path)
        with _translated("read", target), open(target, "rb") as file:
            if start < 0:
                size = file.seek(0, os.SEEK_END)
                start, stop = max(0, size + start), size
            file.seek(start)
            return file.read(max(0, stop - start))

    def size(self, path: str) -> int:
        """See `Storage.size`."""
        target = self._locate(path)
        with _translated("look up", target):
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
            return target.stat().st_size

    def info(self, path: str) -> ObjectInfo:
        """See `Storage.info`."""
        target = self._locate(path)
        with _translated("look up", target):
            found = target.stat()
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
            return ObjectInfo(target.name, found.st_size, found.st_mtime)

    def touch(self, path: str) -> bool:
        """See `Storage.touch`."""
        target = self._locate(path)
        with _translated("look up", target):
            try:
                os.utime(target)
            except PermissionError:  # another user's: to write it anew may be allowed nevertheless
                return False
        return True

    def unfinished(self, skip: Collection[str] = ()) -> Iterator[Unfinished]:
        """See `Storage.unfinished`."""
        for folder, folders, files in os.walk(self.local_path):
            folders[:] = [name for name in folders if name not in skip]
            for name in filter(hidden.is_hidden, files):
                path = Path(folder, name)
                with suppress(FileNotFoundError):
                    found = path.stat()
                    yield Unfinished(str(path.relative_to(self.local_path)), found.st_size, found.st_mtime)

    def discard(self, found: Unfinished) -> None:
        """See `Storage.discard`."""
        target = self.local_path / found.name
        if hidden.is_hidden(target.name):
            with suppress(FileNotFoundError), _translated("delete", target):
                target.unlink()

    def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        target = self._locate(path)
        with suppress(FileNotFoundError), _translated("delete", target):
            if not target.is_dir():
                target.unlink()
                self._remove_empty(target.parent)

    def list(self, folder: str) -> Listing:
        """See `Storage.list`."""
        target = self._locate(folder) if folder else self.local_path
        try:
            with _translated("list", target), os.scandir(target) as entries:
                lines = [line for entry in entries if (line := _line(entry)) is not None]
        except FileNotFoundError:
            return []
        return sorted(lines, key=lambda line: line.name)

    def _remove_empty(self, folder: Path) -> None:
        """Remove a folder and those above it as far as they are empty, but not the store itself."""
        with suppress(OSError):  # there is something in it, or somebody else was first
            while folder != self.local_path:
                folder.rmdir()
                folder = folder.parent

    def _locate(self, path: str) -> Path:
        """Return the file of an object."""
        return within.locate(self.local_path, check_path(path))

    def _give_name(self, temporary: Path, target: Path) -> bool:
        """Name a written file, unless the name is taken; return whether it was free."""
        try:
            self._link(temporary, target)
        except FileExistsError:
            # A file server may have linked it and lost its reply; the client then tries again and is told that the
            # name is taken. The file having two names is the way to tell that open(2) gives.
            return temporary.stat().st_nlink == 2
        except OSError as error:
            if error.errno not in _LINK_REFUSED:
                raise
            try:
                os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return False
            try:
                os.replace(temporary, target)
            except BaseException:
                target.unlink()
                raise
        return True


def _checked(file: BinaryIO, source: Path, sha256: str | None) -> Iterator[bytes]:
    """Yield the content of a file, and fail after its last piece if it was not what it is known to be."""
    content = hashlib.sha256()
    while piece := file.read(CHUNK_BYTES):
        if sha256 is not None:
            content.update(piece)
        yield piece
    check_content(source, sha256, content.hexdigest() if sha256 is not None else None)


def _write_temporary(target: Path, pieces: Iterable[bytes]) -> Path:
    """Write and sync a file of a hidden name beside `target`, making the folder if need be."""
    # Not by `tempfile`, whose files only their owner may read.
    temporary = target.with_name(hidden.new_name())
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    for _ in range(_TRIES):
        with suppress(FileNotFoundError):
            descriptor = open_file(temporary, flags)
            break
        _make_folder(target.parent)  # which may be removed again at once, for it is empty
    else:
        descriptor = open_file(temporary, flags)
    try:
        try:
            for piece in pieces:
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except BaseException:
        temporary.unlink()
        raise
    return temporary


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it, synced, as a synced file in a folder that is lost is lost as well."""
    for attempt in range(_TRIES):
        try:
            os.mkdir(folder)
        except FileExistsError:
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder)) from None
            return
        except FileNotFoundError:
            if attempt + 1 == _TRIES:  # nothing can be made in the one above, as in /proc
                raise
            _make_folder(folder.parent)  # and again: it is empty, and may be removed at this very moment
        else:
            _sync_folder(folder.parent)
            return


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder outlive a loss of power."""
    if os.name == "nt":  # Windows opens no folders.
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _FOLDER_SYNC_REFUSED:
            raise
    finally:
        os.close(descriptor)


def _line(entry: os.DirEntry[str]) -> ObjectInfo | None:
    """Describe an entry of a folder, if it is one to list and still there."""
    if entry.name.startswith("."):
        return None
    try:
        if entry.is_dir():
            return ObjectInfo(entry.name, None)
        found = entry.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself
            return None
        raise
    return ObjectInfo(entry.name, found.st_size, found.st_mtime) if stat.S_ISREG(found.st_mode) else None


@contextmanager
def _translated(action: str, target: Path) -> Iterator[None]:
    """Raise the package's errors in place of the operating system's."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        # Object stores know no folders: where one is, or above where a file is, there is no object.
        missing = isinstance(error, (FileNotFoundError, IsADirectoryError, NotADirectoryError))
        if missing and action not in ("create", "write"):
            raise FileNotFoundError(errno.ENOENT, "There is no such object", str(target)) from error
        raise from_os(error, action, str(target)) from error
