"""One file of an artifact."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rewind_logger.errors import ConfigError
from rewind_logger.format.manifest import Entry


@dataclass(frozen=True, slots=True)
class ArtifactEntry:
    """One file of an artifact; `Artifact.get_entry` finds it."""

    path: str
    """Its name within the artifact."""
    entry: Entry = field(repr=False)
    local_path: str | None = field(default=None, repr=False)
    """The file on this machine that it was added from, until the artifact is logged."""
    _download: Callable[[ArtifactEntry, str | None], Path] | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """Its name within the artifact, as `path`."""
        return self.path

    @property
    def size(self) -> int | None:
        """In bytes; None for a reference of which that is not known."""
        if self.local_path is not None:
            return os.path.getsize(self.local_path)
        return self.entry.size

    @property
    def digest(self) -> str | None:
        """The SHA-256 of its content; of a reference the checksum that was recorded, if any."""
        return self.entry.sha256 or self.entry.checksum

    @property
    def ref(self) -> str | None:
        """The URL of a reference, None for a file that was stored."""
        return self.entry.reference

    def ref_target(self) -> str:
        """Return the URL of a reference.

        Raises:
            ConfigError: If it is none.
        """
        if self.entry.reference is None:
            raise ConfigError(f"{self.path!r} is no reference: its content is stored, and download() fetches it.")
        return self.entry.reference

    def download(self, root: str | os.PathLike[str] | None = None) -> str:
        """Fetch the file, verified; one that is there already is not fetched again.

        Args:
            root: The folder of the artifact on this machine; `./artifacts/NAME:vN` if it is not given.

        Returns:
            Its path on this machine.

        Raises:
            ConfigError: If the artifact is not logged yet.
            CorruptError: If what the store has is not what was stored.
            StorageError: If the store fails.
        """
        if self._download is None:
            raise ConfigError(f"{self.path!r} belongs to an artifact that is not logged yet: log it first.")
        return str(self._download(self, None if root is None else os.fspath(root)))
