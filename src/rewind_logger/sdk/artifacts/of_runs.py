"""What a run has to do with artifacts: for one that is open, and for one that is read."""

from __future__ import annotations

import os
import re
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rewind_logger.errors import ConfigError
from rewind_logger.sdk.artifacts import lookup
from rewind_logger.sdk.artifacts.artifact import Artifact
from rewind_logger.sdk.artifacts.draft import check_path
from rewind_logger.sdk.artifacts.log import ArtifactLog
from rewind_logger.sdk.artifacts.rows import Version, Versions
from rewind_logger.storage.base import Storage

if TYPE_CHECKING:
    from rewind_logger.history.view import View


class LogsArtifacts:
    """The artifacts of a run that is open."""

    _artifacts: ArtifactLog
    _storage: Storage

    def log_artifact(
        self,
        artifact_or_path: Artifact | str | os.PathLike[str],
        name: str | None = None,
        type: str | None = None,
        aliases: Sequence[str] | str | None = None,
    ) -> Artifact:
        """Log an artifact: it becomes the next version of its name, v0, v1, …, and "latest".

        It belongs to the step at which the run is, that of the next `log`, and is kept by what keeps that step.
        Its content is what it is at this call. In a store on disk or in memory it is when this returns; to a remote one
        a thread uploads it, and it is there after `artifact.wait()`, or at the end of the run. With the content of the
        newest version it makes no new one; only aliases are moved there.

        Args:
            artifact_or_path: An `Artifact`, or a file, folder or URL to make one of.
            name: What that is called; `run-ID-FILENAME`, if not given.
            type: What kind of thing that is; "unspecified", if not given.
            aliases: Names for this version, which earlier versions lose. "latest" comes by itself.

        Returns:
            The artifact.

        Raises:
            ConfigError: If it cannot be logged, a file is gone, or the run is finished.
            StorageError: If a store on disk fails, or a file changes while it is read.
        """
        if self._is_closed():
            return artifact_or_path if isinstance(artifact_or_path, Artifact) else Artifact("nothing", "unspecified")
        if isinstance(artifact_or_path, Artifact):
            if name is not None or type is not None:
                raise ConfigError(f"{artifact_or_path!r} has its name and type: leave out name= and type=.")
            return self._artifacts.log(artifact_or_path, aliases)
        return self._artifacts.log(of_path(self._run_id(), check_path(artifact_or_path), name, type), aliases)

    def use_artifact(
        self, artifact_or_name: Artifact | str, type: str | None = None, aliases: Sequence[str] | str | None = None
    ) -> Artifact:
        """Find an artifact, and note that this run uses it.

        Args:
            artifact_or_name: `name:v3`, `name:alias` or `name` (the latest) in the history of this run, or, if there
                is no artifact of that name, in the other runs of the project: the newest one by wall time that has the
                alias. `run/name:v3`, `run@1/name:v3` or `project/run@1?_step=500/name:best` names the run, a revision
                of it, or a step; `project/name:best` another project. Or an `Artifact` that was read from any store;
                one that is not logged yet is logged.
            type: Its type, which is checked.
            aliases: Aliases to add to it, if it is of this run.

        Returns:
            The artifact; `download()` brings its files here.

        Raises:
            ArtifactNotFoundError: If there is none such, or several runs have another `v3`.
            RunNotFoundError: If there is no such run or revision.
            ConfigError: If its type is another, or the run is finished.
            StorageError: If the store fails.
        """
        self._is_closed()
        return self._artifacts.use(artifact_or_name, type, aliases)

    @property
    def used_artifacts(self) -> list[Artifact]:
        """The artifacts that the run used, up to here."""
        return used(self._storage, self._artifacts.rows.versions())

    @abstractmethod
    def _is_closed(self) -> bool:
        """Raise if the run is finished; return whether it is the parent's of this process."""

    @abstractmethod
    def _run_id(self) -> str:
        """Return the run's id."""


class HasArtifacts:
    """The artifacts of a run that is read."""

    _storage: Storage

    @property
    def artifacts(self) -> list[Artifact]:
        """Every version of every artifact that was logged up to here, in the order in which they were logged."""
        versions = lookup.visible(self._storage, self._view())
        return [Artifact._stored(self._storage, version, versions.aliases(version)) for version in versions.logged]

    def artifact(self, name: str) -> Artifact:
        """Return an artifact: `name:v3`, `name:alias`, or `name` for the latest.

        Raises:
            ArtifactNotFoundError: If there is none such up to here; the message names those that there are.
        """
        _, bare, which = lookup.split(lookup.check_text(name))
        versions = lookup.visible(self._storage, self._view())
        version = lookup.find_in(versions, bare, which, str(self))
        return Artifact._stored(self._storage, version, versions.aliases(version))

    @property
    def used_artifacts(self) -> list[Artifact]:
        """The artifacts that were used up to here."""
        return used(self._storage, lookup.visible(self._storage, self._view()))

    @abstractmethod
    def _view(self) -> View:
        """Return what is visible."""


def used(storage: Storage, versions: Versions) -> list[Artifact]:
    """Return the artifacts that a history says were used."""

    def one(version: Version) -> Artifact:
        if version.store is not None and version.store != storage.url:
            from rewind_logger.storage import open_storage

            return Artifact._stored(open_storage(version.store), version, [])
        return Artifact._stored(storage, version, versions.aliases(version) if _is_own(version, versions) else [])

    return [one(version) for version in versions.used]


def _is_own(version: Version, versions: Versions) -> bool:
    """Whether a version that was used is one of this very history."""
    own = versions.by_name.get(version.name, [])
    return version.number < len(own) and own[version.number].manifest == version.manifest


def of_path(run: str, path: str, name: str | None, type: str | None) -> Artifact:
    """Return an artifact of a file, a folder or a URL.

    Raises:
        ConfigError: If there is nothing there.
    """
    last = path.rstrip("/").rpartition("/")[2] if "://" in path else Path(path).absolute().name
    artifact = Artifact(name or re.sub(r"[^A-Za-z0-9_.-]", "", f"run-{run}-{last}")[:128], type or "unspecified")
    if "://" in path:
        artifact.add_reference(path)
    elif Path(path).is_dir():
        artifact.add_dir(path)
    else:
        artifact.add_file(path)
    return artifact
