"""The mark: what a checkpoint says of the run that was logging when it was saved.

Plain values under `checkpoint["rewind_logger"]`, so that `torch.load(weights_only=True)` takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rewind_logger.errors import CorruptError, FormatVersionError
from rewind_logger.format.documents import MAX_CLOCK
from rewind_logger.format.run_names import parse_run
from rewind_logger.types import Position, RunRef

KEY = "rewind_logger"
"""Under which a checkpoint holds its marks."""

MARK_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Where one run stood when a checkpoint was saved."""

    nonce: str
    """Tells this checkpoint from any other; the run's list of checkpoints has it too."""
    store: str
    """The URL of the store, without credentials. It may have been moved since: `claim` tells."""
    project: str
    run_id: str
    revision: int
    claim: int
    """The number of the claim with which the writer owned the run …"""
    claim_nonce: str
    """… and that claim's nonce, by which the run is recognised in a store that was moved."""
    next_step: int
    """The position: the first step that the checkpoint does not contain."""
    row_pending: bool
    """Whether Lightning may log a row of the checkpoint's own step after the save, and never again."""
    opened: bool = True
    """Whether the run was open. If not, since its store was away, nobody knew its revision or claim, and `claim_nonce`
    is that of the journal in which its rows waited: `marked.settled` finds out where these came."""
    counted: bool = False
    """Whether `next_step` is counted from where the run was then opened."""

    @property
    def run(self) -> RunRef:
        """The run."""
        return RunRef(self.project, self.run_id)

    @property
    def position(self) -> Position:
        """The position to go back to."""
        return Position(self.run, self.revision, self.next_step)

    def __str__(self) -> str:
        """Return the position as a person writes it."""
        return f"{self.run}@{self.revision}?_step={self.next_step - 1}"


def write(checkpoint: dict[str, Any], marks: list[Mark]) -> None:
    """Put marks into a checkpoint that is about to be saved."""
    checkpoint[KEY] = {"version": MARK_VERSION, "marks": [asdict(mark) for mark in marks]}


def read(checkpoint: Mapping[str, Any]) -> list[Mark]:
    """Return the marks of a checkpoint, in the order of the trainer's loggers; none where it has none.

    Raises:
        CorruptError: If what it holds is no mark.
        FormatVersionError: If a newer version of this package wrote it.
    """
    held = checkpoint.get(KEY)
    if held is None:
        return []
    try:
        version = held["version"]
        if type(version) is int and version > MARK_VERSION:
            raise FormatVersionError(
                f"The checkpoint was marked by a newer version of rewind-logger (format {version}, this one reads up "
                f"to {MARK_VERSION}): upgrade it with `pip install -U rewind-logger`."
            )
        return [_mark(fields) for fields in held["marks"]]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise CorruptError(
            f"What the checkpoint holds under {KEY!r} is no mark of Rewind Logger: {error!r}."
        ) from error


def _mark(fields: Mapping[str, Any]) -> Mark:
    known = {name: fields[name] for name in Mark.__dataclass_fields__}
    for name, field in Mark.__dataclass_fields__.items():
        wanted = {"str": str, "int": int, "bool": bool}[str(field.type)]
        if type(known[name]) is not wanted:
            raise TypeError(f"{name} is no {field.type}")
    if not all(0 <= known[name] <= MAX_CLOCK for name in ("revision", "claim", "next_step")):
        raise ValueError("it names a place that no run has")
    parse_run(f"{known['project']}/{known['run_id']}")
    return Mark(**known)
