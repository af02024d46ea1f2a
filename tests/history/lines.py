"""A run in the fewest words, for tests: rows with one metric, written and read back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rewind_logger.history import reader
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.types import STREAMS, Position, RunRef, Scalar
from tests.format.strategies import exact_rows

RUN = RunRef("p", "a")

Line = list[tuple[int, Scalar]]
"""Steps and the value at each."""


def opened(storage: Storage, run: RunRef = RUN, *, background: bool = False, **request: Any) -> Writer:
    """Open a run with the arguments of an `OpenRequest`."""
    writer = Writer(storage, run, background=background)
    writer.open(OpenRequest(**request))
    return writer


def rewound(storage: Storage, next_step: int | None, revision: int | None = None, run: RunRef = RUN) -> Writer:
    """Open a run at an earlier place of its own; without a step: restore that revision."""
    return opened(storage, run, at=Position(run, revision, next_step))


def forked(
    storage: Storage, child: str, next_step: int | None, revision: int | None = None, of: RunRef = RUN, **request: Any
) -> Writer:
    """Open run p/`child` as a fork."""
    return opened(storage, RunRef("p", child), at=Position(of, revision, next_step), **request)


def log(writer: Writer, steps: Iterable[int], *, turn: int = 0) -> None:
    """Log a row a step, whose value says the step and the turn in which it was logged."""
    for step in steps:
        writer.append("metrics", {"a": value(step, turn)}, step)


def value(step: int, turn: int = 0) -> int:
    """Return what `log` gives a step."""
    return 1000 * turn + step


def line(steps: Iterable[int], *, turn: int = 0) -> Line:
    """Return what `log` leaves in a run."""
    return [(step, value(step, turn)) for step in steps]


def end(writer: Writer) -> None:
    """Finish the run and close the writer."""
    writer.finish("finished")
    writer.close()


def read(storage: Storage, revision: int | None = None, next_step: int | None = None, run: RunRef = RUN) -> Line:
    """Read what is visible of a run, in the order in which it was logged."""
    rows = reader.read_rows(storage, resolve(storage, run, revision, next_step), "metrics")
    return [(row.clock, row.values["a"]) for row in rows]


def exact(storage: Storage, revision: int | None = None, run: RunRef = RUN) -> list[object]:
    """Read every bit of a revision, of all its streams; row numbers are left out, which a merge of terms gives anew."""
    view = resolve(storage, run, revision)
    return [exact_rows(row._replace(row=0) for row in reader.read_rows(storage, view, stream)) for stream in STREAMS]
