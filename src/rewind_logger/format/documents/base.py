"""Bases, which say what a term builds on, and the merges that shorten them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rewind_logger.format import names
from rewind_logger.format.documents import checks
from rewind_logger.format.documents.envelope import decode, encode, own_nonce
from rewind_logger.types import Entry, RevisionRecord, RunRef

Plan = dict[str, dict[str, list[tuple[str, int]]]]
"""For a sealed folder, per stream the files to read, by name and size in bytes, in order."""


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


def encode_base(base: Base, run: RunRef) -> bytes:
    """Return the bytes of a base; folders within `run` are written relative to it."""
    recovery = base.recovery
    return encode(
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
    return decode(data, path, "base", lambda fields: _base(fields, run))


def encode_merge(merge: Merge, run: RunRef) -> bytes:
    """Return the bytes of a record of merged ancestors."""
    lineage, plan = _lineage_to_json(merge.lineage, run), _plan_to_json(merge.plan, run)
    return encode({"nonce": merge.nonce, "lineage": lineage, "plan": plan})


def decode_merge(data: bytes, run: RunRef, path: str) -> Merge:
    """Return the record of merged ancestors in `data`; the same errors as `decode_claim`."""
    return decode(
        data,
        path,
        "merge record",
        lambda fields: Merge(
            nonce=own_nonce(fields, path),
            lineage=_lineage(fields["lineage"], run),
            plan=_plan(fields["plan"], run),
        ),
    )


def _base(fields: dict[str, Any], run: RunRef) -> Base:
    recovery = fields["recovery"]
    revisions = tuple(_revision(record, run) for record in fields["revisions"])
    _check_revisions(revisions, run)
    if checks.integer(fields["revision"]) != len(revisions):
        raise ValueError(f"its revision is {fields['revision']}, and it knows {len(revisions)}")
    return Base(
        number=checks.count(fields["number"]),
        nonce=checks.nonce(fields["nonce"]),
        revision=len(revisions),
        start=checks.clock(fields["start"]),
        newest_clock=checks.clock(fields["newest_clock"], least=-1),
        lineage=_lineage(fields["lineage"], run),
        plan=_plan(fields["plan"], run),
        revisions=revisions,
        recovery=None
        if recovery is None
        else Recovery(
            nonce=checks.nonce(recovery["nonce"]),
            first=checks.flushes(recovery["first"]),
            start=checks.clock(recovery["start"]),
        ),
        created_ms=checks.time_ms(fields["created_ms"]),
        begun=checks.integer(fields.get("begun", 0)),
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
        Entry(names.absolute(item["folder"], run), checks.flushes(item["sealed"]), checks.optional_clock(item["cut"]))
        for item in items
    )
    if len({entry.folder for entry in lineage}) != len(lineage):
        raise ValueError("its lineage names a folder twice")
    return lineage


def _plan_to_json(plan: Plan, run: RunRef) -> dict[str, Any]:
    return {names.relative(folder, run): streams for folder, streams in plan.items()}


def _plan(fields: Mapping[str, Any], run: RunRef) -> Plan:
    return {
        names.absolute(folder, run): {checks.stream(stream): _planned(files) for stream, files in streams.items()}
        for folder, streams in fields.items()
    }


def _planned(files: Sequence[Sequence[Any]]) -> list[tuple[str, int]]:
    """Return the files of a plan, which follow one another: else a few bytes of it could have much read again."""
    planned = []
    after = -1
    for name, size in files:
        found = checks.segment_name(name)
        if found.first <= after:
            raise ValueError(f"{name!r} holds flushes that others before it hold")
        after = found.last
        planned.append((str(found), checks.count(size)))
    return planned


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
        number=checks.integer(fields["number"]),
        parent=None if parent is None else (checks.shown(parent[0]), checks.revision_number(parent[1])),
        cut=checks.optional_clock(fields["cut"]),
        created_ms=checks.time_ms(fields["created_ms"]),
        reason=checks.shown(fields["reason"]),
        folder=None if folder is None else names.absolute(folder, run),
        sealed=checks.flushes(fields["sealed"]),
    )
