"""A run that is open for writing."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, Literal

from rewind_logger.errors import ConfigError, RewindError, StorageError
from rewind_logger.history.late_opening import LateOpening, place
from rewind_logger.history.opening import Opened, OpenRequest, begun
from rewind_logger.history.writer import Writer
from rewind_logger.sdk import notice, open_runs
from rewind_logger.sdk.absent import Advising
from rewind_logger.sdk.accompany import accompany
from rewind_logger.sdk.artifacts.log import ArtifactLog
from rewind_logger.sdk.artifacts.of_runs import LogsArtifacts
from rewind_logger.sdk.config import Config
from rewind_logger.sdk.disabled import NullWriter
from rewind_logger.sdk.handle import Handle
from rewind_logger.sdk.inherited import Inherited
from rewind_logger.sdk.intake import Intake
from rewind_logger.sdk.live_metadata import LiveMetadata
from rewind_logger.sdk.notice import RewindWarning
from rewind_logger.sdk.provenance import openings
from rewind_logger.sdk.run_spec import RunSpec
from rewind_logger.sdk.steps import backward, check_logged_step
from rewind_logger.sdk.summary.live import LiveSummary
from rewind_logger.sdk.summary.step_sync import StepSync
from rewind_logger.sdk.summary.summarized import Summarized
from rewind_logger.sdk.waiting import Waiting, rows_left
from rewind_logger.types import OPENING_CLOCK, RunRef, Scalar

LOG = logging.getLogger("rewind_logger")

FINISH_TIMEOUT_S = 120.0
"""How long the end of a run waits for a store that is away; the rows are in the journal meanwhile."""

AGAIN_S = 5.0
"""How long, if that was waited already and the store has been away ever since."""

LAST_ROWS_S = 1.0
"""How long `flush` waits at least for the rows of artifacts that have arrived."""

AFTER_UPLOADS_S = 10.0
"""How long at least, when that time went by before the rows had their turn."""


class Run(LogsArtifacts, Summarized, Advising, Handle):
    """A run that is open for writing; `init` opens one.

    Every row is stamped with the run's clock, the training step `_step`: it never runs backwards, and runs are rewound
    and forked by it.

    Example:
        >>> import rewind_logger
        >>> with rewind_logger.init(dir="memory://docs", project="digits") as run:
        ...     for loss in (0.5, 0.25):
        ...         run.log({"loss": loss})
        ...     run.step, run.summary["loss"]
        (2, 0.25)
    """

    def __init__(self, spec: RunSpec) -> None:
        """Take what is known; nothing is read or written before `_open` or the first row."""
        self._spec = spec
        self._storage = spec.storage
        self._ref = spec.run
        self._driven = spec.driven
        self._diverted: Callable[[Mapping[str, Any], int | None], None] | None = None  # takes rows until it is opened
        self._writer: Writer = (NullWriter if spec.disabled else Writer)(spec.storage, spec.run)
        self._writer.on_leave = self._forget_clock
        self._append = self._writer.append
        self._lock = self._writer.lock
        self._state: Literal["live", "finished", "forked"] = "live"
        self._clock: int | None = None
        self._opened: Opened | None = None
        self._counting = False  # from 0, since the store was away when the run was to be opened
        self._steps_given = False  # meanwhile
        self._failed = False  # by what a trainer said last
        self._outlasted: float | None = None  # since when the store had been away that was waited for in vain
        self._stored = False  # whether all was in the store when it was finished
        self._said: set[str] = set()  # what is said once
        self._inherited: Inherited | None = None
        self._metadata = LiveMetadata(spec.config, spec.labels, self._record_metadata)
        self._intake = Intake(self._writer)
        self._put = self._intake.put
        self._sync = StepSync(self._put, partial(setattr, self, "_put"))
        self._summary = LiveSummary(self._intake, self._writer.aggregates, self._annotate)
        self._artifacts = ArtifactLog(self)
        self._companions = accompany(self, self._artifacts)

    # What it is

    @property
    def revision(self) -> int:
        """The number of this revision, from 1; the next rewind opens the next one."""
        return self._is_open().revision

    @property
    def config(self) -> Config:
        """The configuration; changes are recorded at the present step."""
        return self._metadata.config

    @property
    def step(self) -> int:
        """The next automatic step: the clock."""
        return self._is_open().start if self._clock is None else self._clock

    @property
    def disabled(self) -> bool:
        """Whether nothing is written: `mode="disabled"`."""
        return self._spec.disabled

    @property
    def failed(self) -> bool:
        """Whether it is known to have failed: a trainer's fit ended with an exception."""
        return self._failed

    @property
    def starting_step(self) -> int:
        """The first step of this opening: 0 in a new run, N + 1 after `?_step=N`."""
        return self._is_open().start

    @property
    def start_time(self) -> float:
        """When this opening was made, in seconds since 1970-01-01 UTC."""
        return self._is_open().base.created_ms / 1000

    @property
    def resumed(self) -> bool:
        """Whether the run goes on with what was there: it was resumed, rewound or restored."""
        return self._is_open().kind not in ("new", "forked")

    def __repr__(self) -> str:
        at = "not open yet" if self._opened is None else f"{self.immutable_id}, step {self.step}"
        return f"<Run {self._ref} in {self._storage.url}: {at}>"

    # Logging

    def log(self, data: Mapping[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        """Log a row.

        Without `step` the row gets the run's present step, and the next row the next one. With `commit=False` the step
        stays: rows of one step are read as one. With `step` the run goes on from that step and stays there until it is
        given another, or logs without one.

        Args:
            data: Numbers, bools and texts by name; a nested dict is flattened with `/`, None is left out. A value
                that cannot be kept is reported once by the logger "rewind_logger", the rest of the row is kept.
            step: The training step, from 0. One before the present step is kept beside the row, which is logged at the
                present step; or is refused, if the run was opened with `on_backward_step="error"`.
            commit: Whether the next row gets the next step. By default it does if no `step` is given.

        Raises:
            LogValueError: If `data` is no mapping.
            PositionError: If `step` is no step, or lies before the present one and `on_backward_step` is "error".
            ConfigError: If the run is finished.
        """
        if self._state != "live" and self._refuses():
            return
        if self._diverted is not None and self._opened is None:
            self._diverted(data, step)
            return
        behind: str | None = None
        with self._lock:
            clock = self._clock
            if step is None:
                self._put(data, clock, None)
                if commit is not False and clock is not None and not self._driven:
                    self._clock = clock + 1
                return
            given: int | None = check_logged_step(step)
            if self._counting and not self._driven:
                self._steps_given = True
                self._writer.give_steps()
            if given == clock:
                given = None
            elif clock is not None and given is not None and not self._driven:
                if given < clock:
                    behind = self._backward(given, clock)
                else:
                    clock, given = given, None
            self._put(data, clock, given)
            if clock is not None and not self._driven:
                self._clock = clock + 1 if commit else clock
        if behind is not None:
            warnings.warn(behind, RewindWarning, stacklevel=2)

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything that was logged is in the store: rows, and artifacts that are being uploaded.

        Args:
            timeout: Seconds to wait at most, during which a store that is away is tried again. None: one attempt,
                whose failure is raised.

        Returns:
            Whether it is so; False if the time ran out, or an artifact could not be sent yet. Of a run that is
            finished: whether it was so then.

        Raises:
            FencedError: If another writer has taken the run over.
            StorageError: If the store failed; the rows are in the journal, and are tried again.
        """
        if self._state == "finished":
            return self._stored
        deadline = None if timeout is None else time.monotonic() + timeout
        stored = self._flush_rows(timeout)
        if not self._artifacts.uploading:
            return stored
        arrived = self._artifacts.arrived(None if deadline is None else max(0.0, deadline - time.monotonic()))
        # Their own rows come when they have arrived; a moment for these, if the time was just enough.
        left = None if deadline is None else max(LAST_ROWS_S, deadline - time.monotonic())
        return self._flush_rows(left) and stored and arrived

    def finish(self, exit_code: int | None = None) -> None:
        """End the run: bring everything into the store, and say whether it went well.

        Never raises for the sake of the store: what could not be brought in is in the journal, and the line at the end
        says where. A second call does nothing.

        Args:
            exit_code: None or 0: it finished. Another: it failed.
        """
        with self._lock:
            if self._state != "live":
                return
            self._state = "finished"
        open_runs.remove(self._storage.url, self._ref, self)
        state: Literal["finished", "failed"] = "failed" if exit_code else "finished"
        try:
            trouble = self._settle(state, FINISH_TIMEOUT_S)
            self._stored = trouble is None and self._opened is not None and not self._artifacts.gave_up
        finally:
            self._writer.close()
        if self._opened is not None and not self._spec.disabled:
            # The clock stays at a step that was given, or not committed, until another row comes.
            reached = max(self.step + self._driven, self._writer.next_step)
            told = notice.closing(self._storage, self._ref, state, reached, trouble, self._writer.kept)
            (notice.say if trouble is None else notice.warn)(told)
        elif self._writer.kept:
            notice.warn(notice.unopened(self._storage.url, self._ref, self._writer.kept))

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Finish the run; an exception makes it a failed one."""
        well = error is None or (isinstance(error, SystemExit) and error.code in (None, 0))
        self.finish(exit_code=0 if well else 1)

    # For those who open runs: `init`, and loggers of trainers

    def _open(self, request: OpenRequest, *, say: bool = True) -> Opened:
        """Open the run, or open it anew at another position.

        Args:
            request: What is wanted of it.
            say: Whether to say so in a line.

        Raises:
            RewindError: As `history.opening.open_run` does; the run can be opened again.
        """
        self._companions.prepare()
        opened = self._writer.open(request)
        with self._lock:
            if self._opened is not None:
                self._intake.forget()
                self._sync.forget()
            self._clock = opened.start
            inherited = self._build_on(opened)
            self._append("events", openings.to_value(opened, request.reason), OPENING_CLOCK)
            self._append_given(inherited, opened.start)
        open_runs.add(self._storage.url, self._ref, self)
        self._companions.begin()
        if say and not self._spec.disabled:
            notice.say(notice.opening(self._storage, opened))
        return opened

    def _open_later(self, request: OpenRequest, failure: StorageError) -> None:
        """Go on without the store, which is away, and open the run when it is back.

        Until then the run takes itself for new, and its steps are counted from 0.
        """
        with self._lock:
            self._counting = True
            assumed = begun(self._ref, 0, "unopened", request.reason)
            self._clock = assumed.start
            inherited = self._build_on(assumed)
            self._writer.open_later(LateOpening(request, partial(self._arrive, request), self._go_on), failure)
            self._append_given(inherited, assumed.start)
        open_runs.add(self._storage.url, self._ref, self)
        self._companions.begin()

    def _forget_clock(self) -> None:
        """Stamp what is logged until the next opening is made with its start; the lock is held."""
        self._clock = None

    def _arrive(self, request: OpenRequest, opened: Opened) -> None:
        """Go on at the end of the run, now that it is known; the lock is held."""
        self._counting = False
        self._summary._inherit(self._build_on(opened))
        self._clock = self._place(self._clock)
        self._artifacts.rows.arrive(opened, self._place)
        self._append("events", openings.to_value(opened, request.reason), OPENING_CLOCK)

    def _build_on(self, opened: Opened) -> Inherited:
        """Go on above what an opening builds on."""
        self._opened = opened
        inherited = self._inherited = Inherited(self._storage, opened, self._writer.inherited_aggregates)
        self._metadata.reopen(inherited, forked=opened.kind == "forked")
        return inherited

    def _append_given(self, inherited: Inherited, start: int) -> None:
        """Log what the opening is given."""
        if values := self._metadata.event():
            self._append("events", values, OPENING_CLOCK)
        for event, clock in self._summary._reopen(inherited, start):
            self._append("events", event, clock)

    def _place(self, clock: int | None) -> int | None:
        """Return where a clock that was counted from 0 belongs."""
        return None if clock is None else place(clock, self._is_open().start, self._steps_given)

    def _go_on(self) -> None:
        """Tell that the run is open."""
        self._companions.begin()
        if self._opened is not None:
            notice.say(notice.opening(self._storage, self._opened))

    def _flush_rows(self, timeout: float | None) -> bool:
        """Wait for the rows alone, as `flush` does: an upload may take longer than training can wait."""
        handed = self._companions.flush(timeout)
        return self._writer.flush(timeout) and handed

    def _retarget(self, run: RunRef) -> None:
        """Be another run, before the first opening."""
        self._ref = run
        self._writer.retarget(run)

    def _drive(self, driven: bool) -> None:
        """Say whether a trainer sets the clock."""
        self._driven = driven

    def _complain(self, trouble: str) -> None:
        """Say why not everything is in the store."""
        journal = self._writer.journal if self._writer.waiting else None
        kept = notice.kept_in(self._storage.url, trouble, journal)
        name = "" if trouble.startswith(f"Run {self._ref} ") else f"Run {self._ref}: "
        LOG.error("%s%s%s", name, trouble, kept)

    def _advance(self, clock: int) -> None:
        """Set the clock to the step that a trainer is at."""
        self._clock = clock

    def _mark(self, values: dict[str, Scalar], clock: int) -> None:
        """Add a row to the stream of checkpoints."""
        if self._state == "live":
            self._append("checkpoints", values, clock)

    def _note(self, values: dict[str, Scalar], clock: int) -> None:
        """Add a row to the stream of events."""
        if self._state == "live":
            self._append("events", values, clock)

    def _record(self, values: Mapping[str, Any], clock: int | None, step: int | None = None) -> None:
        """Log a row at the step that a trainer is at.

        Args:
            values: As for `log`.
            clock: The training step; None before the run is opened, whose opening then gives it.
            step: What the trainer counts otherwise, where it differs.
        """
        if self._state != "live" and self._refuses():
            return
        with self._lock:
            if clock is not None:
                self._clock = clock
            self._put(values, clock, step if step != clock else None)

    def _settle(self, state: Literal["finished", "failed"], timeout: float) -> str | None:
        """Bring everything into the store and put the closing mark; the run stays open.

        Args:
            state: How it ended.
            timeout: Seconds to wait for a store that is away.

        Returns:
            What went wrong, as a sentence; None if nothing did.
        """
        away = self._writer.away_since
        if away is not None and away == self._outlasted:
            timeout = min(timeout, AGAIN_S)
        deadline = time.monotonic() + timeout
        self._companions.rest(timeout)
        if self._opened is None:
            return None
        self._failed = state == "failed"
        try:
            # An upload may have taken longer than a store that is away is waited for.
            now = time.monotonic()
            deadline = max(deadline, now + min(timeout, AFTER_UPLOADS_S))
            timeout = deadline - now

            def left() -> str:
                return rows_left(self._ref, self._storage.url, self._writer.rows_waiting, deadline - time.monotonic())

            with Waiting(left) as waiting:
                if self._writer.finish(state, timeout, waiting):
                    return None
        except (RewindError, OSError) as error:  # whatever it is, training has ended well
            return str(error)
        if not self._writer.is_open:
            unopened = f"Run {self._ref} could not be opened anew: what was logged since is not in {self._storage.url}."
            return unopened if self._writer.waiting else None
        if time.monotonic() < deadline:
            return f"Not everything is in {self._storage.url}: a signal's handler cannot wait for what it interrupted."
        self._outlasted = self._writer.away_since
        return f"Not everything came into {self._storage.url} within {round(timeout, 1):g} s."

    def _disown(self) -> None:
        """In a forked child: the run stays the parent's."""
        self._state = "forked"
        self._lock = threading.RLock()
        self._companions.disown()

    # Within

    def _backward(self, step: int, clock: int) -> str | None:
        """Return the warning about a step before the present one, None if it was given, or refuse the step."""
        warning = backward(self._ref, step, clock, refused=self._spec.on_backward_step == "error")
        said = "backward" in self._said
        self._said.add("backward")
        return None if said else warning

    def _is_closed(self) -> bool:
        """Say whether nothing is logged any more, because the run is the parent's; raise if it is finished."""
        return self._state != "live" and self._refuses()

    def _run_id(self) -> str:
        return self.id

    def _refuses(self) -> bool:
        """Say why nothing more is logged: raise if it is a mistake, return True if it is not."""
        if self._state == "finished":
            raise ConfigError(
                f"Run {self._ref} is finished: nothing more can be logged to it."
                f" Go on with init(project={self.project!r}, id={self.id!r}, resume='must')."
            )
        if "forked" not in self._said:
            self._said.add("forked")
            LOG.warning(
                "Run %s belongs to the parent of this forked process: what is logged here is dropped.", self._ref
            )
        return True

    def _record_metadata(self, event: dict[str, Scalar]) -> bool:
        """Keep a change of config or labels; return False if the opening that is to come has to be given it."""
        return self._annotate(event, False) and not self._counting

    def _annotate(self, event: dict[str, Scalar], at_opening: bool) -> bool:
        """Keep an event, at the present step or as the opening's own; return False if the run is not open yet."""
        if self._is_closed():
            return True
        with self._lock:
            if self._opened is not None:
                self._append("events", event, OPENING_CLOCK if at_opening else self._clock)
        if self._opened is None:
            self._note_diverted()
        return self._opened is not None

    def _note_diverted(self) -> None:
        """Say once that what is given besides rows goes nowhere, where these are part of an evaluation."""
        if self._diverted is not None and self._opened is None and "diverted" not in self._said:
            self._said.add("diverted")
            LOG.warning(
                "Run %s is only evaluated by this process, and an evaluation has no config, labels, artifacts, or "
                "summary set by hand: they are not kept, unless a fit with this logger follows. Log them to a run of "
                "their own, with rewind_logger.init(project=%r).",
                self._ref,
                self.project,
            )

    def _is_open(self) -> Opened:
        if self._opened is None:
            raise ConfigError(f"Run {self._ref} is not open yet.")
        return self._opened
