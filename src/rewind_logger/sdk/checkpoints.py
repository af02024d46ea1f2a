"""The checkpoints that a run marks, as rows of the stream `checkpoints`.

A save is one row with the value `mark`, JSON text with the checkpoint's nonce, next_step, global_step, epoch, score,
monitor and path. What becomes known later comes in further rows, with the value `path`: JSON text with the nonce and
what is new, which may be `loaded`: from where it was loaded, if nothing told where it was saved. A path that begins
with `./` is relative to the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rewind_logger.errors import CorruptError
from rewind_logger.sdk import told
from rewind_logger.types import Row


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was saved while the run was logged."""

    path: str | None
    """Where it was saved, or loaded from: a path or URL that can be opened; None as far as that is not known."""
    next_step: int
    """The first training step that is done after it is loaded: it is the position `?_step=next_step - 1`."""
    global_step: int | None
    """The trainer's own count."""
    epoch: int | None
    score: float | None
    """The monitored value."""
    monitor: str | None
    """The metric that was monitored."""
    revision: int | None
    """The revision of the run that was being logged."""


def checkpoints(rows: Iterable[Row], store: str) -> list[Checkpoint]:
    """Return the checkpoints of these rows, in the order in which they were saved.

    Args:
        rows: Of the stream.
        store: The URL of the store they were read from, against which paths within it are resolved.

    Raises:
        CorruptError: If a row is not as described above.
    """
    marks: dict[str, dict[str, Any]] = {}
    found: dict[str, Checkpoint] = {}
    for row in rows:
        for name, text in row.values.items():
            try:
                if name not in ("mark", "path"):
                    continue
                fields: dict[str, Any] = told.loads(text)
                nonce = told.text(fields["nonce"])
                if name == "mark":
                    marks.setdefault(nonce, {}).update(fields)
                elif nonce in marks:
                    marks[nonce].update({key: value for key, value in fields.items() if value is not None})
                else:
                    continue
                found[nonce] = _checkpoint(marks[nonce], store)
            except (TypeError, LookupError, ValueError, AttributeError, OverflowError) as error:
                raise CorruptError(
                    f"A checkpoint of step {row.clock} has a {name} that is damaged: {error}."
                ) from error
    return list(found.values())


def _checkpoint(mark: Mapping[str, Any], store: str) -> Checkpoint:
    """Return what is known of one, or raise a ValueError or its like."""
    score = mark.get("score")
    return Checkpoint(
        path=_resolved(told.optional_text(mark.get("path") or mark.get("loaded")), store),
        next_step=told.whole(mark["next_step"]),
        global_step=told.optional_whole(mark.get("global_step")),
        epoch=told.optional_whole(mark.get("epoch")),
        score=None if score is None else float(score),
        monitor=told.optional_text(mark.get("monitor")),
        revision=told.optional_whole(mark.get("revision")),
    )


def _resolved(path: str | None, store: str) -> str | None:
    """Return a path that can be opened."""
    return f"{store.rstrip('/')}/{path[2:]}" if path is not None and path.startswith("./") else path
