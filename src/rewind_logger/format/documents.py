"""Claims, bases and the other small JSON documents of a run: dataclasses ⇄ bytes.

A document is one JSON object with `format`, its version, and `crc32`, the checksum of the same object without that key,
in the canonical form that `_canonical` writes.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rewind_logger.errors import CorruptError
from rewind_logger.format import names
from rewind_logger.format.version import FORMAT_VERSION, check_version
from rewind_logger.types import Entry, RevisionRecord, RunRef

T = TypeVar("T")

MAX_CLOCK = 2**62 + 2**61
"""Where a term can begin, and be cut, at most (inclusive): people name steps up to 2**62, and what is left of the range
of int64 is room for the steps that follow."""

MIN_TIME_MS, MAX_TIME_MS = -62_135_596_800_000, 253_402_300_799_999
"""The years 1 to 9999 (both inclusive), in milliseconds since 1970-01-01 UTC."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""What a terminal takes for a command, and what turns the direction of the text that follows."""

_SHOWN = 200
"""Characters of what a document holds that a message shows."""

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
    """What was done: opened, forked, recovered, or removed, which ends the run; all but the last for people."""
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
    begun: int = 0
    """The number of the run's first claim; larger than 0 where an earlier run of that name was removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """A shorter lineage with the same rows, for a base with a long one."""

    nonce: str
    """Of the base's term."""
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
            **({"begun": base.begun} if base.begun else {}),
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
    lineage, plan = _lineage_to_json(merge.lineage, run), _plan_to_json(merge.plan, run)
    return _encode({"nonce": merge.nonce, "lineage": lineage, "plan": plan})


def decode_merge(data: bytes, run: RunRef, path: str) -> Merge:
    """Return the record of merged ancestors in `data`; the same errors as `decode_claim`."""
    return _decode(
        data,
        path,
        "merge record",
        lambda fields: Merge(
            nonce=_nonce(fields["nonce"]), lineage=_lineage(fields["lineage"], run), plan=_plan(fields["plan"], run)
        ),
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
            state=_state(fields["state"]), next_step=_clock(fields["next_step"]), ended_ms=_time(fields["ended_ms"])
        ),
    )


def encode_alive(alive: Alive) -> bytes:
    """Return the bytes of a sign of life."""
    return _encode({"at_ms": alive.at_ms})


def decode_alive(data: bytes, path: str) -> Alive:
    """Return the sign of life in `data`; the same errors as `decode_claim`."""
    return _decode(data, path, "sign of life", lambda fields: Alive(at_ms=_time(fields["at_ms"])))


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
            kind=_shown(fields["kind"]),
            revision=_revision_number(fields["revision"]),
            next_step=_clock(fields["next_step"]),
            checkpoint=None if fields["checkpoint"] is None else _text(fields["checkpoint"]),
            created_ms=_time(fields["created_ms"]),
        ),
    )


def encode_removal(removal: Removal) -> bytes:
    """Return the bytes of what says that a run was removed."""
    return _encode({"at_ms": removal.at_ms, "host": removal.host})


def decode_removal(data: bytes, path: str) -> Removal:
    """Return what says that a run was removed; the same errors as `decode_claim`."""
    return _decode(
        data,
        path,
        "removal",
        lambda fields: Removal(at_ms=_int(fields["at_ms"]), host=_text(fields["host"])),
    )


def encode_trim(trim: Trim) -> bytes:
    """Return the bytes of what says that segments were removed."""
    return _encode({"cut": trim.cut})


def decode_trim(data: bytes, path: str) -> Trim:
    """Return what says that segments were removed; the same errors as `decode_claim`."""
    return _decode(data, path, "record of removed segments", lambda fields: Trim(cut=_int(fields["cut"])))


def encode_pin(child: RunRef) -> bytes:
    """Return the bytes of a pin, which tells a run that `child` was forked from it."""
    return _encode({"child": str(child)})


def decode_pin(data: bytes, path: str) -> str:
    """Return the child that a pin names; the same errors as `decode_claim`."""
    return _decode(data, path, "pin", lambda fields: _run(fields["child"]))


def _canonical(fields: Mapping[str, Any]) -> bytes:
    """Return the JSON text over which the checksum is taken: sorted keys, no white space, ASCII."""
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _encode(fields: dict[str, Any]) -> bytes:
    """Return a document of these fields, with its version and checksum."""
    fields["format"] = FORMAT_VERSION
    fields["crc32"] = zlib.crc32(_canonical(fields))
    return _canonical(fields)


def _decode(data: bytes, path: str, what: str, build: Callable[[dict[str, Any]], T]) -> T:
    """Check a document's checksum and version, then build a value of its fields.

    The checksum first: one that decayed is not taken for one of a newer version. Both stand at the same place in every
    version.
    """
    try:
        fields = json.loads(data.decode("ascii"), parse_constant=_refuse_constant)
        if not isinstance(fields, dict):
            raise ValueError("it is no JSON object")
        found = fields.pop("crc32", None)
        whole = found == zlib.crc32(_canonical(fields))
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"The {what} {path} cannot be read: {error}. Restore it from a backup.") from error
    if not whole:
        raise CorruptError(f"The {what} {path} is damaged: its checksum does not match. Restore it from a backup.")
    check_version(fields.get("format"), f"The {what} {path}")
    try:
        return build(fields)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CorruptError):
            raise
        shown = f"{type(error).__name__}: {str(error)[:_SHOWN]}"
        raise CorruptError(f"The {what} {path} is not what it should be ({shown}).") from error


def _refuse_constant(name: str) -> None:
    """Refuse the NaN and Infinity that Python reads and JSON has not."""
    raise ValueError(f"{name} is no JSON")


def _claim(fields: dict[str, Any]) -> Claim:
    source = fields["source"]
    return Claim(
        nonce=_nonce(fields["nonce"]),
        kind=_shown(fields["kind"]),
        created_ms=_time(fields["created_ms"]),
        host=_shown(fields["host"]),
        pid=_int(fields["pid"]),
        reason=_shown(fields["reason"]),
        source=None
        if source is None
        else Source(
            store=None if source["store"] is None else _shown(source["store"]),
            run=_run(source["run"]),
            revision=_revision_number(source["revision"]),
            cut=_clock(source["cut"]),
        ),
    )


def _base(fields: dict[str, Any], run: RunRef) -> Base:
    recovery = fields["recovery"]
    revisions = tuple(_revision(record, run) for record in fields["revisions"])
    _check_revisions(revisions, run)
    if _int(fields["revision"]) != len(revisions):
        raise ValueError(f"its revision is {fields['revision']}, and it knows {len(revisions)}")
    return Base(
        number=_count(fields["number"]),
        nonce=_nonce(fields["nonce"]),
        revision=len(revisions),
        start=_clock(fields["start"]),
        newest_clock=_clock(fields["newest_clock"], least=-1),
        lineage=_lineage(fields["lineage"], run),
        plan=_plan(fields["plan"], run),
        revisions=revisions,
        recovery=None
        if recovery is None
        else Recovery(nonce=_nonce(recovery["nonce"]), first=_seal(recovery["first"]), start=_clock(recovery["start"])),
        created_ms=_time(fields["created_ms"]),
        begun=_int(fields.get("begun", 0)),
    )


def _check_revisions(revisions: Sequence[RevisionRecord], run: RunRef) -> None:
    """Refuse revisions of which one is its own ancestor: whoever follows them would never come to an end."""
    for index, record in enumerate(revisions):
        if record.number != index + 1:
            raise ValueError(f"revision {index + 1} has the number {record.number}")
        if record.parent is not None and record.parent[0] == str(run) and record.parent[1] > index:
            raise ValueError(f"revision {record.number} is said to come from revision {record.parent[1]}")
    if not revisions:
        raise ValueError("it knows no revision")


def _lineage_to_json(lineage: tuple[Entry, ...], run: RunRef) -> list[dict[str, Any]]:
    return [
        {"folder": names.relative(entry.folder, run), "sealed": dict(entry.sealed), "cut": entry.cut}
        for entry in lineage
    ]


def _lineage(items: list[dict[str, Any]], run: RunRef) -> tuple[Entry, ...]:
    lineage = tuple(
        Entry(names.absolute(item["folder"], run), _seal(item["sealed"]), _optional_clock(item["cut"]))
        for item in items
    )
    if len({entry.folder for entry in lineage}) != len(lineage):
        raise ValueError("its lineage names a folder twice")
    return lineage


def _plan_to_json(plan: Plan, run: RunRef) -> dict[str, Any]:
    return {names.relative(folder, run): streams for folder, streams in plan.items()}


def _plan(fields: Mapping[str, Any], run: RunRef) -> Plan:
    return {
        names.absolute(folder, run): {_stream(stream): _planned(files) for stream, files in streams.items()}
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
        parent=None if parent is None else (_shown(parent[0]), _revision_number(parent[1])),
        cut=_optional_clock(fields["cut"]),
        created_ms=_time(fields["created_ms"]),
        reason=_shown(fields["reason"]),
        folder=None if folder is None else names.absolute(folder, run),
        sealed=_seal(fields["sealed"]),
    )


def _seal(fields: Mapping[str, Any]) -> dict[str, int]:
    return {_stream(stream): _count(flush) for stream, flush in fields.items()}


def _planned(files: Sequence[Sequence[Any]]) -> list[tuple[str, int]]:
    """Return the files of a plan, which follow one another: else a few bytes of it could have much read again."""
    planned = []
    after = -1
    for name, size in files:
        found = _segment_name(name)
        if found.first <= after:
            raise ValueError(f"{name!r} holds flushes that others before it hold")
        after = found.last
        planned.append((str(found), _count(size)))
    return planned


def _stream(value: object) -> str:
    """Refuse a stream that is no plain word: it becomes part of a path."""
    text = _text(value)
    if not names.is_stream(text):
        raise ValueError(f"{text!r} is no stream")
    return text


def _int(value: object) -> int:
    """Return an integer of 64 bits."""
    if type(value) is not int:
        raise TypeError(f"{str(value)!r} should be an integer")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{value} has more than 64 bits")
    return value


def _count(value: object) -> int:
    """Return a number of something, from 0 to 18 digits."""
    number = _int(value)
    if not 0 <= number < 10**18:
        raise ValueError(f"{number} is no number of anything")
    return number


def _revision_number(value: object) -> int:
    number = _count(value)
    if number == 0:
        raise ValueError("revisions are numbered from 1")
    return number


def _clock(value: object, least: int = 0) -> int:
    """Return a step, or the first step that is not kept."""
    clock = _int(value)
    if not least <= clock <= MAX_CLOCK:
        raise ValueError(f"{clock} is no step")
    return clock


def _optional_clock(value: object) -> int | None:
    return None if value is None else _clock(value)


def _time(value: object) -> int:
    """Return a time in milliseconds, of one of the years 1 to 9999."""
    time_ms = _int(value)
    if not MIN_TIME_MS <= time_ms <= MAX_TIME_MS:
        raise ValueError(f"{time_ms} is no time")
    return time_ms


def _run(value: object) -> str:
    """Refuse a name that no run can have: it becomes part of a path."""
    text = _text(value)
    names.parse_run(text)
    return text


def _state(value: object) -> str:
    if value not in ("finished", "failed"):
        raise ValueError(f"{str(value)!r} is no state")
    return str(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)!r} should be text")
    return value


def _nonce(value: object) -> str:
    """Refuse a nonce that is no plain word: it becomes part of a path."""
    text = _text(value)
    if not (text.isascii() and text.isalnum()):
        raise ValueError(f"{text!r} is no nonce")
    return text


def printable(text: str) -> str:
    r"""Return a text that is for people, without what a terminal would take for a command.

    Example:
        >>> print(printable("node7\x1b[2J"))
        node7\x1b[2J
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def _shown(value: object) -> str:
    return printable(_text(value))


def _segment_name(value: object) -> names.SegmentName:
    """Refuse a file name that is no segment's: it becomes part of a path."""
    text = _text(value)
    found = names.SegmentName.parse(text)
    if found is None:
        raise ValueError(f"{text!r} is no segment's name")
    return found
