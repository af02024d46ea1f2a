"""What a run had where its present opening began."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

from rewind_logger.format.aggregates import Aggregates
from rewind_logger.history import reader
from rewind_logger.history.opening import Opened, built_on
from rewind_logger.history.view import View
from rewind_logger.sdk import metadata
from rewind_logger.sdk.metadata import Metadata
from rewind_logger.sdk.summary import explicit, metric
from rewind_logger.sdk.summary.metric import Metrics
from rewind_logger.storage.base import Storage
from rewind_logger.types import Row, Scalar


class Inherited:
    """Config, labels, definitions and last values of what an opening builds on, each read when it is first asked for.

    Nothing that is written later changes them.
    """

    def __init__(self, storage: Storage, opened: Opened, aggregates: Callable[[], Aggregates]) -> None:
        """Take an opening, and what returns the aggregates of the rows that it builds on."""
        self._storage = storage
        self._opened = opened
        self._aggregates = aggregates

    @cached_property
    def metadata(self) -> Metadata:
        """Config and labels."""
        return metadata.fold(self._events)

    @cached_property
    def artifacts(self) -> list[Row]:
        """The rows about artifacts."""
        return reader.read_rows(self._storage, self._view, "artifacts")

    @cached_property
    def metrics(self) -> Metrics:
        """The definitions of metrics."""
        return metric.fold(self._events)

    @cached_property
    def explicit(self) -> dict[str, Any]:
        """What was set by hand in the summary."""
        return explicit.fold(self._events)

    @cached_property
    def last_values(self) -> dict[str, Scalar]:
        """The last value of each metric."""
        return self._aggregates().last_values()

    @cached_property
    def _events(self) -> list[Row]:
        return reader.read_rows(self._storage, self._view, "events")

    @cached_property
    def _view(self) -> View:
        return built_on(self._storage, self._opened)
