"""Claims, bases and the other small JSON documents of a run: dataclasses ⇄ bytes.

A document is one JSON object with `format`, its version, and `crc32`, the checksum of the same object without that key,
in the canonical form that `_canonical` writes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rewind_logger.errors import CorruptError
from rewind_logger.format import names
from rewind_logger.format.version import FORMAT_VERSION, check_version
from rewind_logger.types import Entry, RevisionRecord, RunRef

T = TypeVar("T")

Plan = dict[str, dict[str, list[tuple[str, int]]]]
"""For a sealed folder, per stream the files to read, by name and size in bytes, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a fork begins: a position in another run."""

    run: str
    """`project/id`."""
    revision: int
    cut: int
    """The first step that is not kept (exclusive)."""
    store: str | None = None
    """The URL of the other store that the run lies in, from which the rows are copied; None: this one."""

    def __str__(self) -> str:
        where = "" if self.store is None else f"{self.store}/"
        return f"{where}{self.run}@{self.revision}?_step={self.cut - 1}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A writer's claim to a run. Claim `n + 1` ends the turn of the writer that made claim `n`."""

    nonce: str
    """Tells this claim from any other; also names the term's folder and its journal."""
    kind: str
    """What was done, for people: opened, forked or recovered."""
    created_ms: int
    host: str
    pid: int
    reason: str = ""
    source: Source | None = None
    """Of a fork's first claim: what whoever opens the run completes, should the fork be cut short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What a term took over from the journal of a writer that was killed."""

    nonce: str
    """The journal's name."""
    first: Mapping[str, int]
    """Per stream the first flush of the journal that this term holds, as its own flush 0."""
    start: int
    """The clock that rows get which were logged before theirs was known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The lineage of a term, written once by its owner."""

    number: int
    """Of its claim."""
    nonce: str
    revision: int
    start: int
    """The clock at which the term begins (inclusive): the position of this opening."""
    newest_clock: int = -1
    """No row of the lineage has a larger clock, but for what came by itself, which may stand one beyond."""
    lineage: tuple[Entry, ...]
    """The earlier folders that it builds on, oldest first, each sealed."""
    plan: Plan = field(default_factory=dict)
    """The files of those folders whose files were known when it was written; the others must be listed."""
    revisions: tuple[RevisionRecord, ...]
    """Every revision of the run so far; the last one is this term's."""
    recovery: Recovery | None = None
    created_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """A shorter lineage with the same rows, for a base with a long one."""

    lineage: tuple[Entry, ...]
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """A term's closing mark."""

    state: str
    """finished or failed."""
    next_step: int
    """One past the last step."""
    ended_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """A sign of life of a term's owner, for people to read."""

    at_ms: int


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


def encode_claim(claim: Claim) -> bytes:
    """Return the bytes of a claim."""
    source = claim.source
    return _encode(
        {
            "nonce": claim.nonce,
            "kind": claim.kind,
            "created_ms": claim.created_ms,
            "host": claim.host,
            "pid": claim.pid,
            "reason": claim.reason,
            "source": source
            and {"store": source.store, "run": source.run, "revision": source.revision, "cut": source.cut},
        }
    )


def decode_claim(data: bytes, path: str) -> Claim:
    """Return the claim in `data`.

    Raises:
        CorruptError: If it is none; the message names `path`.
        FormatVersionError: If a newer version of this package wrote it.
    """
    return _decode(data, path, "claim", _claim)


def encode_base(base: Base, run: RunRef) -> bytes:
    """Return the bytes of a base; folders within `run` are written relative to it."""
    recovery = base.recovery
    return _encode(
        {
            "number": base.number,
            "nonce": base.nonce,
            "revision": base.revision,
            "start": base.start,
            "newest_clock": base.newest_clock,
            "lineage": _lineage_to_json(base.lineage, run),
            "plan": _plan_to_json(base.plan, run),
            "revisions": [_revision_to_json(record, run) for record in base.revisions],
            "recovery": recovery and {"nonce": recovery.nonce, "first": dict(recovery.first), "start": recovery.start},
            "created_ms": base.created_ms,
        }
    )


def decode_base(data: bytes, run: RunRef, path: str) -> Base:
    """Return the base in `data`; the same errors as `decode_claim`."""
    return _decode(data, path, "base", lambda fields: _base(fields, run))


def encode_merge(merge: Merge, run: RunRef) -> bytes:
    """Return the bytes of a record of merged ancestors."""
    return _encode({"lineage": _lineage_to_json(merge.lineage, run), "plan": _plan_to_json(merge.plan, run)})


def decode_merge(data: bytes, run: RunRef, path: str) -> Merge:
    """Return the record of merged ancestors in `data`; the same errors as `decode_claim`."""
    return _decode(
        data,
        path,
        "merge record",
        lambda fields: Merge(lineage=_lineage(fields["lineage"], run), plan=_plan(fields["plan"], run)),
    )


def encode_end(end: End) -> bytes:
    """Return the bytes of a closing mark."""
    return _encode({"state": end.state, "next_step": end.next_step, "ended_ms": end.ended_ms})


def decode_end(data: bytes, path: str) -> End:
    """Return the closing mark in `data`; the same errors as `decode_claim`."""
    return _decode(
        data,
        path,
        "closing mark",
        lambda fields: End(
            state=_text(fields["state"]), next_step=_int(fields["next_step"]), ended_ms=_int(fields["ended_ms"])
        ),
    )


def encode_alive(alive: Alive) -> bytes:
    """Return the bytes of a sign of life."""
    return _encode({"at_ms": alive.at_ms})


def decode_alive(data: bytes, path: str) -> Alive:
    """Return the sign of life in `data`; the same errors as `decode_claim`."""
    return _decode(data, path, "sign of life", lambda fields: Alive(at_ms=_int(fields["at_ms"])))


def encode_evaluation(evaluation: Evaluation) -> bytes:
    """Return the bytes of what an evaluation says of itself."""
    return _encode(
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
    return _decode(
        data,
        path,
        "evaluation",
        lambda fields: Evaluation(
            kind=_text(fields["kind"]),
            revision=_int(fields["revision"]),
            next_step=_int(fields["next_step"]),
            checkpoint=None if fields["checkpoint"] is None else _text(fields["checkpoint"]),
            created_ms=_int(fields["created_ms"]),
        ),
    )


def encode_pin(child: RunRef) -> bytes:
    """Return the bytes of a pin, which tells a run that `child` was forked from it."""
    return _encode({"child": str(child)})


def decode_pin(data: bytes, path: str) -> str:
    """Return the child that a pin names; the same errors as `decode_claim`."""
    return _decode(data, path, "pin", lambda fields: _text(fields["child"]))


def _canonical(fields: Mapping[str, Any]) -> bytes:
    """Return the JSON text over which the checksum is taken: sorted keys, no white space, ASCII."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _encode(fields: dict[str, Any]) -> bytes:
    """Return a document of these fields, with its version and checksum."""
    fields["format"] = FORMAT_VERSION
    fields["crc32"] = zlib.crc32(_canonical(fields))
    return _canonical(fields)


def _decode(data: bytes, path: str, what: str, build: Callable[[dict[str, Any]], T]) -> T:
    """Check a document's version and checksum, then build a value of its fields."""
    try:
        fields = json.loads(data)
        if not isinstance(fields, dict):
            raise ValueError("it is no JSON object")
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"The {what} {path} cannot be read: {error}. Restore it from a backup.") from error
    check_version(fields.get("format"), f"The {what} {path}")
    found = fields.pop("crc32", None)
    if found != zlib.crc32(_canonical(fields)):
        raise CorruptError(f"The {what} {path} is damaged: its checksum does not match. Restore it from a backup.")
    try:
        return build(fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorruptError(f"The {what} {path} is not what it should be: {error!r}.") from error


def _claim(fields: dict[str, Any]) -> Claim:
    source = fields["source"]
    return Claim(
        nonce=_nonce(fields["nonce"]),
        kind=_text(fields["kind"]),
        created_ms=_int(fields["created_ms"]),
        host=_text(fields["host"]),
        pid=_int(fields["pid"]),
        reason=_text(fields["reason"]),
        source=None
        if source is None
        else Source(
            store=None if source["store"] is None else _text(source["store"]),
            run=_text(source["run"]),
            revision=_int(source["revision"]),
            cut=_int(source["cut"]),
        ),
    )


def _base(fields: dict[str, Any], run: RunRef) -> Base:
    recovery = fields["recovery"]
    return Base(
        number=_int(fields["number"]),
        nonce=_nonce(fields["nonce"]),
        revision=_int(fields["revision"]),
        start=_int(fields["start"]),
        newest_clock=_int(fields["newest_clock"]),
        lineage=_lineage(fields["lineage"], run),
        plan=_plan(fields["plan"], run),
        revisions=tuple(_revision(record, run) for record in fields["revisions"]),
        recovery=None
        if recovery is None
        else Recovery(nonce=_nonce(recovery["nonce"]), first=_seal(recovery["first"]), start=_int(recovery["start"])),
        created_ms=_int(fields["created_ms"]),
    )


def _lineage_to_json(lineage: tuple[Entry, ...], run: RunRef) -> list[dict[str, Any]]:
    return [
        {"folder": names.relative(entry.folder, run), "sealed": dict(entry.sealed), "cut": entry.cut}
        for entry in lineage
    ]


def _lineage(items: list[dict[str, Any]], run: RunRef) -> tuple[Entry, ...]:
    return tuple(
        Entry(names.absolute(item["folder"], run), _seal(item["sealed"]), _optional_int(item["cut"])) for item in items
    )


def _plan_to_json(plan: Plan, run: RunRef) -> dict[str, Any]:
    return {names.relative(folder, run): streams for folder, streams in plan.items()}


def _plan(fields: Mapping[str, Any], run: RunRef) -> Plan:
    return {
        names.absolute(folder, run): {
            stream: [(_segment_name(name), _int(size)) for name, size in files] for stream, files in streams.items()
        }
        for folder, streams in fields.items()
    }


def _revision_to_json(record: RevisionRecord, run: RunRef) -> dict[str, Any]:
    return {
        "number": record.number,
        "parent": record.parent,
        "cut": record.cut,
        "created_ms": record.created_ms,
        "reason": record.reason,
        "folder": record.folder and names.relative(record.folder, run),
        "sealed": dict(record.sealed),
    }


def _revision(fields: dict[str, Any], run: RunRef) -> RevisionRecord:
    parent, folder = fields["parent"], fields["folder"]
    return RevisionRecord(
        number=_int(fields["number"]),
        parent=None if parent is None else (_text(parent[0]), _int(parent[1])),
        cut=_optional_int(fields["cut"]),
        created_ms=_int(fields["created_ms"]),
        reason=_text(fields["reason"]),
        folder=None if folder is None else names.absolute(folder, run),
        sealed=_seal(fields["sealed"]),
    )


def _seal(fields: Mapping[str, Any]) -> dict[str, int]:
    return {_text(stream): _int(flush) for stream, flush in fields.items()}


def _int(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} should be an integer")
    return value


def _optional_int(value: object) -> int | None:
    return None if value is None else _int(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} should be text")
    return value


def _nonce(value: object) -> str:
    """Refuse a nonce that is no plain word: it becomes part of a path."""
    text = _text(value)
    if not (text.isascii() and text.isalnum()):
        raise ValueError(f"{text!r} is no nonce")
    return text


def _segment_name(value: object) -> str:
    """Refuse a file name that is no segment's: it becomes part of a path."""
    text = _text(value)
    if names.SegmentName.parse(text) is None:
        raise ValueError(f"{text!r} is no segment's name")
    return text
