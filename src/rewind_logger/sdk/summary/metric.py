"""Definitions of metrics: what a chart draws them over, and what the summary keeps of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast

from rewind_logger.errors import ConfigError, CorruptError
from rewind_logger.format.values import key_fault
from rewind_logger.format.wording import kind_of
from rewind_logger.sdk import told
from rewind_logger.sdk.plain import dumps
from rewind_logger.types import Row

SUMMARIES = ("min", "max", "mean", "last", "first", "best", "none")
"""What the summary can keep of a metric."""

EVENT = "metric"
"""The name under which the stream `events` holds definitions."""

Goal = Literal["minimize", "maximize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """The definition of a metric, or of all whose names begin alike; `Run.define_metric` makes one.

    Example:
        >>> Metric(name="val/*", summary=("min", "last"))
        Metric(name='val/*', step_metric=None, step_sync=False, hidden=False, summary=('min', 'last'), goal=None)
    """

    name: str
    """Of the metric; or a beginning of names, with `*` as its end."""
    step_metric: str | None = None
    """The metric that charts draw it over; None: `_step`."""
    step_sync: bool = False
    """Whether a row that has the metric and not its step metric gets the last value of that."""
    hidden: bool = False
    """Whether charts leave it out."""
    summary: tuple[str, ...] = ()
    """What the summary keeps, of "min", "max", "mean", "first", "last" and "best"; or "none". Empty: the last value."""
    goal: Goal | None = None
    """What "best" means; "minimize" where nothing is said."""

    def matches(self, key: str) -> bool:
        """Say whether it is a definition of this metric."""
        return key.startswith(self.name[:-1]) if self.name.endswith("*") else key == self.name


Definition = dict[str, Any]
"""What one call of `define_metric` said: `name` and what else was given, as it is recorded."""


def definition(
    name: object,
    *,
    step_metric: object = None,
    step_sync: object = None,
    hidden: object = None,
    summary: object = None,
    goal: object = None,
    overwrite: object = None,
) -> Definition:
    """Return what a call of `define_metric` says; the arguments are those of `Run.define_metric`.

    Raises:
        ConfigError: If one cannot be; the message names it.
    """
    given: Definition = {"name": _name(name)}
    if step_metric is not None:
        given["step_metric"] = _step_metric(step_metric, str(name))
    for option, value in (("step_sync", step_sync), ("hidden", hidden), ("overwrite", overwrite)):
        if value is not None and not isinstance(value, bool):
            raise ConfigError(f"define_metric({name!r}, {option}={value!r}): give True or False.")
        if value is not None:
            given[option] = value
    if summary is not None:
        given["summary"] = _summary(summary, str(name))
    if goal is not None:
        if goal not in ("minimize", "maximize"):
            raise ConfigError(f"define_metric({name!r}, goal={goal!r}): use 'minimize' or 'maximize'.")
        given["goal"] = goal
    return given


def to_event(given: Definition) -> str:
    """Return the value of an event that records a definition."""
    return dumps(given)


class Metrics(Mapping[str, Metric]):
    """The definitions of a run by name, as they stand at one position of it.

    Example:
        >>> metrics = Metrics([{"name": "val/*", "summary": ["min"]}])
        >>> metrics["val/*"].summary, metrics.of("val/loss").summary, metrics.of("loss")
        (('min',), ('min',), None)
    """

    def __init__(self, given: Iterable[Definition] = ()) -> None:
        """Take what was defined, in order."""
        self._defined: dict[str, Metric] = {}
        self._beginnings: dict[str, Metric] = {}  # those of several metrics
        for one in given:
            self._define(one)

    def __getitem__(self, name: str) -> Metric:
        return self._defined[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._defined)

    def __len__(self) -> int:
        return len(self._defined)

    def __repr__(self) -> str:
        return f"Metrics({list(self._defined.values())!r})"

    def of(self, key: str) -> Metric | None:
        """Return the definition that holds for a metric: that of its very name, else that of the longest beginning."""
        exact = self._defined.get(key)
        if exact is not None:
            return exact
        matching = [metric for metric in self._beginnings.values() if metric.matches(key)]
        return max(matching, key=lambda metric: len(metric.name), default=None)

    def _copy(self) -> Metrics:
        """Return a copy, which can be added to."""
        twin = Metrics()
        twin._defined, twin._beginnings = dict(self._defined), dict(self._beginnings)
        return twin

    def _define(self, given: Definition) -> Metric:
        """Add a definition, which updates that of the same name, or replaces it if it says so."""
        name = given["name"]
        before = None if given.get("overwrite") else self._defined.get(name)
        options = {option: value for option, value in given.items() if option in _OPTIONS}
        if "summary" in options:
            earlier = () if before is None or "none" in options["summary"] else before.summary
            kept = [kind for kind in earlier if kind != "none"]
            options["summary"] = tuple(dict.fromkeys((*kept, *options["summary"])))
        if "step_metric" in options:
            options.setdefault("step_sync", True)
        return self._set(Metric(**options) if before is None else replace(before, **options))

    def _set(self, metric: Metric) -> Metric:
        """Have this definition, and no earlier one of its name."""
        self._defined[metric.name] = metric
        if metric.name.endswith("*"):
            self._beginnings[metric.name] = metric
        return metric


_OPTIONS = frozenset(field.name for field in fields(Metric))


def fold(rows: Iterable[Row]) -> Metrics:
    """Return the definitions after these rows of the stream `events`, in the order in which they were logged.

    Raises:
        CorruptError: If a definition is none.
    """
    metrics = Metrics()
    for row in rows:
        if EVENT not in row.values:
            continue
        try:
            given = told.loads(row.values[EVENT])
            said = {option: given.get(option) for option in (*_OPTIONS, "overwrite")}
            metrics._define(definition(**{**said, "summary": said["summary"] or None}))
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise CorruptError(
                f"An event of step {row.clock} has a definition of a metric that is none: {error!r}."
            ) from error
    return metrics


def _name(name: object) -> str:
    """Return the name of a metric, or of several, or refuse it."""
    if not isinstance(name, str):
        raise ConfigError(f"define_metric({name!r}): the name is {kind_of(name)}, not a str.")
    fault = key_fault(name)
    if fault is not None:
        raise ConfigError(f"define_metric({name!r}): {fault}")
    if "*" in name[:-1]:
        raise ConfigError(
            f"define_metric({name!r}): a '*' can only be the end of a name, such as 'val/*': define each metric by its"
            " name, or all of one beginning."
        )
    return name


def _step_metric(given: object, name: str) -> str:
    if isinstance(given, Metric):
        given = given.name
    if not isinstance(given, str) or not given or "*" in given:
        raise ConfigError(f"define_metric({name!r}, step_metric={given!r}): give the name of one metric.")
    return given


def _summary(given: object, name: str) -> list[str]:
    """Return what the summary is to keep, as a list of words."""
    words = given.split(",") if isinstance(given, str) else given
    if not isinstance(words, (list, tuple)) or not words or not all(isinstance(word, str) for word in words):
        raise ConfigError(f"define_metric({name!r}, summary={given!r}): give text such as 'min,max'.")
    # What W&B calls "copy", and has given up, adds nothing to the last value.
    found = [word for given_word in words if (word := cast(str, given_word).strip().lower()) != "copy"]
    for word in found:
        if word not in SUMMARIES:
            raise ConfigError(
                f"define_metric({name!r}, summary={given!r}): there is no {word!r}; use some of"
                f" {', '.join(SUMMARIES)}, with commas between."
            )
    if "none" in found and len(set(found)) > 1:
        raise ConfigError(f"define_metric({name!r}, summary={given!r}): 'none' keeps nothing, so give it alone.")
    return list(dict.fromkeys(found))
