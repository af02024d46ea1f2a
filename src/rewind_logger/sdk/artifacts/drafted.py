"""Putting files into an artifact."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

from rewind_logger.errors import ConfigError
from rewind_logger.format.manifest import Entry
from rewind_logger.sdk.artifacts.draft import Draft, Policy, check_path
from rewind_logger.sdk.artifacts.entry import ArtifactEntry


class Drafted:
    """What can be done with an artifact until it is logged."""

    _draft: Draft

    def add_file(
        self, local_path: str | os.PathLike[str], name: str | None = None, policy: Policy = "mutable"
    ) -> ArtifactEntry:
        """Add a file. What it holds is taken when the artifact is logged.

        Args:
            local_path: The file.
            name: What it is called in the artifact, with `/` between folders; its own name, if not given.
            policy: "mutable": it may be changed as soon as the artifact was logged, for which a remote store takes a
                copy of it first. "immutable": it is neither changed nor removed before the artifact is in the store.

        Raises:
            ConfigError: If there is no such file, or the artifact is logged already.
        """
        path = Path(os.path.abspath(check_path(local_path)))
        name = path.name if name is None else name
        self._open_draft().add_file(path, name, policy)
        return ArtifactEntry(name, Entry(), str(path))

    def add_dir(self, local_path: str | os.PathLike[str], name: str | None = None, policy: Policy = "mutable") -> None:
        """Add all files below a folder.

        Args:
            local_path: The folder.
            name: The folder of the artifact that they come into; the artifact itself, if not given.
            policy: As for `add_file`.

        Raises:
            ConfigError: If there is no such folder, or the artifact is logged already.
        """
        self._open_draft().add_dir(Path(os.path.abspath(check_path(local_path))), name, policy)

    def add_reference(
        self,
        uri: str | os.PathLike[str],
        name: str | None = None,
        checksum: str | None = None,
        storage_options: Mapping[str, Any] | None = None,
    ) -> ArtifactEntry:
        """Add a file by its URL, without a copy.

        Args:
            uri: `s3://…`, `gs://…`, `az://…`, `http(s)://…` or `file://…`.
            name: What it is called in the artifact; the last part of the URL, if not given.
            checksum: What its content is known by, `sha256:…`, which a download then checks. If it is not given, a
                local file is read for it, and the size and ETag of an object in a bucket are asked for.
            storage_options: What fsspec's backend takes to ask for them.

        Raises:
            ConfigError: If it is no such URL, or the artifact is logged already.
        """
        url = os.fspath(uri)
        url = url if "://" in url else Path(os.path.abspath(url)).as_uri()
        draft = self._open_draft()
        draft.add_reference(url, name, checksum, storage_options)
        name = next(reversed(draft.references))
        return ArtifactEntry(name, draft.references[name])

    def new_file(self, name: str, mode: str = "x", encoding: str | None = None) -> AbstractContextManager[IO[Any]]:
        """Return a context that gives a new file to write to, and adds it at its end.

        Args:
            name: What it is called in the artifact.
            mode: As for `open`; "xb" for bytes.
            encoding: As for `open`.

        Raises:
            ConfigError: If there is one of that name, or the artifact is logged already.
        """
        return self._open_draft().new_file(name, mode, encoding)

    @abstractmethod
    def is_draft(self) -> bool:
        """Return whether it is not logged yet."""

    def _open_draft(self) -> Draft:
        if not self.is_draft():
            raise ConfigError(f"{self!r} is logged, and stays as it is: make a new Artifact for the next version.")
        return self._draft
