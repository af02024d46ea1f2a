"""What an open run is called and filed under, to look at and to set."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rewind_logger.sdk.address import Address
from rewind_logger.sdk.live_metadata import LiveMetadata
from rewind_logger.sdk.metadata import Labels


class Labelled(Address):
    """The labels of a run; a change is recorded at the present step."""

    _metadata: LiveMetadata

    @property
    def name(self) -> str:
        """What people call the run; its id, unless it was given a name. Can be set."""
        return self._metadata.label("name") or self.id

    @name.setter
    def name(self, name: str) -> None:
        self._metadata.set_labels(Labels(name=name))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags. Can be set."""
        return tuple(self._metadata.label("tags") or ())

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        given: Any = tags
        self._metadata.set_labels(Labels(tags=() if given is None else given))

    @property
    def notes(self) -> str | None:
        """The notes. Can be set."""
        notes: str | None = self._metadata.label("notes")
        return notes

    @notes.setter
    def notes(self, notes: str) -> None:
        self._metadata.set_labels(Labels(notes=notes))

    @property
    def group(self) -> str | None:
        """The group of runs that it belongs to."""
        group: str | None = self._metadata.label("group")
        return group

    @property
    def job_type(self) -> str | None:
        """What kind of job it is, such as "train" or "eval"."""
        job_type: str | None = self._metadata.label("job_type")
        return job_type
