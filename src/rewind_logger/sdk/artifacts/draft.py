"""The files of an artifact that is not logged yet."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from rewind_logger.errors import ConfigError
from rewind_logger.format import manifest
from rewind_logger.format.manifest import Entry
from rewind_logger.format.wording import kind_of
from rewind_logger.history import blobs
from rewind_logger.storage.external import check_url, describe, local_path
from rewind_logger.storage.redact import lasting_url, public_url

LOG = logging.getLogger("rewind_logger")

Policy = Literal["mutable", "immutable"]


@dataclass(frozen=True, slots=True)
class File:
    """A file on this machine that is to be stored."""

    path: Path
    policy: Policy
    """Whether it may change as soon as the artifact was logged."""


class _Folder:
    """A folder that goes when nobody knows it any more, or with the process."""

    def __init__(self) -> None:
        # Not a `TemporaryDirectory`, which warns when it goes by itself.
        self.path = Path(tempfile.mkdtemp(prefix="rewind-logger-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(slots=True)
class Draft:
    """What an artifact is to hold, by name."""

    files: dict[str, File] = field(default_factory=dict)
    references: dict[str, Entry] = field(default_factory=dict)
    _folder: _Folder | None = None

    def add_file(self, path: Path, name: str, policy: Policy) -> None:
        """Add a file; one of that name is replaced.

        Raises:
            ConfigError: If there is no such file, or its name cannot be one.
        """
        if policy not in ("mutable", "immutable"):
            raise ConfigError(f"policy={policy!r}: use 'mutable' or 'immutable'.")
        if not path.is_file():
            what = "is a folder: use add_dir" if path.is_dir() else "is no file"
            raise ConfigError(f"{path} {what}.")
        self.files[self._check(name)] = File(path, policy)
        self.references.pop(name, None)

    def add_dir(self, path: Path, name: str | None, policy: Policy) -> None:
        """Add all files below a folder; links to files are followed, links to folders are not.

        Raises:
            ConfigError: If there is no such folder, or a name in it cannot be that of a file of an artifact.
        """
        if not path.is_dir():
            raise ConfigError(f"{path} is no folder.")
        prefix = "" if name in (None, "", ".") else f"{name}/"
        for folder, _, found in os.walk(path):
            for file in sorted(found):
                inner = Path(folder, file)
                if inner.is_file():  # no socket, no pipe, no link to nothing
                    self.add_file(inner, prefix + inner.relative_to(path).as_posix(), policy)

    def add_reference(self, url: str, name: str | None, checksum: str | None, options: Any) -> None:
        """Add a URL.

        Raises:
            ConfigError: If it is none that can be referred to, or its name cannot be one.
        """
        path = local_path(check_url(url))
        if path is not None and path.is_dir():
            raise ConfigError(f"{url} is a folder: refer to each of its files, or store them with add_dir.")
        size, found = (None, checksum) if checksum else describe(url, options)
        chosen = self._check(name if name is not None else public_url(url).rpartition("/")[2])
        kept = lasting_url(url)
        if kept != url:
            LOG.warning("The reference %s is kept without the credentials of its URL: a download needs others.", kept)
        self.references[chosen] = Entry(size=size, reference=kept, checksum=found)
        self.files.pop(chosen, None)

    @contextmanager
    def new_file(self, name: str, mode: str, encoding: str | None) -> Iterator[IO[Any]]:
        """Give a new file to write to, which is added when it is closed.

        Raises:
            ConfigError: If there is one of that name, or that cannot be one.
        """
        self._check(name)
        if "x" in mode and (name in self.files or name in self.references):
            raise ConfigError(f"The artifact has a file {name!r}: use another name, or mode='w'.")
        if self._folder is None:
            self._folder = _Folder()
        path = self._folder.path / f"{len(os.listdir(self._folder.path)):09d}"
        with open(path, mode if "b" in mode else mode.replace("t", ""), encoding=encoding) as file:
            yield file
        self.add_file(path, name, "immutable")  # nobody else knows it

    def measure(self) -> dict[str, Entry]:
        """Return what it holds at this moment; each file is read once.

        Raises:
            ConfigError: If a file is gone.
        """
        entries = dict(self.references)
        for name, file in self.files.items():
            try:
                sha256, size = blobs.measure(file.path)
            except FileNotFoundError:
                raise gone(file.path, name) from None
            entries[name] = Entry(sha256, size)
        return entries

    def check(self) -> None:
        """Refuse names that would meet on some file system.

        Raises:
            ConfigError: If there are such.
        """
        if (wrong := manifest.what_is_wrong([*self.files, *self.references])) is not None:
            raise ConfigError(f"The artifact cannot be logged: {wrong}. Give add_file or add_dir other names.")

    @staticmethod
    def _check(name: str) -> str:
        if (wrong := manifest.what_is_wrong_with(name)) is not None:
            raise ConfigError(f"The file cannot be added: {wrong}. Give it another name.")
        return name


def check_path(path: str | os.PathLike[str]) -> str:
    """Return the path of a file or a folder, and refuse an empty one, which would be the current folder.

    Raises:
        ConfigError: If it is empty, or no path.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise ConfigError(f"{path!r} is {kind_of(path)}: give the path of a file or a folder.")
    text = os.fspath(path)
    if not text:
        raise ConfigError(
            "The path is empty: give that of a file or a folder, '.' for the current one. (A ModelCheckpoint's"
            " best_model_path is empty until it has saved something.)"
        )
    return text


def gone(path: Path, name: str) -> ConfigError:
    """Say that a file is no longer there."""
    return ConfigError(
        f"{path}, which was added as {name!r}, is gone: what a file holds is taken when the artifact is logged."
    )
