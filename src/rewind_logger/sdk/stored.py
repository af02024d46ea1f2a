"""A run as it lies in a store, to read."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from datetime import datetime, timezone
from typing import Any, Literal, SupportsIndex, cast, overload

from rewind_logger.errors import ConfigError
from rewind_logger.format.wording import kind_of
from rewind_logger.history import reader, snapshots
from rewind_logger.history.heartbeat import last_beat
from rewind_logger.history.view import View, resolve
from rewind_logger.sdk.address import Address
from rewind_logger.sdk.artifacts.of_runs import HasArtifacts
from rewind_logger.sdk.checkpoints import Checkpoint, checkpoints
from rewind_logger.sdk.config_changes import ConfigChange, config_changes
from rewind_logger.sdk.console.lines import ConsoleHistory
from rewind_logger.sdk.evaluations import Evaluation, evaluations
from rewind_logger.sdk.forks import Fork, forks
from rewind_logger.sdk.frames import History
from rewind_logger.sdk.media.stored import MediaList
from rewind_logger.sdk.metadata import Metadata, fold
from rewind_logger.sdk.provenance.environment import Environment, environment_of
from rewind_logger.sdk.provenance.openings import openings
from rewind_logger.sdk.provenance.runtime import runtime
from rewind_logger.sdk.revisions import Revisions, lineage, revisions
from rewind_logger.sdk.state import State, state
from rewind_logger.sdk.summary import explicit, metric
from rewind_logger.sdk.summary.metric import Metrics
from rewind_logger.sdk.summary.summary import Summary, summarize
from rewind_logger.storage.base import Storage
from rewind_logger.types import Position, Row, Stream

HISTORY_STREAMS: tuple[Stream, ...] = ("metrics", "system", "console")
"""What `history` reads."""

LOOKED_AGAIN_S = 3600.0
"""How long it is remembered where the rows of an archived revision lie: segments that were put together since are
collected, a day after that at the earliest."""


class StoredRun(HasArtifacts, Address):
    """A run, one of its revisions, or a run as of a step, to read.

    What is read of a run that is still being logged is what its writer had flushed at that moment.

    Example:
        >>> import rewind_logger
        >>> with rewind_logger.init(dir="memory://docs", project="digits", id="r1") as run:
        ...     run.log({"loss": 0.5})
        ...     run.log({"loss": 0.25})
        >>> run = rewind_logger.open_store("memory://docs").run("digits/r1?_step=0")
        >>> run.history().to_arrow()["loss"].to_pylist(), run.summary["loss"]
        ([0.5], 0.5)
    """

    def __init__(self, storage: Storage, position: Position) -> None:
        """Take a place of a run; `Store.run` finds it."""
        self._storage = storage
        self._ref = position.run
        self.position = position
        self._archived: View | None = None
        self._looked_at = 0.0

    def __repr__(self) -> str:
        return f"<StoredRun {self.position} in {self._storage.url}>"

    # What it is

    @property
    def revision(self) -> int:
        """The number of the revision that is read."""
        return self._view().revision

    @property
    def last_step(self) -> int | None:
        """The last step; None where there is none."""
        return self._view().last_step

    # What was logged

    @overload
    def history(
        self,
        keys: Collection[str] | str | None = None,
        start: int | None = None,
        stop: int | None = None,
        stream: Literal["metrics", "system"] = "metrics",
    ) -> History: ...
    @overload
    def history(
        self,
        keys: Collection[str] | str | None = None,
        start: int | None = None,
        stop: int | None = None,
        *,
        stream: Literal["console"],
    ) -> ConsoleHistory: ...
    def history(
        self,
        keys: Collection[str] | str | None = None,
        start: int | None = None,
        stop: int | None = None,
        stream: Literal["metrics", "system", "console"] = "metrics",
    ) -> History | ConsoleHistory:
        """Read the rows, exactly and all of them.

        Args:
            keys: Only these metrics; None for all. Of the console "stdout" or "stderr".
            start: The first step (inclusive); None from the beginning.
            stop: The step to stop at (exclusive); None to the end.
            stream: What was logged, "metrics"; how the machine was used, "system"; or what was printed, "console".

        Raises:
            ConfigError: If there is no such stream.
            StorageError: If the store fails.
        """
        if stream not in HISTORY_STREAMS:
            raise ConfigError(f"There is no stream {stream!r}: use one of {', '.join(HISTORY_STREAMS)}.")
        wanted = _selected(keys, start, stop)
        if stream == "console":
            return ConsoleHistory(reader.read(self._storage, self._view(), stream, start=start, stop=stop), wanted)
        return History(reader.read(self._storage, self._view(), stream, keys=wanted, start=start, stop=stop))

    def media(
        self, keys: Collection[str] | str | None = None, start: int | None = None, stop: int | None = None
    ) -> MediaList:
        """Return the pictures, tables, histograms, texts, pages, sounds and films, in the order they were logged.

        Their files are read when they are asked for.

        Args:
            keys: Only those logged under these names; None for all.
            start: The first step (inclusive); None from the beginning.
            stop: The step to stop at (exclusive); None to the end.

        Raises:
            CorruptError: If one is damaged; the message names key and step.
            StorageError: If the store fails.
        """
        wanted = _selected(keys, start, stop)
        points = reader.read(self._storage, self._view(), "media", keys=wanted, start=start, stop=stop)
        return MediaList.of_points(self._storage, str(self._ref), points)

    @property
    def summary(self) -> Summary:
        """What the metrics have come to up to here, and what was set by hand.

        Reads one snapshot of aggregates and the rows since, however long the history, and the events.
        """
        view = self._view()
        events = reader.read_rows(self._storage, view, "events")
        found = snapshots.aggregates(self._storage, view)
        return Summary(summarize(found.last_values(), metric.fold(events), explicit.fold(events), lambda: found))

    @property
    def metrics(self) -> Metrics:
        """What `define_metric` said, by name; `metrics.of("val/loss")` is the definition that holds for a metric."""
        return metric.fold(self._rows("events"))

    @property
    def config(self) -> dict[str, Any]:
        """The configuration."""
        return dict(self._metadata().config)

    @property
    def config_changes(self) -> list[ConfigChange]:
        """Which revision set what in the config, in order: each value that was new, or other than before."""
        return config_changes(self._rows("events"))

    @property
    def name(self) -> str:
        """What people call the run; its id, unless it was given a name."""
        return self._metadata().labels.name or self.id

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags."""
        return self._metadata().labels.tags or ()

    @property
    def notes(self) -> str | None:
        """The notes."""
        return self._metadata().labels.notes

    @property
    def group(self) -> str | None:
        """The group of runs that it belongs to."""
        return self._metadata().labels.group

    @property
    def job_type(self) -> str | None:
        """What kind of job it is."""
        return self._metadata().labels.job_type

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints that were saved up to here, in order."""
        return checkpoints(self._rows("checkpoints"), self._storage.url)

    @property
    def evaluations(self) -> list[Evaluation]:
        """What was measured at positions that are kept here, in processes that did not train; oldest first."""
        return evaluations(self._storage, self._view())

    @property
    def environment(self) -> Environment | None:
        """What the last opening of what is read here was made with: packages, code and machine; None if unknown."""
        return environment_of(self._storage, self._rows("events"), self.position.next_step)

    # Where it comes from

    @property
    def state(self) -> State:
        """How the revision ended: "finished" or "failed"; or "running", "crashed" or "superseded".

        A run without a closing mark is "running" as long as its writer shows signs of life, and "crashed" when it is
        known to be dead (on its own machine, at once) or has been silent for five minutes. An archived revision
        without one is "superseded": another took its place while it ran, or after it had crashed.
        """
        as_of = self.position.next_step is not None
        return state(
            self._storage, resolve(self._storage, self._ref, self.position.revision) if as_of else self._view()
        )

    @property
    def last_heartbeat(self) -> datetime | None:
        """When the revision's writer last showed that it lives, in UTC; None if it wrote for less than a minute."""
        at_ms = last_beat(self._storage, self._view().folder)
        return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, timezone.utc)

    @property
    def created(self) -> datetime:
        """When the run was begun, in UTC; a fork, when it was forked."""
        return datetime.fromtimestamp(self._view().revisions[0].created_ms / 1000, timezone.utc)

    @property
    def started(self) -> datetime:
        """When the first step that is read here may have begun, in UTC; of a fork that is in the run it came from."""
        return min((opening.started for opening in openings(self._rows("events"))), default=self.created)

    @property
    def runtime(self) -> float:
        """Seconds that it took to make what is read here: of every opening, up to its last row that is kept.

        The pauses between a crash and the resume do not count, nor does what was cut off; of a fork the time that its
        parents ran up to there does. Costs a few requests an opening, however long the history.
        """
        return runtime(self._storage, self._view(), self.position.next_step)

    @property
    def revisions(self) -> Revisions:
        """Every revision of the run, the present one last. To print them shows a table."""
        return revisions(self._storage, self._view())

    @property
    def lineage(self) -> list[str]:
        """What this revision was made of, oldest first, the revision itself last.

        Each but the last as the moment up to which it was kept, such as `digits/r1@1?_step=499`.
        """
        return lineage(self._storage, self._view())

    @property
    def forks(self) -> list[Fork]:
        """The runs in this store that were forked from the run: of a revision, or up to a step, if one is named."""
        return forks(self._storage, self.position)

    # Within

    def _view(self) -> View:
        """Look up what is visible now; of an archived revision that is always the same, if not where it lies."""
        now = time.time()
        if self._archived is None or not 0 <= now - self._looked_at < LOOKED_AGAIN_S:
            view = resolve(self._storage, self._ref, self.position.revision, self.position.next_step)
            if view.revision == view.revisions[-1].number:  # the present one, also as of a step
                return view
            self._archived, self._looked_at = view, now
        return self._archived

    def _metadata(self) -> Metadata:
        return fold(self._rows("events"))

    def _rows(self, stream: Stream) -> list[Row]:
        """Read the rows of a small stream."""
        return reader.read_rows(self._storage, self._view(), stream)


def _selected(keys: Any, start: object, stop: object) -> list[str] | None:
    """Return the keys that are asked for, None for all, and refuse what can be no keys or steps.

    Raises:
        ConfigError: The message says what to give.
    """
    for name, step in (("start", start), ("stop", stop)):
        if step is not None and (isinstance(step, bool) or not isinstance(step, SupportsIndex)):
            raise ConfigError(f"{name}={step!r} is {kind_of(step)}: give a step, which is a whole number.")
    if keys is None:
        return None
    wanted: list[str] = list(keys) if isinstance(keys, Iterable) and not isinstance(keys, str) else [keys]
    for key in wanted:
        if not isinstance(cast("object", key), str):
            raise ConfigError(f"keys={keys!r}: {key!r} is {kind_of(key)}: give the names of metrics, as texts.")
    return wanted
