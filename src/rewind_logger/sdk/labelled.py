"""What an open run is called and filed under, to look at and to set."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from rewind_logger.sdk.address import Address
from rewind_logger.sdk.metadata import Labels


class Labelled(Address):
    """The labels of a run; a change is recorded at the present step."""

    @property
    def name(self) -> str:
        """What people call the run; its id, unless it was given a name. Can be set."""
        return self._label("name") or self.id

    @name.setter
    def name(self, name: str) -> None:
        self._set_labels(Labels(name=name))

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags. Can be set."""
        return tuple(self._label("tags") or ())

    @tags.setter
    def tags(self, tags: Iterable[str]) -> None:
        self._set_labels(Labels(tags=tags if isinstance(tags, str) else tuple(tags)))  # type: ignore[arg-type]

    @property
    def notes(self) -> str | None:
        """The notes. Can be set."""
        notes: str | None = self._label("notes")
        return notes

    @notes.setter
    def notes(self, notes: str) -> None:
        self._set_labels(Labels(notes=notes))

    @property
    def group(self) -> str | None:
        """The group of runs that it belongs to."""
        group: str | None = self._label("group")
        return group

    @property
    def job_type(self) -> str | None:
        """What kind of job it is, such as "train" or "eval"."""
        job_type: str | None = self._label("job_type")
        return job_type

    @abstractmethod
    def _label(self, name: str) -> Any:
        """Return the present value of a label, None where there is none."""

    @abstractmethod
    def _set_labels(self, labels: Labels) -> None:
        """Record new labels."""
