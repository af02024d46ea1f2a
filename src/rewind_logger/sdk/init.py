"""`init`: open a run for writing."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Iterable, Mapping
from typing import Any

from rewind_logger.errors import ConfigError, FencedError, StorageError, TransientStorageError
from rewind_logger.history import opening
from rewind_logger.history.opening import OpenRequest
from rewind_logger.sdk import current, open_runs
from rewind_logger.sdk.absent import check_arguments
from rewind_logger.sdk.metadata import Labels, config_of
from rewind_logger.sdk.modes import Mode, check_mode, what_of_earlier
from rewind_logger.sdk.run import Run
from rewind_logger.sdk.run_spec import OnBackwardStep, RunSpec
from rewind_logger.sdk.source import Given
from rewind_logger.sdk.target import Resume, target
from rewind_logger.storage import Storage, open_storage
from rewind_logger.types import RunRef

STORE = "REWIND_LOGGER_STORE"
"""The environment variable that names the store where `init` is not told."""

DEFAULT_STORE = "./rewind_logs"


def init(
    project: str | None = None,
    entity: str | None = None,
    dir: str | os.PathLike[str] | None = None,
    id: str | None = None,
    name: str | None = None,
    config: object = None,
    tags: Iterable[str] | None = None,
    notes: str | None = None,
    group: str | None = None,
    job_type: str | None = None,
    resume: Resume | None = None,
    resume_from: Given | None = None,
    fork_from: Given | None = None,
    step: int | None = None,
    mode: Mode | None = None,
    on_backward_step: OnBackwardStep = "keep",
    console: bool = True,
    system_metrics: bool = True,
    storage_options: Mapping[str, Any] | None = None,
    **others: Any,
) -> Run:
    """Open a run: a new one, or one that goes on, goes back, or branches off.

    Without `resume`, `resume_from` or `fork_from` a run of this `id` is gone on with where it ends, if it exists.

    If the store is away, such a run is opened when it is back. Until then it takes itself for new, and its rows wait on
    this machine. Should it turn out to exist, steps that it counted itself go on from its end; steps that were given
    stay what they are, but for those that lie before its end, which are kept there as steps that run backwards are.

    Args:
        project: The project; "default" if it is not given.
        entity: Who the project belongs to, if it lies under someone.
        dir: The store: a folder, or a URL such as `s3://bucket/prefix`. If it is not given, what the environment
            variable REWIND_LOGGER_STORE names, or `./rewind_logs`.
        id: The run's id, which never changes; one is made up if it is not given.
        name: What people call the run. Kept from before, like tags, notes, group and job_type, if it is not given; a
            fork inherits none of these.
        config: A dict, a dataclass or an `argparse.Namespace`. Its keys win over those of before, others stay.
            What JSON has not becomes text, NaN and the infinities too: `float("inf")` is read back as "inf".
        tags: Texts to find the run by.
        notes: A text about the run.
        group: Which runs it belongs to.
        job_type: What kind of job it is, such as "train".
        resume: "must": the run has to exist. "never": it must not. "allow" (or True): as without.
        resume_from: Go back in a run: `run?_step=N` keeps step N and everything before it, what followed is archived.
            `run?_step=-1` keeps nothing, `run@1` makes an archived revision the present one again. Or the path of a
            checkpoint; or the id or name of a run, with `step`.
        fork_from: Begin a new run from a place in another: the same texts, or a run that was read from any store
            (`open_store(url).run("project/id?_step=500")`, whose rows are copied if the store is another one). With
            the `id` of a fork from that very place, the fork is gone on with.
        step: The last step to keep (inclusive), beside `resume_from` or `fork_from`.
        mode: "disabled" runs the script without writing anything. "online" and "offline" change nothing, for a local
            store is written without a network; "offline" is refused with a remote one.
        on_backward_step: What `log` does about a step before the present one: "keep" the row at the present step, or
            "error".
        console: Whether to record what the process prints.
        system_metrics: Whether to record how processor, memory, disk, network and GPUs are used.
        storage_options: What fsspec's backend for the store takes, such as credentials or an endpoint.

        **others: Further arguments of W&B's. `reinit` says what becomes of the run that was opened last: it stays open,
            but for True or "finish_previous", which finish it, and "return_previous", which returns it. What asks for
            something that is absent here is refused with a word on what to do instead.

    Returns:
        The run, open. It is finished by `finish`, by leaving its `with` block, or at the end of the process.

    Raises:
        ConfigError: If an argument or a combination of them is not allowed.
        PositionError: If the place to go back to is none; the message names the last step that there is.
        RunNotFoundError: If a run that must exist does not.
        RunExistsError: If a run that must not exist does, or is another fork.
        StorageError: If the store refuses; or if it is away, and the run is to be rewound, forked, or must or must not
            exist.
    """
    reinit = others.pop("reinit", None)
    check_arguments(others, _NAMES)
    if on_backward_step not in ("keep", "error"):
        raise ConfigError(f"on_backward_step={on_backward_step!r}: use 'keep' or 'error'.")
    labels = Labels(name=name, tags=tags, notes=notes, group=group, job_type=job_type)  # type: ignore[arg-type]
    disabled = mode == "disabled"
    storage = open_storage(
        "memory://rewind-logger-disabled" if disabled else dir or os.environ.get(STORE) or DEFAULT_STORE,
        None if disabled else storage_options,
    )
    check_mode(mode, storage)
    values = config_of(config)
    asked, last = what_of_earlier(reinit), current.run()
    if last is not None and asked == "return":
        return last
    ending = last if asked == "finish" else None
    if ending is not None:
        with contextlib.suppress(FencedError, StorageError):  # its end says so
            ending.flush()  # where to begin may be asked of its rows
    ref, request = target(
        None if disabled else storage,
        project=project,
        entity=entity,
        id=id,
        resume=resume,
        resume_from=resume_from,
        fork_from=fork_from,
        step=step,
        storage_options=storage_options,
    )
    spec = RunSpec(
        storage=storage,
        run=ref,
        config=values,
        labels=labels,
        on_backward_step=on_backward_step,
        disabled=disabled,
        environment=True,
        console=console,
        system_metrics=system_metrics,
    )
    earlier = open_runs.get(storage.url, ref)
    if earlier is not None:
        # One run has one writer, so that one ends before this one begins; but not for an opening that is refused.
        if not disabled:
            _check(storage, ref, request, earlier)
        earlier.finish()
    if request.at is not None:
        parent = open_runs.get((request.source or storage).url, request.at.run)
        if parent is not None:
            parent.flush()  # what this very process logged there can be forked from
    run = Run(spec)
    try:
        run._open(request)
    except TransientStorageError as error:
        if request.at is not None or request.resume != "allow":
            run._writer.close()
            raise TransientStorageError(f"{error} {_NEEDED}") from error
        run._open_later(request, error)
    except BaseException:
        run._writer.close()
        raise
    current.enter(run)
    if ending is not None:
        ending.finish()
    return run


def _check(storage: Storage, ref: RunRef, request: OpenRequest, earlier: open_runs.OpenRun) -> None:
    """Refuse what the opening of a run would refuse that this process has open, with all that was logged to it.

    Raises:
        RewindError: As `history.opening.open_run` does.
    """
    try:
        earlier.flush()
        opening.check(storage, ref, request)
    except FencedError:  # it was said when it happened
        opening.check(storage, ref, request)
    except TransientStorageError as error:
        if request.at is not None or request.resume != "allow":
            raise TransientStorageError(f"{error} {_NEEDED}") from error


_NEEDED = (
    "A run that is begun, or gone on with where it ends, can do without its store for a while; to go back in one, to"
    " fork it, or to know whether it exists, the store has to answer: try again then."
)

_NAMES = (*(name for name in inspect.signature(init).parameters if name != "others"), "reinit")
