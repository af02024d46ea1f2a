"""Artifacts: named, versioned sets of files, as an input or an output of runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rewind_logger.errors import ArtifactNotFoundError, ConfigError
from rewind_logger.format import manifest
from rewind_logger.format.manifest import Entry
from rewind_logger.history import blobs
from rewind_logger.sdk import told
from rewind_logger.sdk.artifacts import downloading
from rewind_logger.sdk.artifacts.draft import Draft, check_path
from rewind_logger.sdk.artifacts.drafted import Drafted
from rewind_logger.sdk.artifacts.entry import ArtifactEntry
from rewind_logger.sdk.artifacts.names import check_aliases, is_label, is_name, plain_metadata
from rewind_logger.sdk.artifacts.rows import Version
from rewind_logger.storage.base import Storage


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """What an artifact knows of itself once it is logged."""

    storage: Storage
    version: Callable[[], Version]
    aliases: Callable[[], list[str]]
    wait: Callable[[float | None], None]
    """Return when it is in the store, or raise."""
    stored: bool = True
    """False for one of a run that writes nothing."""
    realias: Callable[[list[str], list[str]], None] | None = None
    """Add and remove aliases; None where nothing can be written."""


class Artifact(Drafted):
    """A named set of files. `Run.log_artifact` makes it a version: v0, v1, …, counted within the history of the run.

    Args:
        name: Letters, digits, `_`, `-` and `.`; at most 128.
        type: What kind of thing it is, such as "model" or "dataset".
        description: A text about it.
        metadata: A dict that is kept with it, in the same way as a config.

    Raises:
        ConfigError: If it cannot be called so.

    Example:
        >>> import rewind_logger
        >>> run = rewind_logger.init(dir="memory://docs", project="artifacts", id="r1")
        >>> artifact = rewind_logger.Artifact("greeting", type="text")
        >>> with artifact.new_file("hello.txt") as file:
        ...     _ = file.write("Hello!")
        >>> run.log_artifact(artifact).version, run.use_artifact("greeting:latest").size
        ('v0', 6)
        >>> run.finish()
    """

    def __init__(
        self, name: str, type: str, description: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> None:
        if not is_name(name):
            raise ConfigError(
                f"The artifact {name!r} cannot be called so: use letters, digits, '_', '-' and '.', at most 128."
            )
        if not is_label(type):
            raise ConfigError(f"type={type!r}: say what kind of thing it is by a text without '/' and ':'.")
        self._name = name
        self._type = type
        self._description = description
        self._metadata: dict[str, Any] = plain_metadata(metadata)
        self._aliases: list[str] | None = None  # that were set, and are not saved yet
        self._draft = Draft()
        self._logged: Logged | None = None
        self._entries: dict[str, Entry] | None = None

    def __repr__(self) -> str:
        if self._logged is None:
            return f"<Artifact {self._name}, not logged>"
        try:
            return f"<Artifact {self._name}:{self.version}>"
        except ConfigError:
            return f"<Artifact {self._name}, being uploaded>"

    # What it is

    @property
    def name(self) -> str:
        """Its name, without a version."""
        return self._name

    @property
    def type(self) -> str:
        """What kind of thing it is."""
        return self._type

    @property
    def version(self) -> str:
        """Its version, such as "v3".

        Raises:
            ConfigError: If it is not logged, or still being uploaded.
        """
        return f"v{self._version().number}"

    @property
    def qualified_name(self) -> str:
        """A text by which any run of the store can use it, such as `digits/r1@2/model:v3`.

        Raises:
            ConfigError: If it is not logged, or still being uploaded.
        """
        version = self._version()
        run = "" if version.run is None else f"{version.run}{f'@{version.revision}' if version.revision else ''}/"
        return run + version.label

    @property
    def description(self) -> str | None:
        """A text about it. Can be set until it is logged."""
        return self._description

    @description.setter
    def description(self, description: str | None) -> None:
        self._open_draft()
        self._description = description

    @property
    def metadata(self) -> dict[str, Any]:
        """What is kept with it. Can be set until it is logged."""
        return self._metadata

    @metadata.setter
    def metadata(self, metadata: Mapping[str, Any]) -> None:
        self._open_draft()
        self._metadata = plain_metadata(metadata)

    @property
    def aliases(self) -> list[str]:
        """The names of this version besides its number; "latest" is always the newest. `save` keeps a change."""
        if self._aliases is None:
            self._aliases = [] if self._logged is None else self._logged.aliases()
        return self._aliases

    @aliases.setter
    def aliases(self, aliases: list[str]) -> None:
        self._aliases = check_aliases(aliases)

    @property
    def digest(self) -> str:
        """What its content is known by: the SHA-256 of its manifest."""
        if self._logged is not None:
            return self._version().manifest
        return blobs.digest_of(manifest.encode(self._draft.measure()))

    @property
    def size(self) -> int:
        """The bytes of all its files; references count as far as their size is known."""
        if self._logged is not None:
            return self._version().size
        files = sum(os.path.getsize(file.path) for file in self._draft.files.values())
        return files + sum(entry.size or 0 for entry in self._draft.references.values())

    @property
    def file_count(self) -> int:
        """How many files and references it has."""
        return len(self._draft.files) + len(self._draft.references) if self._logged is None else self._version().files

    @property
    def run(self) -> str | None:
        """The run that logged it, `project/id`; None if it was logged before that was open."""
        return self._version().run

    @property
    def revision(self) -> int | None:
        """The revision of the run that logged it."""
        return self._version().revision

    @property
    def step(self) -> int:
        """The training step at which it was logged."""
        return self._version().step

    @property
    def created(self) -> datetime:
        """When it was logged, in UTC."""
        return told.moment_of(self._version().time_ms)

    def is_draft(self) -> bool:
        """Whether it is not logged yet."""
        return self._logged is None

    # Keeping it

    def save(self) -> None:
        """Keep changes of the aliases of an artifact that was logged or used in a run that is open.

        They are recorded at the present step, and are undone by a rewind to before it.

        Raises:
            ConfigError: If it is not logged, or was only read.
        """
        if self._logged is None or self._logged.realias is None:
            raise ConfigError(f"{self!r} does not belong to an open run: nothing can be saved to it.")
        wanted, found = check_aliases(self.aliases), self._logged.aliases()
        self._logged.realias([a for a in wanted if a not in found], [a for a in found if a not in wanted])
        self._aliases = None

    def wait(self, timeout: float | None = None) -> Artifact:
        """Wait until it is in the store, and anyone can use it.

        Args:
            timeout: Seconds to wait at most; None: as long as it takes.

        Returns:
            The artifact itself.

        Raises:
            ConfigError: If it is not logged.
            StorageError: If it could not be stored (TransientStorageError: not within that time).
            FencedError: If another writer has taken the run over.
        """
        if self._logged is None:
            raise ConfigError(f"{self!r}: there is nothing to wait for. Log it with run.log_artifact(artifact).")
        self._logged.wait(timeout)
        return self

    # Reading one

    @property
    def manifest(self) -> Mapping[str, ArtifactEntry]:
        """Its files by name, sorted."""
        if self._logged is None:
            drafted = {name: (entry, None) for name, entry in self._draft.references.items()}
            files = {name: (Entry(), str(file.path)) for name, file in self._draft.files.items()}
            return {name: ArtifactEntry(name, *told) for name, told in sorted({**drafted, **files}.items())}
        return {name: ArtifactEntry(name, entry, None, self._fetch) for name, entry in self._read().items()}

    @property
    def entries(self) -> Mapping[str, ArtifactEntry]:
        """Its files by name, as `manifest`."""
        return self.manifest

    def files(self) -> list[ArtifactEntry]:
        """Return its files, sorted by name."""
        return list(self.manifest.values())

    def get_entry(self, name: str | os.PathLike[str]) -> ArtifactEntry:
        """Return one file.

        Raises:
            ArtifactNotFoundError: If it has none of that name.
        """
        wanted = Path(name).as_posix()
        entries = self.manifest
        if wanted not in entries:
            some = ", ".join(list(entries)[:5])
            raise ArtifactNotFoundError(f"{self!r} has no file {wanted!r}. It has {len(entries)}: {some} …")
        return entries[wanted]

    def get_path(self, name: str | os.PathLike[str]) -> ArtifactEntry:
        """Return one file, as `get_entry`."""
        return self.get_entry(name)

    def download(self, root: str | os.PathLike[str] | None = None, path_prefix: str | None = None) -> str:
        """Bring its files into a folder, verified; those that are there already are not fetched again.

        Args:
            root: The folder; `./artifacts/NAME:vN` if it is not given.
            path_prefix: Only the files whose names begin so.

        Returns:
            The folder.

        Raises:
            ConfigError: If it is not logged.
            CorruptError: If what the store has is not what was stored, or would be written out of the folder.
            StorageError: If the store fails.
        """
        folder, logged = self._root(root), self._require()
        entries = {name: entry for name, entry in self._read().items() if name.startswith(path_prefix or "")}
        downloading.download(logged.storage, entries, folder)
        return str(folder)

    def file(self, root: str | os.PathLike[str] | None = None) -> str:
        """Bring its only file into a folder, and return the path of the file.

        Raises:
            ConfigError: If it has not exactly one; else as `download`.
        """
        entries = self.files()
        if len(entries) != 1:
            raise ConfigError(f"{self!r} has {len(entries)} files: use download(), or get_entry(name).download().")
        return entries[0].download(root)

    def verify(self, root: str | os.PathLike[str] | None = None) -> None:
        """Check that a folder holds exactly its files. References of which no checksum is known are not looked at.

        Args:
            root: The folder that it was downloaded to; `./artifacts/NAME:vN` if it is not given.

        Raises:
            CorruptError: If it does not; the message names a file.
        """
        downloading.verify(self._read(), self._root(root))

    # Within

    @classmethod
    def _of(cls, version: Version, aliases: list[str], logged: Logged) -> Artifact:
        """Return an artifact that was logged before."""
        artifact = cls(version.name, version.type, version.description, version.metadata)
        artifact._logged = logged
        artifact._aliases = list(aliases)
        return artifact

    @classmethod
    def _stored(cls, storage: Storage, version: Version, aliases: list[str]) -> Artifact:
        """Return an artifact that was read from a store."""
        logged = Logged(
            storage=storage, version=lambda: version, aliases=lambda: list(aliases), wait=lambda timeout: None
        )
        return cls._of(version, aliases, logged)

    def _enter(self, logged: Logged, entries: dict[str, Entry] | None) -> None:
        """Become logged."""
        self._logged, self._aliases = logged, None
        self._entries = None if entries is None else dict(sorted(entries.items()))
        self._draft = Draft()

    def _require(self) -> Logged:
        if self._logged is None:
            raise ConfigError(f"{self!r}: log it first, with run.log_artifact(artifact).")
        return self._logged

    def _version(self) -> Version:
        return self._require().version()

    def _read(self) -> dict[str, Entry]:
        """Return what it holds, from its manifest."""
        logged = self._require()
        if not logged.stored:
            raise ConfigError(f"{self!r} was logged with mode='disabled': it is nowhere, and cannot be read.")
        if self._entries is None:
            version = logged.version()
            entries = downloading.read_manifest(logged.storage, version.manifest, version.label)
            self._entries = dict(sorted(entries.items()))
        return self._entries

    def _root(self, root: str | os.PathLike[str] | None) -> Path:
        if root is None:
            return Path("artifacts", f"{self._name}:{self.version}")
        folder = Path(check_path(root))
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder} is a file: give a folder, into which the files of the artifact come.")
        return folder

    def _fetch(self, entry: ArtifactEntry, root: str | None) -> Path:
        """Download one file."""
        folder, logged = self._root(root), self._require()
        downloading.download(logged.storage, {entry.path: entry.entry}, folder)
        return folder / entry.path
