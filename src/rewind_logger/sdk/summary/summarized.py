"""The summary of an open run, and what `define_metric` makes of it."""

from __future__ import annotations

from typing import Literal

from rewind_logger.sdk.labelled import Labelled
from rewind_logger.sdk.summary import metric
from rewind_logger.sdk.summary.live import LiveSummary
from rewind_logger.sdk.summary.metric import Metric
from rewind_logger.sdk.summary.step_sync import StepSync


class Summarized(Labelled):
    """A run with a summary."""

    _summary: LiveSummary
    _sync: StepSync

    @property
    def summary(self) -> LiveSummary:
        """What the metrics have come to, rows that are not in the store yet among them, and what was set by hand."""
        return self._summary

    def define_metric(
        self,
        name: str,
        step_metric: str | Metric | None = None,
        step_sync: bool | None = None,
        hidden: bool | None = None,
        summary: str | None = None,
        goal: Literal["minimize", "maximize"] | None = None,
        overwrite: bool | None = None,
    ) -> Metric:
        """Say what charts draw a metric over, and what the summary keeps of it.

        It holds for all rows, also those that were logged before. What is said before the first row of an opening
        survives every cut; what is said at step M is undone by a cut before M.

        Args:
            name: The metric; or the beginning of several names with `*` as its end, such as `val/*`. A definition of
                the very name wins, then that of the longest beginning.
            step_metric: The metric that charts draw it over. Runs are still cut on `_step`.
            step_sync: Whether a row that has the metric and not its step metric gets the last value of that which was
                logged in this opening. True if a `step_metric` is given.
            hidden: Whether charts leave it out.
            summary: What the summary keeps, as a dict: some of "min", "max", "mean", "first", "last" and "best", with
                commas between. NaN and texts count for "first" and "last" alone. Or "none". The last value, if nothing
                is said.
            goal: What "best" means; "minimize" if nothing is said.
            overwrite: Whether this replaces an earlier definition of the same name. By default it adds to that.

        Returns:
            The definition.

        Raises:
            ConfigError: If an argument cannot be; the message names it.
        """
        given = metric.definition(
            name,
            step_metric=step_metric,
            step_sync=step_sync,
            hidden=hidden,
            summary=summary,
            goal=goal,
            overwrite=overwrite,
        )
        defined = self._summary._define(given)
        self._sync.define(defined)
        return defined
