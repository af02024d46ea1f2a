"""A storage of files on another machine, over SSH."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rewind_logger.errors import TransientStorageError
from rewind_logger.storage.folders import FolderStorage
from rewind_logger.storage.remote import generation

WAIT_S = 60.0
"""For an answer, in seconds; paramiko would wait for ever."""

KEEP_ALIVE_S = 30
"""Routers forget connections on which nothing is sent."""

AT_ONCE = 32 << 10
"""Bytes that an SFTP server sends in one answer, at least."""


class SftpStorage(FolderStorage):
    """Files on a server that speaks SFTP.

    There is one session, with one request at a time: paramiko gives one thread the answer that another waits for. A
    session that broke is begun anew by the next request.

    `create` renames a finished file to a name that must be free. OpenSSH does that such that one of several callers
    wins; the protocol does not ask it of every server, so nothing is promised.
    """

    suffix_ranges = True
    conditional = False

    def __init__(self, url: str, storage_options: Mapping[str, Any] | None = None) -> None:
        super().__init__(url, storage_options)
        self._locks: dict[int, threading.RLock] = {}

    def _new_filesystem(self, url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
        """Begin a session."""
        waits = {"timeout": WAIT_S, "banner_timeout": WAIT_S, "auth_timeout": WAIT_S}
        filesystem, root = super()._new_filesystem(url, {**waits, **options})
        filesystem.ftp.get_channel().settimeout(WAIT_S)
        filesystem.client.get_transport().set_keepalive(KEEP_ALIVE_S)
        return filesystem, root

    @contextmanager
    def _translated(self, action: str, path: str) -> Iterator[None]:
        """Have the session for oneself; raise the package's errors, and forget a session that broke."""
        with self._locks.setdefault(generation(), threading.RLock()):
            try:
                with super()._translated(action, path):
                    try:
                        yield
                    except (OSError, EOFError) as error:
                        if self._is_broken():  # paramiko says so in many ways.
                            raise ConnectionError(f"the SSH session ended ({error!r})") from error
                        raise
            except TransientStorageError:
                opened = self._opened.pop(generation(), None)
                if opened is not None:
                    opened[0].client.close()
                raise

    def _is_broken(self) -> bool:
        opened = self._opened.get(generation())
        transport = opened and opened[0].client.get_transport()
        return opened is not None and (transport is None or not transport.is_active())

    def _cat(self, filesystem: Any, key: str, start: int, stop: int | None) -> bytes:
        """Return a part of a file; large ones in many requests, all of which are under way at a time."""
        if self._type(filesystem, key) != "file":
            raise FileNotFoundError(key)
        with filesystem.ftp.open(key, "rb") as file:
            size = int(file.stat().st_size)
            start = max(0, size + start) if start < 0 else start
            stop = size if stop is None else min(stop, size)
            if start >= stop:
                return b""
            if stop - start > AT_ONCE:
                return b"".join(file.readv([(start, stop - start)]))
            file.seek(start)
            return bytes(file.read(stop - start))

    def _write(self, filesystem: Any, name: str, data: bytes) -> None:
        """Write a file in a folder that there is, without waiting for the answer to each part of it."""
        filesystem.ftp.putfo(io.BytesIO(data), name)

    def _write_file(self, filesystem: Any, name: str, source: Path) -> None:
        """Write the content of a file."""
        filesystem.ftp.put(str(source), name)

    def _rename(self, filesystem: Any, source: str, target: str, *, replace: bool) -> bool:
        """Rename a file; return whether it has the name."""
        if replace:
            filesystem.ftp.posix_rename(source, target)
            return True
        try:
            filesystem.ftp.rename(source, target)
        except OSError:
            if self._type(filesystem, target) is None:
                raise
            return False
        return True

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_locks": {}}
