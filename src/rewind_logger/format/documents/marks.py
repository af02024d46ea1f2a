"""Marks: what is told of a term, a run or an evaluation in a few words, beside its claims and bases.

Each says whose it is, and is refused in the place of another: a restore from a backup can mix objects up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rewind_logger.format import names
from rewind_logger.format.documents import checks
from rewind_logger.format.documents.envelope import check_place, decode, encode, own_nonce
from rewind_logger.format.names import RunPaths
from rewind_logger.types import RunRef


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A term's closing mark."""

    nonce: str
    """Of the term."""
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

    nonce: str
    """Of the term."""
    at_ms: int
    acknowledged: Mapping[str, int] = field(default_factory=dict)
    """As in `End`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """That a run was removed, or is about to be: whether it was, its claims tell."""

    run: RunRef
    at_ms: int
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trim:
    """That segments of a folder were removed which nothing that is left shows."""

    folder: str
    """Of a term, or of ancestors that it merged."""
    cut: int
    """None of whose rows had a smaller clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Of what the rows of an evaluation are the measure."""

    run: RunRef
    nonce: str
    """With the run it names the evaluation's folder."""
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
            "nonce": end.nonce,
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
            nonce=own_nonce(fields, path),
            state=_state(fields["state"]),
            next_step=checks.clock(fields["next_step"]),
            ended_ms=checks.time_ms(fields["ended_ms"]),
            acknowledged=checks.flushes(fields.get("acknowledged", {})),
        ),
    )


def encode_alive(alive: Alive) -> bytes:
    """Return the bytes of a sign of life."""
    return encode({"nonce": alive.nonce, "at_ms": alive.at_ms, "acknowledged": dict(alive.acknowledged)})


def decode_alive(data: bytes, path: str) -> Alive:
    """Return the sign of life in `data`; the same errors as `decode_claim`."""
    return decode(
        data,
        path,
        "sign of life",
        lambda fields: Alive(
            nonce=own_nonce(fields, path),
            at_ms=checks.time_ms(fields["at_ms"]),
            acknowledged=checks.flushes(fields.get("acknowledged", {})),
        ),
    )


def encode_removal(removal: Removal) -> bytes:
    """Return the bytes of what says that a run was removed."""
    return encode({"run": str(removal.run), "at_ms": removal.at_ms, "host": removal.host})


def decode_removal(data: bytes, path: str) -> Removal:
    """Return what says that a run was removed; the same errors as `decode_claim`."""
    return decode(
        data,
        path,
        "removal",
        lambda fields: Removal(
            run=_own_run(fields, lambda run: run.removed, path),
            at_ms=checks.integer(fields["at_ms"]),
            host=checks.text(fields["host"]),
        ),
    )


def encode_trim(trim: Trim) -> bytes:
    """Return the bytes of what says that segments were removed."""
    return encode({"folder": _within_run(trim.folder), "cut": trim.cut})


def decode_trim(data: bytes, path: str) -> Trim:
    """Return what says that segments were removed; the same errors as `decode_claim`."""
    return decode(data, path, "record of removed segments", lambda fields: _trim(fields, path))


def encode_evaluation(evaluation: Evaluation) -> bytes:
    """Return the bytes of what an evaluation says of itself."""
    return encode(
        {
            "run": str(evaluation.run),
            "nonce": evaluation.nonce,
            "kind": evaluation.kind,
            "revision": evaluation.revision,
            "next_step": evaluation.next_step,
            "checkpoint": evaluation.checkpoint,
            "created_ms": evaluation.created_ms,
        }
    )


def decode_evaluation(data: bytes, path: str) -> Evaluation:
    """Return what an evaluation says of itself; the same errors as `decode_claim`."""
    return decode(data, path, "evaluation", lambda fields: _evaluation(fields, path))


def encode_pin(child: RunRef, parent: RunRef, nonce: str) -> bytes:
    """Return the bytes of a pin, which tells `parent` that `child` was forked from it, by a claim of that nonce."""
    return encode({"run": str(parent), "nonce": nonce, "child": str(child)})


def decode_pin(data: bytes, path: str) -> str:
    """Return the child that a pin names; the same errors as `decode_claim`."""
    return decode(data, path, "pin", lambda fields: _pin(fields, path))


def _trim(fields: Mapping[str, Any], path: str) -> Trim:
    folder = path.rpartition("/")[0]
    said = checks.text(fields["folder"])
    check_place(said == _within_run(folder), f"the folder {said!r}")
    return Trim(folder=folder, cut=checks.integer(fields["cut"]))


def _evaluation(fields: Mapping[str, Any], path: str) -> Evaluation:
    nonce = checks.nonce(fields["nonce"])
    return Evaluation(
        run=_own_run(fields, lambda run: names.about(run.evaluation(nonce)), path),
        nonce=nonce,
        kind=checks.shown(fields["kind"]),
        revision=checks.revision_number(fields["revision"]),
        next_step=checks.clock(fields["next_step"]),
        checkpoint=None if fields["checkpoint"] is None else checks.text(fields["checkpoint"]),
        created_ms=checks.time_ms(fields["created_ms"]),
    )


def _pin(fields: Mapping[str, Any], path: str) -> str:
    nonce = checks.nonce(fields["nonce"])
    _own_run(fields, lambda run: run.pin(nonce), path)
    return checks.run(fields["child"])


def _own_run(fields: Mapping[str, Any], place: Callable[[RunPaths], str], path: str) -> RunRef:
    """Return the run that a document names; it has to lie there, at its own place."""
    run = RunRef.split(checks.run(fields["run"]))
    where = place(RunPaths(run))
    check_place(where == path, where)
    return run


def _within_run(folder: str) -> str:
    """Write the folder of a term such that the run may be moved as a whole."""
    return f"./t/{folder.rpartition('/t/')[2]}"


def _state(value: object) -> str:
    if value not in ("finished", "failed"):
        raise ValueError(f"{str(value)!r} is no state")
    return str(value)
