"""Evaluations of a run: what `validate` and `test` measured in processes that did not train."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timezone

from rewind_logger.format.aggregates import of_points
from rewind_logger.history import evaluation
from rewind_logger.history.evaluation import StoredEvaluation
from rewind_logger.history.view import View
from rewind_logger.sdk.frames import History
from rewind_logger.sdk.media.stored import MediaList
from rewind_logger.sdk.summary.summary import Summary
from rewind_logger.storage.base import Storage


class Evaluation:
    """What a checkpoint of a run was measured at, to read."""

    def __init__(self, storage: Storage, view: View, stored: StoredEvaluation) -> None:
        """Take an evaluation that was found in a store."""
        about = stored.about
        self.kind: str = about.kind
        """validate or test."""
        self.checkpoint: str | None = about.checkpoint
        """The path or URL of the checkpoint that was loaded, None where none was."""
        self.revision: int = about.revision
        """The revision of the run that the evaluated position is in."""
        self.next_step: int = about.next_step
        """The position that was evaluated (exclusive): that of `?_step=next_step - 1`."""
        self.created: datetime = datetime.fromtimestamp(about.created_ms / 1000, timezone.utc)
        """In UTC."""
        self._storage = storage
        self._view = view
        self._stored = stored

    def __repr__(self) -> str:
        return f"<Evaluation {self.kind} of {self._view.run}@{self.revision}?_step={self.next_step - 1}>"

    def history(self) -> History:
        """Read the rows.

        Raises:
            StorageError: If the store fails.
        """
        return History(evaluation.read(self._storage, self._view, self._stored))

    def media(self, keys: Collection[str] | str | None = None) -> MediaList:
        """Return the pictures, tables and so on, in the order they were logged.

        Args:
            keys: Only those logged under these names; None for all.

        Raises:
            CorruptError: If one is damaged.
            StorageError: If the store fails.
        """
        wanted = [keys] if isinstance(keys, str) else keys
        points = evaluation.read(self._storage, self._view, self._stored, "media", wanted)
        return MediaList.of_points(self._storage, str(self._view.run), points)

    @property
    def summary(self) -> Summary:
        """The last value of each metric."""
        return Summary(of_points(evaluation.read(self._storage, self._view, self._stored)).last_values())


def evaluations(storage: Storage, view: View) -> list[Evaluation]:
    """Return the evaluations of positions that a view keeps, oldest first."""
    return [Evaluation(storage, view, stored) for stored in evaluation.evaluations(storage, view)]
