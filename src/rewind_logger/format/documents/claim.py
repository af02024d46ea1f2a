"""Claims, of which each makes one writer the owner of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rewind_logger.format.documents import checks
from rewind_logger.format.documents.envelope import decode, encode


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


def encode_claim(claim: Claim) -> bytes:
    """Return the bytes of a claim."""
    source = claim.source
    return encode(
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
    return decode(data, path, "claim", _claim)


def _claim(fields: dict[str, Any]) -> Claim:
    source = fields["source"]
    return Claim(
        nonce=checks.nonce(fields["nonce"]),
        kind=checks.shown(fields["kind"]),
        created_ms=checks.time_ms(fields["created_ms"]),
        host=checks.shown(fields["host"]),
        pid=checks.integer(fields["pid"]),
        reason=checks.shown(fields["reason"]),
        source=None
        if source is None
        else Source(
            store=None if source["store"] is None else checks.shown(source["store"]),
            run=checks.run(source["run"]),
            revision=checks.revision_number(source["revision"]),
            cut=checks.clock(source["cut"]),
        ),
    )
