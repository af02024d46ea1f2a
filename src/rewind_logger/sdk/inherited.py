"""What a run had where its present opening began."""

from __future__ import annotations

from functools import cached_property

from rewind_logger.history import reader
from rewind_logger.history.opening import Opened
from rewind_logger.history.view import View, effective_lineage
from rewind_logger.sdk.metadata import Metadata, fold
from rewind_logger.sdk.summary import last_values
from rewind_logger.storage.base import Storage
from rewind_logger.types import Row, Scalar


class Inherited:
    """Config, labels and last values of the rows that an opening builds on, each read when it is first asked for.

    Nothing that is written later changes them.
    """

    def __init__(self, storage: Storage, opened: Opened) -> None:
        """Take an opening."""
        self._storage = storage
        self._opened = opened

    @cached_property
    def metadata(self) -> Metadata:
        """Config and labels."""
        return fold(reader.read_rows(self._storage, self._view, "events"))

    @cached_property
    def artifacts(self) -> list[Row]:
        """The rows about artifacts."""
        return reader.read_rows(self._storage, self._view, "artifacts")

    def summary(self) -> dict[str, Scalar]:
        """Return the last value of each metric."""
        return last_values(reader.read(self._storage, self._view, "metrics"))

    @cached_property
    def _view(self) -> View:
        """The rows of the lineage, without the term that this opening began."""
        opened = self._opened
        entries, plan = effective_lineage(self._storage, opened.run, opened.base, opened.folder)
        return View(
            run=opened.run,
            revision=opened.revision,
            head=False,
            entries=entries,
            plan=plan,
            start=opened.start,
            next_step=opened.start,
            newest_clock=-1,
            revisions=opened.base.revisions,
            folder=opened.folder,
        )
