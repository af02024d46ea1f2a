"""A run's summary: what its metrics have come to, as the visible rows have it, and what was set by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rewind_logger.format.aggregates import Aggregate, Aggregates
from rewind_logger.sdk.summary.metric import Metric, Metrics
from rewind_logger.types import Scalar


class Summary(Mapping[str, Any]):
    """What a run has come to, by item or by attribute.

    Of each metric it has the last value, or a dict of what `define_metric` asked for; beside these, and before them,
    what was set by hand. After a rewind, in a fork or as of a step everything is as it stood there.

    Example:
        >>> summary = Summary({"loss": {"min": 0.25, "last": 0.5}, "epoch": 3})
        >>> summary["epoch"], summary["loss"]["min"], summary.loss
        (3, 0.25, {'min': 0.25, 'last': 0.5})
    """

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        """Take the values."""
        object.__setattr__(self, "_values", dict(values or {}))

    _values: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.as_dict()[key]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what copying and pickling look for
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"The summary has no {name!r}; it has {', '.join(self) or 'no values'}.") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.as_dict())

    def __len__(self) -> int:
        return len(self.as_dict())

    def __repr__(self) -> str:
        return f"Summary({self.as_dict()!r})"

    def as_dict(self) -> dict[str, Any]:
        """Return a copy: metrics in the order in which they were first logged, then what was set by hand."""
        return dict(self._values)


def summarize(
    last: Mapping[str, Scalar], metrics: Metrics, explicit: Mapping[str, Any], aggregates: Callable[[], Aggregates]
) -> dict[str, Any]:
    """Return the values of a summary.

    Args:
        last: The last value of each metric.
        metrics: The definitions that hold.
        explicit: What was set by hand.
        aggregates: Called if a definition asks for more than last values.
    """
    if not metrics:
        return {**last, **explicit}
    defined = {key: metric for key in last if (metric := metrics.of(key)) is not None and metric.summary}
    more = [key for key, metric in defined.items() if key not in explicit and set(metric.summary) - {"last", "none"}]
    found = aggregates().get(more) if more else {}
    values: dict[str, Any] = {}
    for key, value in last.items():
        metric = defined.get(key)
        if metric is None:
            values[key] = value
        elif "none" not in metric.summary:
            values[key] = _kept(metric, value, found.get(key))
    return {**values, **explicit}


def _kept(metric: Metric, last: Scalar, found: Aggregate | None) -> dict[str, Any]:
    """Return what a definition keeps of its metric; of what has no number there is no min, max, mean or best."""
    known: dict[str, Any] = {"last": last}
    if found is not None:
        best = found.max if metric.goal == "maximize" else found.min
        known |= {"min": found.min, "max": found.max, "mean": found.mean, "first": found.first, "best": best}
    return {kind: known[kind] for kind in metric.summary if known.get(kind) is not None}
