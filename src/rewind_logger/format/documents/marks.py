"""Marks: what is told of a term, a run or an evaluation in a few words, beside its claims and bases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rewind_logger.format.documents import checks
from rewind_logger.format.documents.envelope import decode, encode
from rewind_logger.types import RunRef


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A term's closing mark."""

    state: str
    """finished or failed."""
    next_step: int
    """One past the last step."""
    ended_ms: int
    acknowledged: Mapping[str, int] = field(default_factory=dict)
    """Per stream the last flush that was acknowledged by then (inclusive); more may follow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """A sign of life of a term's owner, for people to read."""

    at_ms: int
    acknowledged: Mapping[str, int] = field(default_factory=dict)
    """As in `End`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """That a run was removed, or is about to be: whether it was, its claims tell."""

    at_ms: int
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trim:
    """That segments of a folder were removed which nothing that is left shows."""

    cut: int
    """None of whose rows had a smaller clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Of what the rows of an evaluation are the measure."""

    kind: str
    """validate or test."""
    revision: int
    next_step: int
    """The position that was evaluated (exclusive)."""
    checkpoint: str | None
    """The path or URL of the checkpoint that was loaded, None where none was."""
    created_ms: int


def encode_end(end: End) -> bytes:
    """Return the bytes of a closing mark."""
    return encode(
        {
            "state": end.state,
            "next_step": end.next_step,
            "ended_ms": end.ended_ms,
            "acknowledged": dict(end.acknowledged),
        }
    )


def decode_end(data: bytes, path: str) -> End:
    """Return the closing mark in `data`; the same errors as `decode_claim`."""
    return decode(
        data,
        path,
        "closing mark",
        lambda fields: End(
            state=_state(fields["state"]),
            next_step=checks.clock(fields["next_step"]),
            ended_ms=checks.time_ms(fields["ended_ms"]),
            acknowledged=checks.flushes(fields.get("acknowledged", {})),
        ),
    )


def encode_alive(alive: Alive) -> bytes:
    """Return the bytes of a sign of life."""
    return encode({"at_ms": alive.at_ms, "acknowledged": dict(alive.acknowledged)})


def decode_alive(data: bytes, path: str) -> Alive:
    """Return the sign of life in `data`; the same errors as `decode_claim`."""
    return decode(
        data,
        path,
        "sign of life",
        lambda fields: Alive(
            at_ms=checks.time_ms(fields["at_ms"]), acknowledged=checks.flushes(fields.get("acknowledged", {}))
        ),
    )


def encode_removal(removal: Removal) -> bytes:
    """Return the bytes of what says that a run was removed."""
    return encode({"at_ms": removal.at_ms, "host": removal.host})


def decode_removal(data: bytes, path: str) -> Removal:
    """Return what says that a run was removed; the same errors as `decode_claim`."""
    return decode(
        data,
        path,
        "removal",
        lambda fields: Removal(at_ms=checks.integer(fields["at_ms"]), host=checks.text(fields["host"])),
    )


def encode_trim(trim: Trim) -> bytes:
    """Return the bytes of what says that segments were removed."""
    return encode({"cut": trim.cut})


def decode_trim(data: bytes, path: str) -> Trim:
    """Return what says that segments were removed; the same errors as `decode_claim`."""
    return decode(data, path, "record of removed segments", lambda fields: Trim(cut=checks.integer(fields["cut"])))


def encode_evaluation(evaluation: Evaluation) -> bytes:
    """Return the bytes of what an evaluation says of itself."""
    return encode(
        {
            "kind": evaluation.kind,
            "revision": evaluation.revision,
            "next_step": evaluation.next_step,
            "checkpoint": evaluation.checkpoint,
            "created_ms": evaluation.created_ms,
        }
    )


def decode_evaluation(data: bytes, path: str) -> Evaluation:
    """Return what an evaluation says of itself; the same errors as `decode_claim`."""
    return decode(
        data,
        path,
        "evaluation",
        lambda fields: Evaluation(
            kind=checks.shown(fields["kind"]),
            revision=checks.revision_number(fields["revision"]),
            next_step=checks.clock(fields["next_step"]),
            checkpoint=None if fields["checkpoint"] is None else checks.text(fields["checkpoint"]),
            created_ms=checks.time_ms(fields["created_ms"]),
        ),
    )


def encode_pin(child: RunRef) -> bytes:
    """Return the bytes of a pin, which tells a run that `child` was forked from it."""
    return encode({"child": str(child)})


def decode_pin(data: bytes, path: str) -> str:
    """Return the child that a pin names; the same errors as `decode_claim`."""
    return decode(data, path, "pin", lambda fields: checks.run(fields["child"]))


def _state(value: object) -> str:
    if value not in ("finished", "failed"):
        raise ValueError(f"{str(value)!r} is no state")
    return str(value)
