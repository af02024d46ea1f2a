"""Step metrics: a row that has a metric and not its step metric gets the last value of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rewind_logger.format.values import flatten
from rewind_logger.sdk.summary.metric import Metric, Metrics
from rewind_logger.types import Scalar

Put = Callable[[Any, "int | None", "int | None"], None]
"""Takes a row: values, clock and step."""


class StepSync:
    """Stands before an intake once a definition asks for it; before that it costs nothing."""

    def __init__(self, put: Put, use: Callable[[Put], None]) -> None:
        """Take where rows go on to, and what to call so that they come here."""
        self._on = put
        self._use = use
        self._metrics = Metrics()
        self._steps: set[str] = set()
        self._latest: dict[str, Scalar] = {}
        self._shapes: dict[tuple[Any, ...], tuple[list[str], list[str]]] = {}  # by keys: step metrics there and missing

    def define(self, metric: Metric) -> None:
        """Take a definition."""
        if not self._steps and not (metric.step_metric and metric.step_sync):
            return
        self._metrics._set(metric)
        self._shapes.clear()
        self._steps = {one.step_metric for one in self._metrics.values() if one.step_metric and one.step_sync}
        self._use(self.put if self._steps else self._on)

    def forget(self) -> None:
        """Forget the values: the run went to another position."""
        self._latest.clear()

    def put(self, values: Any, clock: int | None, step: int | None) -> None:
        """Pass a row on, with what it lacks."""
        if isinstance(values, Mapping):
            nested = any(isinstance(value, Mapping) for value in values.values())
            more = self._missing(flatten(values)[0] if nested else values)
            if more:
                values = {**values, **more}
        self._on(values, clock, step)

    def _missing(self, values: Mapping[str, Any]) -> dict[str, Scalar]:
        """Return what a flat row lacks, and remember what it has."""
        shape: tuple[Any, ...] = tuple(values)
        known = self._shapes.get(shape)
        if known is None:
            found = [metric for key in shape if type(key) is str for metric in (self._metrics.of(key),)]
            wanted = {one.step_metric for one in found if one is not None and one.step_metric and one.step_sync}
            known = [key for key in shape if key in self._steps], sorted(wanted.difference(shape))
            self._shapes[shape] = known
        there, missing = known
        for key in there:
            self._latest[key] = values[key]
        return {key: self._latest[key] for key in missing if key in self._latest}
