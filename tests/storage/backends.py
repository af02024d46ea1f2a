"""Backends for tests only."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Iterator
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


def refuse_links(source: object, target: object) -> None:
    """Be a file system without hard links."""
    raise OSError(errno.EPERM, "Operation not permitted")


class PlainFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """A file system that fsspec does not know by itself, whose creation is atomic."""

    protocol = "plain"
    store: dict[str, Any] = {}  # noqa: RUF012  (one for all instances, as in the class it is derived from)
    pseudo_dirs = [""]  # noqa: RUF012
    _creating = threading.Lock()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = MemoryFileSystem._strip_protocol(path.removeprefix(f"{cls.protocol}://"))
        return stripped

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        with self._creating:
            super().pipe_file(path, value, mode=mode, **kwargs)


class CarelessFileSystem(PlainFileSystem):
    """A file system that ignores the condition, as `obstore.fsspec` and some S3 servers do."""

    protocol = "careless"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        super().pipe_file(path, value)


class UnableFileSystem(PlainFileSystem):
    """A file system that says that it knows no conditions."""

    protocol = "unable"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if mode == "create":
            raise NotImplementedError("no conditional writes here")
        super().pipe_file(path, value)


@contextlib.contextmanager
def registered(filesystem: type[PlainFileSystem]) -> Iterator[None]:
    """Make a file system known to fsspec."""
    fsspec.register_implementation(filesystem.protocol, filesystem, clobber=True)
    yield
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]
