"""The summary of an open run: it follows what is logged, and can be written."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rewind_logger.errors import ConfigError
from rewind_logger.format.aggregates import Aggregates
from rewind_logger.sdk.inherited import Inherited
from rewind_logger.sdk.intake import Intake
from rewind_logger.sdk.summary import explicit, metric
from rewind_logger.sdk.summary.metric import Definition, Metric, Metrics
from rewind_logger.sdk.summary.summary import Summary, summarize
from rewind_logger.types import OPENING_CLOCK, Scalar

Event = dict[str, Scalar]


class LiveSummary(Summary):
    """The summary of an open run. What is set by hand is recorded at the present step, and wins from then on.

    Values are kept as JSON has them, floats with NaN and the infinities; what else is put in becomes text. A nested
    dict can be changed in place.

    Example:
        >>> import rewind_logger
        >>> with rewind_logger.init(dir="memory://docs", project="digits") as run:
        ...     run.log({"loss": 0.5})
        ...     run.summary["test"] = {"accuracy": 0.9}
        ...     run.summary["test"]["accuracy"] = 0.91
        ...     run.summary.as_dict()
        {'loss': 0.5, 'test': {'accuracy': 0.91}}
    """

    def __init__(
        self, intake: Intake, aggregates: Callable[[], Aggregates], record: Callable[[Event, bool], bool]
    ) -> None:
        """Take where it comes from.

        Args:
            intake: Has the last values of what was logged since the opening.
            aggregates: Returns those of all rows of the run.
            record: Records an event: at the opening, if the flag says so, or at the present step. Returns False if the
                run is not open yet: then the next opening is given it.
        """
        set_ = object.__setattr__
        set_(self, "_intake", intake)
        set_(self, "_aggregates", aggregates)
        set_(self, "_record", record)
        set_(self, "_inherited", None)
        set_(self, "_given", [])  # definitions that every opening is given
        set_(self, "_waiting", [])  # changes that wait for the opening
        set_(self, "_changes", [])
        set_(self, "_explicit", {})
        set_(self, "_metrics", Metrics())
        set_(self, "_looked_up", True)

    _intake: Intake
    _aggregates: Callable[[], Aggregates]
    _record: Callable[[Event, bool], bool]
    _inherited: Inherited | None
    _given: list[Definition]
    _waiting: list[str]
    _changes: list[Definition | str]
    """Definitions and changes of explicit values since the opening."""
    _explicit: dict[str, Any]
    _metrics: Metrics
    _looked_up: bool

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        """Copy or pickle the values alone, as a dict."""
        return dict, (self.as_dict(),)

    def __getitem__(self, key: str) -> Any:
        self._look_up()
        value = copy.deepcopy(self._explicit[key]) if key in self._explicit else self._automatic([key])[key]
        return _Nested(value, lambda changed: self.update({key: changed})) if isinstance(value, dict) else value

    def __setitem__(self, key: str, value: object) -> None:
        self.update({key: value})

    def __setattr__(self, name: str, value: object) -> None:
        self.update({name: value})

    def __delitem__(self, key: str) -> None:
        """Remove what was set by hand: what follows from the rows shows again.

        Raises:
            KeyError: If nothing was.
        """
        self._look_up()
        if key not in self._explicit:
            raise KeyError(
                f"{key!r} was not set by hand. What was logged cannot be removed; define_metric({key!r},"
                " summary='none') leaves it out."
            )
        self._change({}, [key])

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(f"The summary has no {name!r}.")
        del self[name]

    def update(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **more: Any) -> None:
        """Set several values at once."""
        changes = {**dict(values), **more}
        for key in changes:
            if type(key) is not str or not key:
                raise ConfigError(f"A summary has names that are text, not {key!r}.")
        if changes:
            self._change(changes, [])

    def as_dict(self) -> dict[str, Any]:
        """Return a copy: metrics in the order in which they were first logged, then what was set by hand."""
        self._look_up()
        return {**self._automatic(None), **copy.deepcopy(self._explicit)}

    def _define(self, given: Definition) -> Metric:
        """Add a definition. One that comes before any row of this opening belongs to the opening: no cut removes it."""
        at_opening = self._intake.untouched
        if not self._record({metric.EVENT: metric.to_event(given)}, at_opening):
            self._given.append(given)
        self._changes.append(given)
        return self._metrics._define(given)

    def _reopen(self, inherited: Inherited, start: int) -> list[tuple[Event, int]]:
        """Begin anew above what the run inherits; return the events that the opening is given, each with its clock."""
        changes: list[Definition | str] = [*self._given, *self._waiting]
        events: list[tuple[Event, int]] = [
            ({metric.EVENT: metric.to_event(given)}, OPENING_CLOCK) for given in self._given
        ]
        events += [({explicit.EVENT: text}, start) for text in self._waiting]
        self._waiting.clear()
        for name, value in (("_inherited", inherited), ("_changes", changes), ("_looked_up", False)):
            object.__setattr__(self, name, value)
        return events

    def _inherit(self, inherited: Inherited) -> None:
        """Go on above what the run has, which was not known before; what was said since the opening stays."""
        for name, value in (("_inherited", inherited), ("_looked_up", False)):
            object.__setattr__(self, name, value)

    def _change(self, values: Mapping[str, Any], removed: list[str]) -> None:
        text = explicit.to_event(values, removed)
        if not self._record({explicit.EVENT: text}, False):
            self._waiting.append(text)
        self._changes.append(text)
        explicit.apply(self._explicit, text)

    def _look_up(self) -> None:
        """Read what was inherited, the first time."""
        if self._looked_up or self._inherited is None:
            return
        values, metrics = dict(self._inherited.explicit), self._inherited.metrics._copy()
        for change in self._changes:
            if isinstance(change, str):
                explicit.apply(values, change)
            else:
                metrics._define(change)
        for name, value in (("_explicit", values), ("_metrics", metrics), ("_looked_up", True)):
            object.__setattr__(self, name, value)

    def _automatic(self, keys: list[str] | None) -> dict[str, Any]:
        """Return what follows from the rows, of these metrics or of all."""
        last = self._intake.last_values()
        if self._inherited is not None and not (keys is not None and all(key in last for key in keys)):
            last = {**self._inherited.last_values, **last}
        if keys is not None:
            last = {key: last[key] for key in keys if key in last}
        return summarize(last, self._metrics, {}, self._aggregates)


class _Nested(dict[str, Any]):
    """A dict within a summary: a change of it sets the whole value by hand."""

    def __init__(self, values: Mapping[str, Any], changed: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(values)
        self._changed = changed

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        return _Nested(value, lambda changed: self.update({key: changed})) if isinstance(value, dict) else value

    def __setitem__(self, key: str, value: Any) -> None:
        self.update({key: value})

    def __delitem__(self, key: str) -> None:
        super().__delitem__(key)
        self._changed(dict(self))

    def update(self, *values: Any, **more: Any) -> None:
        """Set several values at once."""
        super().update(*values, **more)
        self._changed(dict(self))
