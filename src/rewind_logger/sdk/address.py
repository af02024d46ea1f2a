"""What a run is called and where it lies."""

from __future__ import annotations

from abc import ABC, abstractmethod

from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef


class Address(ABC):
    """The names of a run; the same whether it is open for writing or read."""

    _storage: Storage
    _ref: RunRef

    @property
    def id(self) -> str:
        """The run's id, which never changes."""
        return self._ref.id

    @property
    @abstractmethod
    def revision(self) -> int:
        """The number of the revision, from 1."""

    @property
    def immutable_id(self) -> str:
        """The id of this revision, such as `id@2`: once it is archived, what it names never changes."""
        return f"{self.id}@{self.revision}"

    @property
    def project(self) -> str:
        """The project's name."""
        return self._ref.project.rpartition("/")[2]

    @property
    def entity(self) -> str | None:
        """The entity that the project lies under, if any."""
        return self._ref.entity

    @property
    def path(self) -> str:
        """`project/id`, or `entity/project/id`."""
        return str(self._ref)

    @property
    def url(self) -> str:
        """Where the run lies."""
        return f"{self._storage.url.rstrip('/')}/{self._ref}"
