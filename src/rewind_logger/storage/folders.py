"""A storage behind a file system that has folders, such as SFTP, SMB or WebDAV."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rewind_logger.storage import hidden
from rewind_logger.storage.base import Unfinished
from rewind_logger.storage.remote import FsspecStorage, described


class FolderStorage(FsspecStorage):
    """Files in folders, which are made as they are needed.

    A file is written under a hidden name and then renamed, if the backend can do that, so that it appears whole or not
    at all. Few of them can be asked to create a file only if there is none: unless the backend brings a `pipe_file` of
    its own, `create` looks and then writes.
    """

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        from fsspec import AbstractFileSystem, get_filesystem_class

        super().__init__(url, storage_options)
        backend = get_filesystem_class(url.partition("://")[0].lower())
        self._renames = backend.mv is not AbstractFileSystem.mv  # else it copies and deletes
        if backend.pipe_file is AbstractFileSystem.pipe_file:
            self.conditional = False

    def create(self, path: str, data: bytes) -> bool:
        """See `Storage.create`."""
        filesystem, key = self._locate(path)
        if self.conditional is None:
            with self._translated("create", path):
                self._make_folder(filesystem, _folder(key))
            return super().create(path, data)
        with self._translated("create", path):
            if self._type(filesystem, key) is not None:
                return False
            return self._publish(filesystem, key, lambda name: self._write(filesystem, name, data), replace=False)

    def put(self, path: str, data: bytes) -> None:
        """See `Storage.put`."""
        filesystem, key = self._locate(path)
        with self._translated("write", path):
            self._publish(filesystem, key, lambda name: self._write(filesystem, name, data))

    def unfinished(self, skip: Collection[str] = ()) -> Iterator[Unfinished]:
        """See `Storage.unfinished`."""
        folders = [""]
        while folders:
            folder = folders.pop()
            filesystem, key = self._locate(folder)
            with self._translated("list", folder):
                found = list(self._entries(filesystem, key))
            for info in found:
                name = info["name"].rstrip("/").rpartition("/")[2]
                path = f"{folder}/{name}" if folder else name
                if info["type"] == "directory":
                    folders.extend([path] * (not name.startswith(".") and name not in skip))
                elif hidden.is_hidden(name):
                    line = described(name, info)
                    yield Unfinished(path, line.size, line.modified)

    def discard(self, found: Unfinished) -> None:
        """See `Storage.discard`."""
        folder, _, name = found.name.rpartition("/")
        if hidden.is_hidden(name):
            filesystem, key = self._locate(folder)
            with suppress(FileNotFoundError), self._translated("delete", folder):
                filesystem.rm_file(f"{key}/{name}")

    def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        filesystem, key = self._locate(path)
        with suppress(FileNotFoundError), self._translated("delete", path):
            if self._type(filesystem, key) == "file":
                filesystem.rm_file(key)

    def _new_filesystem(self, url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        """Open the file system; return it with the name under which it knows `url`."""
        from fsspec.core import url_to_fs

        # Not by an option, which some of them pass on to a client that does not know it.
        filesystem, root = url_to_fs(url, **{**options, "skip_instance_cache": True})
        filesystem.dircache.use_listings_cache = False
        return filesystem, root.rstrip("/")

    def _send(self, filesystem: Any, source: Path, key: str, size: int) -> None:
        """Write the content of a file of `size` bytes."""
        self._publish(filesystem, key, lambda name: self._write_file(filesystem, name, source))

    def _cat(self, filesystem: Any, key: str, start: int, stop: int | None) -> bytes:
        """Return a part of a file."""
        try:
            return super()._cat(filesystem, key, start, stop)
        except OSError:
            if self._type(filesystem, key) != "file":
                raise FileNotFoundError(key) from None
            raise

    def _info(self, filesystem: Any, key: str) -> Mapping[str, Any]:
        """Return what the backend says of a file."""
        try:
            return super()._info(filesystem, key)
        except NotADirectoryError:  # Above it is a file.
            raise FileNotFoundError(key) from None

    def _entries(self, filesystem: Any, key: str) -> Iterable[Mapping[str, Any]]:
        """Return what the backend says of everything in a folder."""
        try:
            return super()._entries(filesystem, key)
        except OSError:
            if self._type(filesystem, key) == "directory":
                raise
            return ()

    def _write(self, filesystem: Any, name: str, data: bytes) -> None:
        """Write a file in a folder that there is."""
        filesystem.pipe_file(name, data)

    def _write_file(self, filesystem: Any, name: str, source: Path) -> None:
        """Write the content of a file."""
        filesystem.put_file(str(source), name)

    def _rename(self, filesystem: Any, source: str, target: str, *, replace: bool) -> bool:
        """Rename a file; return whether it has the name."""
        filesystem.mv(source, target)
        return True

    def _type(self, filesystem: Any, key: str) -> str | None:
        """Return "file" or "directory", None where there is nothing."""
        # Not `exists`, `isfile` and such, which take a broken connection for a missing file.
        try:
            return str(filesystem.info(key)["type"])
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _publish(self, filesystem: Any, key: str, write: Callable[[str], object], *, replace: bool = True) -> bool:
        """Let `write` write under a hidden name, then give the file its own; return whether it has it."""
        name = f"{_folder(key)}/{hidden.new_name()}" if self._renames else key
        try:
            write(name)
        except FileNotFoundError:
            self._make_folder(filesystem, _folder(key))
            write(name)
        if name == key:
            return True
        named = False
        try:
            named = self._rename(filesystem, name, key, replace=replace)
        finally:
            if not named:
                with suppress(OSError):
                    filesystem.rm_file(name)
        return named

    def _make_folder(self, filesystem: Any, folder: str) -> None:
        """Make a folder and those above it."""
        for _ in folder.split("/"):
            try:
                filesystem.makedirs(folder, exist_ok=True)
                return
            except OSError:  # Another writer may have made one of them at this moment.
                if self._type(filesystem, folder) == "directory":
                    return
        filesystem.makedirs(folder, exist_ok=True)


def _folder(key: str) -> str:
    """Return the folder of a file."""
    return key.rpartition("/")[0]
