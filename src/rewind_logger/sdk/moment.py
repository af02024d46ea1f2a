"""Moments: the grammar in which a person names a run, one of its revisions, or a step of it."""

from __future__ import annotations

import operator
import os
import re
from dataclasses import dataclass
from typing import NoReturn

from rewind_logger.errors import PositionError
from rewind_logger.format.run_names import check_name
from rewind_logger.format.wording import kind_of
from rewind_logger.storage.redact import public_text
from rewind_logger.types import Position, RunRef

FROM_THE_BEGINNING = -1
"""The step that keeps nothing: a run rewound to it begins anew at step 0."""

MAX_STEP = 2**62
"""Clocks are stored as int64; half of its range leaves room for the steps that follow."""

FORM = "[[entity/]project/]run[@revision][?_step=N]"
"""The grammar, for messages."""

_WHOLE_NUMBER = re.compile(r"-?[0-9]+")
_SHOWN = 200
_REVISION = re.compile(r"[1-9][0-9]{0,17}")


@dataclass(frozen=True, slots=True)
class Moment:
    """What a person typed to name a place in the history of a run.

    Example:
        >>> parse("vision/digits/r1@2?_step=499")
        Moment(run='r1', project='digits', entity='vision', revision=2, step=499)
        >>> str(parse("r1?_step=0")), parse("r1?_step=0").next_step
        ('r1?_step=0', 1)
    """

    run: str
    """The run's id, or its display name where the caller allows one."""
    project: str | None = None
    entity: str | None = None
    revision: int | None = None
    """From 1; None: the present one."""
    step: int | None = None
    """The last training step that is kept (inclusive), as W&B counts; -1 keeps nothing, None all there is."""

    def __str__(self) -> str:
        """Return the text that `parse` reads back to the same moment."""
        run = "/".join(part for part in (self.entity, self.project, self.run) if part is not None)
        revision = "" if self.revision is None else f"@{self.revision}"
        step = "" if self.step is None else f"?_step={self.step}"
        return run + revision + step

    @property
    def next_step(self) -> int | None:
        """The first training step that is *not* kept (exclusive); None: all are."""
        return None if self.step is None else self.step + 1

    def position(self, project: str) -> Position:
        """Return the position that is meant, within `project` (`entity/project`) where the moment names none."""
        if self.project is not None:
            project = self.project if self.entity is None else f"{self.entity}/{self.project}"
        return Position(RunRef(project, self.run), self.revision, self.next_step)


def parse(text: str) -> Moment:
    """Read a moment: `run`, `run@2`, `run?_step=N`, `project/run?_step=N`, `entity/project/run@2?_step=N`.

    Args:
        text: What a person typed. `?_step=N` names the last step that is kept (inclusive); -1 keeps nothing.

    Returns:
        The moment, checked as far as that can be done without looking into a store.

    Raises:
        PositionError: If the text is none of these forms; the message says what is wrong, and the right form.
        ConfigError: If a name in it cannot be one.
    """
    if not isinstance(text, str):
        raise PositionError(f"{text!r} is {kind_of(text)}; name a place in a run by text such as {FORM}.")
    if "#" in text:
        _refuse(text, "holds '#', which has no meaning here")
    path, question, query = text.partition("?")
    step = _parse_query(text, path, query) if question else None
    path, at, revision = path.partition("@")
    if at and not _REVISION.fullmatch(revision):
        shown = f"the revision {_shortened(revision)!r}" if revision else "no revision after '@'"
        _refuse(text, f"names {shown}: revisions are numbered 1, 2, 3, …")
    parts = path.split("/")
    if len(parts) > 3:
        _refuse(text, f"has {len(parts)} parts between slashes: an entity, a project and a run are all there is")
    if not path:
        _refuse(text, "names no run")
    return Moment(
        run=check_name("run id", parts[-1]),
        project=check_name("project", parts[-2]) if len(parts) > 1 else None,
        entity=check_name("entity", parts[0]) if len(parts) > 2 else None,
        revision=int(revision) if at else None,
        step=step,
    )


def check_step(step: object, where: str) -> int:
    """Return a step that a person gave beside a moment, or refuse it.

    Args:
        step: The last training step that is kept (inclusive), a whole number; -1 keeps nothing.
        where: What the step was given with, for the message.

    Raises:
        PositionError: If it is no whole number, or less than -1.
    """
    try:
        if isinstance(step, bool):
            raise TypeError
        number = operator.index(step)  # type: ignore[arg-type]
    except TypeError:
        raise PositionError(f"{where}: step={step!r} is {kind_of(step)}, not a whole number. {_RANGE}") from None
    if not FROM_THE_BEGINNING <= number <= MAX_STEP:
        raise PositionError(f"{where}: step={number} is no step. {_RANGE}")
    return number


def is_checkpoint(source: str | os.PathLike[str]) -> bool:
    """Tell the path of a checkpoint from a moment.

    A checkpoint is what is given as a path object, ends in `.ckpt`, is a URL, or is a file that exists. A folder is
    none (those of a store are called as its runs are), unless its name ends in `.ckpt` as that of a sharded checkpoint.
    """
    if not isinstance(source, str):
        return isinstance(source, os.PathLike)
    return source.endswith(".ckpt") or "://" in source or os.path.isfile(source)


_RANGE = "Give the last step to keep, a whole number from 0 on (-1 keeps nothing: from the beginning)."


def _parse_query(text: str, run: str, query: str) -> int:
    """Read what follows `?`, which is `_step=N` and nothing else."""
    settings = [setting.partition("=") for setting in query.split("&")]
    for name, _, _ in settings:
        if name and name != "_step":
            _refuse(
                text,
                f"names the metric {name!r}. Runs are cut on the training step `_step` and on nothing else: it only "
                "ever grows, while a metric with an axis of its own may run backwards",
            )
    if len(settings) > 1:
        _refuse(text, "gives more than one step")
    name, equals, number = settings[0]
    if not name or not equals or not number:
        _refuse(text, "gives no step after '?'")
    if not _WHOLE_NUMBER.fullmatch(number):
        _refuse(text, f"gives {_describe(number)}. {_RANGE} For instance {run or 'run'}?_step=499")
    # Python refuses to read thousands of digits.
    if len(number) > len(str(MAX_STEP)) or not FROM_THE_BEGINNING <= int(number) <= MAX_STEP:
        _refuse(
            text,
            f"gives the step {_shortened(number)}, and there is none such. {_RANGE} For instance"
            f" {run or 'run'}?_step=499",
        )
    return int(number)


def _describe(number: str) -> str:
    """Say what it is that is given as a step and is no whole number."""
    try:
        value = float(number)
    except ValueError:
        return f"the step {number!r}, which is no number"
    if value != value:
        return f"the step {number!r}, which is not a number"
    return f"the step {number!r}, and steps are written as whole numbers"


def _refuse(text: str, what: str) -> NoReturn:
    """Raise the error for a text that is no moment."""
    raise PositionError(f"{_shortened(public_text(text))!r} {what}. The form is {FORM}.")


def _shortened(text: str) -> str:
    """Return a text that a message can show."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
