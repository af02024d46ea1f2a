"""What a fit means for the history: which run it goes on with, and from where."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from rewind_logger.errors import ConfigError, RewindError, RunExistsError
from rewind_logger.history import claims, forking
from rewind_logger.history.journals.roots import journal_root
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.recovery import recover
from rewind_logger.history.view import resolve
from rewind_logger.lightning.checkpoint import Loaded
from rewind_logger.lightning.mark import Mark
from rewind_logger.lightning.marked import is_in, own_store, settled, unsettled
from rewind_logger.sdk import notice
from rewind_logger.sdk.source import Given, Source, find, shown
from rewind_logger.storage import Storage
from rewind_logger.types import Position, RunRef

OnResume = Literal["rewind", "fork", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the arguments of a logger ask for."""

    storage: Storage
    run: RunRef
    named: bool
    """Whether a person, or a scheduler, gave the run its id; else any id will do."""
    index: int = 0
    """Which of the trainer's loggers of ours it is; marks are in that order."""
    on_resume: OnResume = "rewind"
    resume_from: Given | None = field(default=None, repr=False)
    fork_from: Given | None = field(default=None, repr=False)
    storage_options: Mapping[str, Any] | None = field(default=None, repr=False)
    attended: bool = True
    """Whether a trainer tells what it loads; else the caller loads checkpoints, unseen."""
    sought: bool = False
    """Whether somebody looked into the run's folder before the fit, as Lightning does for `ckpt_path="last"`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """How a run is to be opened."""

    run: RunRef
    request: OpenRequest
    mark: Mark | None = None
    """What the checkpoint says of the place from which it goes on."""
    notes: tuple[str, ...] = ()
    """Sentences for people."""


def decide(wanted: Wanted, loaded: Loaded | None) -> Decision:
    """Decide how a fit that loaded a checkpoint, or none, opens its run.

    Raises:
        ConfigError: If the arguments and the checkpoint contradict each other; the message names both.
        RunExistsError: If the checkpoint is of one run, and the logger names another that exists.
        RewindError: If a position that was given is none.
    """
    if wanted.fork_from is not None:
        return _fork_as_asked(wanted, _find(wanted, wanted.fork_from, "fork_from"), loaded)
    if wanted.resume_from is not None:
        return _rewind_as_asked(wanted, _find(wanted, wanted.resume_from, "resume_from"), loaded)
    if loaded is None:
        return Decision(run=wanted.run, request=OpenRequest(), notes=_hint(wanted))
    mark, here = choose(wanted, loaded)
    if mark is None:
        return _without_mark(wanted, loaded)
    if wanted.on_resume == "error":
        raise ConfigError(
            f"fit resumed from {loaded}, which stands at {mark}, and on_resume='error' was given: fit without"
            " ckpt_path, or use on_resume='rewind' or 'fork'."
        )
    reason = f"resumed from {loaded}"
    if wanted.on_resume == "fork":
        return _fork(wanted, mark, here, reason)
    if here and (mark.run == wanted.run or not wanted.named):
        return Decision(run=mark.run, request=OpenRequest(at=mark.position, reason=reason), mark=mark)
    return _fork_into(wanted, wanted.run, mark, here, reason, loaded)


def settle(wanted: Wanted, loaded: Loaded, *, going_on: bool) -> Loaded:
    """Return a checkpoint whose marks say where it stands, though it was saved while its store was away.

    Its rows may still wait in the journal of a writer that is gone.

    Args:
        wanted: What the logger asks for.
        loaded: The checkpoint.
        going_on: Whether the run is about to go on from it: then these rows are brought in, which ends the turn of
            whoever writes the run.

    Raises:
        ConfigError: If that is not known of any of its marks.
        RewindError: If the store fails.
    """
    if all(mark.opened for mark in loaded.marks):
        return loaded
    options = wanted.storage_options
    found = [settled(mark, wanted.storage, options) for mark in loaded.marks]
    going_on = going_on and wanted.fork_from is None and wanted.on_resume == "rewind"
    for index, mark in enumerate(loaded.marks):
        if found[index] is None and going_on and (mark.run == wanted.run or not wanted.named):
            for note in recover(wanted.storage, mark.run, journal_root(wanted.storage, mark.run), begin=True):
                notice.say(note)
            found[index] = settled(mark, wanted.storage, options)
    marks = tuple(mark for mark in found if mark is not None)
    if not marks and wanted.resume_from is None:  # which says where it stands
        raise unsettled(loaded.marks[0], loaded)
    return replace(loaded, marks=marks)


def resumed_run(wanted: Wanted) -> RunRef:
    """Return the run that `resume_from` names.

    Raises:
        RewindError: If it names none.
    """
    assert wanted.resume_from is not None
    return _find(wanted, wanted.resume_from, "resume_from").position.run


def choose(wanted: Wanted, loaded: Loaded) -> tuple[Mark | None, bool]:
    """Choose the mark of a checkpoint that is of the wanted run, and say whether its run lies in the wanted store."""
    if not loaded.marks:
        return None, False
    marks = loaded.in_order(wanted.run, wanted.index)
    here = [mark for mark in marks if is_in(mark, wanted.storage)]
    return (here[0], True) if here else (marks[0], False)


def _find(wanted: Wanted, given: Given, argument: str) -> Source:
    return find(
        given,
        argument,
        storage=wanted.storage,
        project=wanted.run.project,
        storage_options=wanted.storage_options,
    )


def _fork_as_asked(wanted: Wanted, source: Source, loaded: Loaded | None) -> Decision:
    """Fork from the place that was given; or go on with that fork, if the checkpoint is its own."""
    at, asked = source.position, shown(wanted.fork_from)
    if at.run == wanted.run and source.storage is None:
        raise ConfigError(
            f"fork_from={asked} is of {at.run} itself: give the fork another version, or use resume_from."
        )
    exists = claims.exists(wanted.storage, wanted.run)
    own = loaded is not None and any(mark.run == wanted.run and is_in(mark, wanted.storage) for mark in loaded.marks)
    if exists and own:
        assert loaded is not None
        mark = next(mark for mark in loaded.marks if mark.run == wanted.run)
        request = OpenRequest(at=mark.position, reason=f"resumed from {loaded}")
        return Decision(run=wanted.run, request=request, mark=mark)
    if loaded is None and not source.typed and not exists and wanted.attended:
        raise ConfigError(f"fork_from={asked} is a checkpoint that fit does not load: pass it as ckpt_path to fit too.")
    stands = None if loaded is None else _mark_at(loaded, at)
    if loaded is not None and stands is None:
        raise ConfigError(
            f"fork_from={asked} stands at {at}, and fit loads {loaded}, which stands at "
            f"{_standing(loaded)}: give both the same checkpoint."
        )
    reason = f"fork_from {asked}"
    if exists:
        _check_forked_from(wanted, wanted.run, at, source.storage)
    if exists and loaded is not None and at.next_step is not None:
        start = Position(wanted.run, None, at.next_step)
        request = OpenRequest(at=start, reason=f"resumed from {loaded}")
        return Decision(run=wanted.run, request=request, mark=stands)
    request = OpenRequest(at=at, typed=source.typed, reason=reason, source=source.storage)
    return Decision(run=wanted.run, request=request, mark=stands)


def _rewind_as_asked(wanted: Wanted, source: Source, loaded: Loaded | None) -> Decision:
    """Rewind to the place that was given; or go on after it, if a job that already did is started again."""
    at, asked = source.position, shown(wanted.resume_from)
    if source.storage is not None or (wanted.named and at.run != wanted.run):
        raise ConfigError(
            f"resume_from={asked} is of run {at.run}, and version names {wanted.run}: leave out version,"
            " or use fork_from."
        )
    reason = f"resume_from {asked}"
    request = OpenRequest(at=at, typed=source.typed, resume="must", reason=reason)
    stands = None if loaded is None else _mark_at(loaded, at)
    if loaded is None or not loaded.marks or stands is not None:
        return Decision(run=at.run, request=request, mark=stands)
    head = resolve(wanted.storage, at.run)
    for mark in loaded.marks:
        later = mark.run == at.run and mark.revision == head.revision and head.record.cut == at.next_step
        if later and at.next_step is not None and mark.next_step >= at.next_step:
            request = OpenRequest(at=mark.position, reason=f"resumed from {loaded}")
            return Decision(run=at.run, request=request, mark=mark)
    raise ConfigError(
        f"resume_from={asked} stands at {at}, and fit loads {loaded}, which stands at "
        f"{_standing(loaded)}: history and model would not agree. Leave out resume_from to rewind to the checkpoint."
    )


def _without_mark(wanted: Wanted, loaded: Loaded) -> Decision:
    """Resume from a checkpoint that was saved without this package."""
    if loaded.next_step is None:
        return Decision(
            run=wanted.run,
            request=OpenRequest(),
            notes=(f"{loaded} does not tell its step, so the history was not cut.",),
        )
    if wanted.on_resume == "error":
        raise ConfigError(
            f"fit resumed from {loaded}, which was saved without Rewind Logger, and on_resume='error' was given: fit"
            " without ckpt_path, or use on_resume='rewind' or 'fork'."
        )
    step = loaded.next_step - 1
    note = f"{loaded} was saved without Rewind Logger: by its loop state it stands at step {step}."
    run, at = wanted.run, None
    if claims.exists(wanted.storage, run):
        at = Position(run, None, loaded.next_step)
        if wanted.on_resume == "fork" and not _began_as_fork(wanted.storage, run):
            told = hashlib.sha256(f"{loaded} {loaded.next_step}".encode(errors="surrogatepass")).hexdigest()
            run = RunRef(run.project, f"{run.id}-fork-{told[:6]}")
            if claims.exists(wanted.storage, run):
                _check_forked_from(wanted, run, at, None)
                at = Position(run, None, loaded.next_step)
    request = OpenRequest(at=at, reason=f"resumed from {loaded}")
    return Decision(run=run, request=request, notes=(note,))


def _fork(wanted: Wanted, mark: Mark, here: bool, reason: str) -> Decision:
    """Fork from a checkpoint, into the named run or one that is named after the checkpoint.

    The same command finds the same fork again.
    """
    if here and mark.run == wanted.run and wanted.named and _began_as_fork(wanted.storage, wanted.run):
        return Decision(run=mark.run, request=OpenRequest(at=mark.position, reason=reason), mark=mark)
    run = wanted.run
    if not wanted.named or (here and mark.run == wanted.run):
        run = RunRef(wanted.run.project, f"{mark.run_id}-fork-{mark.nonce[:6]}")
    return _fork_into(wanted, run, mark, here, reason, None)


def _fork_into(wanted: Wanted, run: RunRef, mark: Mark, here: bool, reason: str, loaded: Loaded | None) -> Decision:
    """Fork from a mark into `run`, or go back to the start of that fork if it exists."""
    source = None
    if not here:
        source = own_store(mark, wanted.storage, wanted.storage_options)
        if source is None:
            note = (
                f"The checkpoint is of run {mark.run} in {mark.store}, which cannot be read: {run} begins without that"
                " history."
            )
            return Decision(run=run, request=OpenRequest(reason=reason), notes=(note,))
    if claims.exists(wanted.storage, run):
        try:
            _check_forked_from(wanted, run, mark.position, source)
        except RunExistsError:
            if loaded is None:
                raise
            raise RunExistsError(
                f"{loaded} is of run {mark.run}, and the logger names {run}, which is another run that exists: give the"
                f" logger version={mark.run_id!r} to rewind that run, or a new version to fork from it."
            ) from None
        request = OpenRequest(at=Position(run, None, mark.next_step), reason=reason)
        return Decision(run=run, request=request, mark=mark)
    request = OpenRequest(at=mark.position, reason=reason, source=source)
    return Decision(run=run, request=request, mark=mark)


def _began_as_fork(storage: Storage, run: RunRef) -> bool:
    first = claims.first(storage, run)
    return first is not None and first.source is not None


def _check_forked_from(wanted: Wanted, run: RunRef, at: Position, source: Storage | None) -> None:
    """Refuse a run that exists and is not the fork from this very position."""
    first = claims.first(wanted.storage, run)
    found = first.source if first is not None else None
    if found is None or not forking.is_from(found, at, source):
        begun = "is no fork" if found is None else f"was forked from {found.run}@{found.revision}, before {found.cut}"
        raise RunExistsError(f"Run {run} exists and {begun}: it cannot be forked from {at}. Give a new version.")


def _mark_at(loaded: Loaded, at: Position) -> Mark | None:
    """Return the mark that stands at a position."""
    return next((mark for mark in loaded.marks if _stands_at(mark, at)), None)


def _stands_at(mark: Mark, at: Position) -> bool:
    return mark.run == at.run and mark.next_step == at.next_step and at.revision in (None, mark.revision)


def _standing(loaded: Loaded) -> str:
    if loaded.marks:
        return ", ".join(map(str, loaded.marks))
    return (
        "an unknown step" if loaded.next_step is None else f"step {loaded.next_step - 1} of a run that it does not name"
    )


def _hint(wanted: Wanted) -> tuple[str, ...]:
    """Say how to resume, where a run without a given id begins beside runs that have checkpoints.

    Lightning looks for `ckpt_path="last"` in the new run's folder, finds nothing, and begins anew with a mere warning.
    """
    if wanted.named or not wanted.sought:
        return ()
    try:
        found = _with_checkpoints(wanted)
    except RewindError:  # a folder that may not be listed, or is a link to elsewhere: it is but a hint
        return ()
    if not found:
        return ()
    return (
        f"Project {wanted.run.project} has checkpoints of other runs: to resume one, name it, as in "
        f"version={found[-1]!r} with fit(ckpt_path='last'), or give fit the checkpoint's path.",
    )


def _with_checkpoints(wanted: Wanted) -> list[str]:
    """Return which of the project's newest runs have any."""
    project = wanted.run.project
    runs = [info.name for info in wanted.storage.list(project) if info.size is None and info.name != wanted.run.id]
    listings = wanted.storage.map_lists([f"{project}/{run}/checkpoints" for run in runs[-_LOOKED_AT:]])
    return [run for run, infos in zip(runs[-_LOOKED_AT:], listings, strict=True) if infos]


_LOOKED_AT = 32
"""Runs of a project in which checkpoints are looked for."""
