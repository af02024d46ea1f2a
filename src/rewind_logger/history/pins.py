"""Pins: which forks of a run were made, are being made, or never were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rewind_logger.format import names
from rewind_logger.format.documents import Source, decode_pin
from rewind_logger.format.names import RunPaths
from rewind_logger.history import claims
from rewind_logger.storage.base import Storage
from rewind_logger.types import RunRef

State = Literal["made", "begun", "gone", "none"]
"""Whether a fork has its base; or only its claim, so that the next opening of it makes it; or was removed; or is not,
or not yet, there."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A fork of a run, or the intent to make one."""

    path: str
    size: int
    modified: float | None
    """When it was put, by the store's clock."""
    child: RunRef
    state: State
    source: Source | None
    """Where it begins; None where there is no such fork."""


def pins(storage: Storage, run: RunRef) -> list[Pin]:
    """Return the pins of a run, which cost a few requests each.

    Raises:
        CorruptError: If one is damaged.
        StorageError: If the store fails.
    """
    paths = RunPaths(run)
    found = []
    listing = [info for info in storage.list(paths.pins) if info.size is not None and paths.parse_pin(info.name)]
    for info, body in zip(listing, storage.read_each([f"{paths.pins}/{info.name}" for info in listing]), strict=True):
        path = f"{paths.pins}/{info.name}"
        if isinstance(body, FileNotFoundError):
            continue
        if isinstance(body, Exception):
            raise body
        child = RunRef.split(names.absolute(decode_pin(body, path), run))
        state, source = _fork(storage, run, child, info.name.removesuffix(".json"))
        found.append(Pin(path, info.size or 0, info.modified, child, state, source))
    return found


def _fork(storage: Storage, run: RunRef, child: RunRef, nonce: str) -> tuple[State, Source | None]:
    """Return what became of a fork."""
    paths = RunPaths(child)
    existing = claims.count(storage, paths)
    life = claims.life(storage, child, existing)
    first = claims.first_of(storage, paths, life.first, existing)
    # Of those that began the same fork at the same moment one has the first claim. What it says holds for all.
    if first is not None and first.source is not None and (first.source.store, first.source.run) == (None, str(run)):
        return "begun" if life.head is None else "made", first.source
    for n in range(life.first):
        claim = claims.read(storage, paths, n)
        if claim is not None and claim.nonce == nonce:
            return "gone", None
    return "none", None
