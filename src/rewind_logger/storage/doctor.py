"""The doctor: does a store keep what the protocol needs of it?"""

from __future__ import annotations

import hashlib
import random
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier
from typing import Literal, TypeVar

from rewind_logger.errors import StorageError, TransientStorageError
from rewind_logger.storage.base import ObjectInfo, Storage
from rewind_logger.storage.probe import weakness

T = TypeVar("T")

Verdict = Literal["ok", "weak", "fails", "not tried"]

PREFIX = "doctor-"
"""How the names of our objects begin; they lie at the top of the store, where they need no folder."""

RACERS = 4
"""Connections that race for a name."""

RACES = 8
"""Names that are raced for."""

ROUNDS = 5
"""How often an object is written, replaced and deleted, to see whether others see it at once; and measured."""

SKEW_S = 60.0
"""How far the store's wall time may be from this machine's."""

PIECE_BYTES = 1 << 20
LARGE_BYTES = (16 << 20) + 1
"""From here on objects are uploaded in parts."""

PATIENCE_S = 1.0
"""A store that takes longer than this for a piece is not asked for a large object."""

_DENIED = "nothing can be logged to this store from here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What one look at a store gave."""

    name: str
    verdict: Verdict
    """"ok"; "weak", where something that matters is not as it should be, and all else works; "fails"; "not tried"."""
    found: str
    """What was seen."""
    meaning: str = ""
    """What follows from it, if anything does."""

    def __str__(self) -> str:
        return f"{self.verdict:<9} {self.name}: {self.found}" + (f" {self.meaning}" if self.meaning else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorReport:
    """What a store can do; `str()` of it is for people, a line for each check."""

    url: str
    checks: tuple[Check, ...]
    left: tuple[str, ...]
    """Objects of ours that could not be deleted again."""

    @property
    def ok(self) -> bool:
        """Whether every check that was made was ok."""
        return all(check.verdict in ("ok", "not tried") for check in self.checks)

    @property
    def usable(self) -> bool:
        """Whether runs can be logged to it: nothing fails that this needs."""
        return all(check.verdict != "fails" for check in self.checks if check.name != "delete")

    def __getitem__(self, name: str) -> Check:
        """Return a check by its name."""
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(name)

    def __str__(self) -> str:
        lines = [self.url, *map(str, self.checks)]
        if self.left:
            lines.append(f"Left behind, for it could not be deleted: {', '.join(self.left)}")
        return "\n".join(lines)


def examine(connections: Sequence[Storage]) -> DoctorReport:
    """Try out a store, and leave nothing behind.

    Args:
        connections: The same store, opened a few times: what one writes, another must see.
    """
    return _Examination(connections).run()


class _Examination:
    """One examination, whose objects have names that nobody else uses."""

    def __init__(self, connections: Sequence[Storage]) -> None:
        self._connections = connections
        self._first, self._other = connections[0], connections[-1]
        self._name = f"{PREFIX}{secrets.token_hex(8)}"
        self._written: set[str] = set()
        self._checks: list[Check] = []
        self._times: dict[str, list[float]] = {}

    def run(self) -> DoctorReport:
        """Make all checks, those that need another one only if that was not in vain."""
        missing = _missing_folders(self._first.local_path)
        self._check("list", self._list, "Runs are not found, and cannot be opened.")
        written = self._check("write", self._write, f"So {_DENIED}; what is there may be readable.")
        if written:
            self._check("read", self._read, "Rows come in, and can neither be read nor resumed from.")
            deletes = self._check("delete", self._delete, "Nothing can be collected or removed; all else works.")
            self._check("create", self._create, f"So {_DENIED}.")
            self._check("consistency", lambda: self._consistency(deletes), "Runs may read otherwise than they were.")
            self._check("wall time", self._wall_time, "")
            self._check("latency", self._latency, "")
            self._check("large objects", self._large, "Large artifacts and checkpoints cannot be stored.")
        else:
            self._not_tried("it needs an object to be written.")
        left = self._clean_up()
        for folder in missing:
            _remove_empty(folder)
        return DoctorReport(url=self._first.url, checks=tuple(self._checks), left=tuple(left))

    def _check(self, name: str, look: Callable[[], tuple[Verdict, str, str]], meaning: str) -> bool:
        """Make a check; return whether it did not fail."""
        try:
            verdict, found, means = look()
        except (StorageError, FileNotFoundError) as error:
            verdict, found, means = "fails", str(error), meaning
        self._checks.append(Check(name=name, verdict=verdict, found=found, meaning=means))
        return verdict != "fails"

    def _not_tried(self, why: str) -> None:
        names = ("read", "delete", "create", "consistency", "wall time", "latency", "large objects")
        self._checks += [Check(name=name, verdict="not tried", found=why) for name in names]

    def _list(self) -> tuple[Verdict, str, str]:
        count = len(self._timed("list", lambda: self._first.list("")))
        return "ok", f"{count:,} {'entry' if count == 1 else 'entries'} at the top.", ""

    def _write(self) -> tuple[Verdict, str, str]:
        self._put(self._path("object"), b"0123456789")
        return "ok", "an object was written.", ""

    def _read(self) -> tuple[Verdict, str, str]:
        path = self._path("object")
        parts = (self._other.read(path), self._other.read_range(path, 2, 4), self._other.read_range(path, -3, 0))
        if parts != (b"0123456789", b"23", b"789"):
            return "fails", f"it gave {parts} for an object of 0123456789.", "Runs cannot be read."
        return "ok", "an object was read, whole and in parts.", ""

    def _create(self) -> tuple[Verdict, str, str]:
        """Create what exists, and then race for names with different contents."""
        weak = f"{weakness(self._first.url)} Give each job a run id of its own."
        path = self._path("created")
        self._written.add(path)
        if not self._timed("create", lambda: self._first.create(path, b"first")):
            return "fails", "a name that was free could not be created.", f"So {_DENIED}."
        again = self._other.create(path, b"second")
        if again or self._first.read(path) != b"first":
            return "weak", "an object was replaced that was only to be created.", weak
        names = [self._path(f"race-{i}") for i in range(RACES)]
        self._written.update(names)
        barrier = Barrier(len(self._connections))
        with ThreadPoolExecutor(len(self._connections)) as pool:
            each = [pool.submit(_race, storage, names, i, barrier) for i, storage in enumerate(self._connections)]
            told = [future.result() for future in each]
        for i, path in enumerate(names):
            winners = [racer for racer, won in enumerate(told) if won[i]]
            if len(winners) != 1 or self._first.read(path) != _body(winners[0]):
                return "weak", f"of {len(told)} that created a name at once {len(winners)} were told they did.", weak
        held = f"an object that exists is not replaced; of {len(told)} at once one wins, {RACES} times"
        if self._first.conditional is False:
            return "weak", f"{held}; but stores of this kind need not keep to that.", weak
        return "ok", f"{held}.", ""

    def _consistency(self, deletes: bool) -> tuple[Verdict, str, str]:
        """See whether one connection sees at once what another one did."""
        for i in range(ROUNDS):
            path = self._path(f"seen-{i}")
            for data in (b"first", b"second, longer"):
                self._put(path, data)
                info = self._listed(path)
                if info is None or info.size != len(data):
                    return self._stale("listed as it was written" if info else "listed")
                if self._other.read(path) != data:
                    return self._stale("read as it was written")
            if not deletes:
                continue
            self._first.delete(path)
            if self._listed(path) is not None:
                return self._stale("gone from the list when it was deleted")
            try:
                self._other.read(path)
            except FileNotFoundError:
                self._written.discard(path)
            else:
                return self._stale("gone when it was deleted")
        did = "wrote, replaced or deleted" if deletes else "wrote or replaced"
        return "ok", f"what one connection {did} another saw at once, {ROUNDS} times.", ""

    def _stale(self, what: str) -> tuple[Verdict, str, str]:
        return (
            "fails",
            f"an object was not {what}.",
            "A run that is resumed may miss the last rows of the job before: log to another store, and copy.",
        )

    def _wall_time(self) -> tuple[Verdict, str, str]:
        path = self._path("time")
        before = time.time()
        self._put(path, b"")
        after = time.time()
        info = self._listed(path)
        if info is None or info.modified is None:
            return "not tried", "the store does not say when an object was written.", ""
        ahead = max(0.0, info.modified - after) or min(0.0, info.modified - before)
        if abs(ahead) <= SKEW_S:
            return "ok", f"the store's is within {SKEW_S:.0f} s of this machine's.", ""
        return (
            "weak",
            f"the store's is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's.",
            "No run is decided by it; but signed requests may be refused, and ages that are shown may be wrong: set the"
            " clock of this machine.",
        )

    def _latency(self) -> tuple[Verdict, str, str]:
        for i in range(ROUNDS):
            path = self._path(f"timed-{i}")
            self._written.add(path)
            self._timed("create", lambda path=path: self._first.create(path, b"0" * 1000))  # type: ignore[misc]
            self._timed("put", lambda path=path: self._first.put(path, b"1" * 1000))  # type: ignore[misc]
            self._timed("get", lambda path=path: self._first.read(path))  # type: ignore[misc]
            self._timed("list", lambda: self._first.list(""))
        medians = {verb: 1000 * statistics.median(times) for verb, times in self._times.items()}
        shown = ", ".join(f"{verb} {medians[verb]:.1f} ms" for verb in ("create", "put", "get", "list"))
        if medians["put"] + medians["get"] <= 2000:
            return "ok", f"{shown} (medians).", ""
        return "weak", f"{shown} (medians).", "Training does not wait for it, but opening, flush and finish do."

    def _large(self) -> tuple[Verdict, str, str]:
        started = time.monotonic()
        self._put(self._path("piece"), b"0" * PIECE_BYTES)
        took = time.monotonic() - started
        if took > PATIENCE_S:
            return "not tried", f"1 MiB took {took:.1f} s.", ""
        data = random.randbytes(LARGE_BYTES)
        path = self._path("large")
        self._written.add(path)
        with tempfile.TemporaryDirectory(prefix="rewind-logger-") as folder:
            file = Path(folder, "large")
            file.write_bytes(data)
            self._first.put_file(path, file, sha256=hashlib.sha256(data).hexdigest())
        found = hashlib.sha256()
        for piece in self._other.read_chunks(path):
            found.update(piece)
        if found.digest() != hashlib.sha256(data).digest():
            return "fails", "one of 16 MiB was read otherwise than it was written.", "Artifacts are not safe there."
        return "ok", "one of 16 MiB was uploaded and read back.", ""

    def _delete(self) -> tuple[Verdict, str, str]:
        path = self._path("object")
        self._first.delete(path)
        self._first.delete(path)  # to delete what is gone is no error
        self._written.discard(path)
        return "ok", "an object was deleted.", ""

    def _clean_up(self) -> list[str]:
        """Delete what we wrote; return what could not be."""
        left = []
        for path in sorted(self._written):
            try:
                self._first.delete(path)
            except (StorageError, FileNotFoundError):
                left.append(path)
        return left

    def _path(self, name: str) -> str:
        return f"{self._name}-{name}"

    def _put(self, path: str, data: bytes) -> None:
        there = path in self._written
        self._written.add(path)
        try:
            self._first.put(path, data)
        except StorageError as error:
            if not there and not isinstance(error, TransientStorageError):  # of which the answer may have been lost
                self._written.discard(path)
            raise

    def _listed(self, path: str) -> ObjectInfo | None:
        """Return how another connection lists an object."""
        return next((info for info in self._other.list("") if info.name == path), None)

    def _timed(self, verb: str, request: Callable[[], T]) -> T:
        started = time.monotonic()
        outcome = request()
        self._times.setdefault(verb, []).append(time.monotonic() - started)
        return outcome


def _body(racer: int) -> bytes:
    return f"racer {racer} ".encode() * 100


def _race(storage: Storage, names: Sequence[str], racer: int, barrier: Barrier) -> list[bool]:
    """Create each name at the same time as others; return whether this one is told that it did."""
    told = []
    for path in names:
        barrier.wait(timeout=60)
        try:
            told.append(storage.create(path, _body(racer)))
        except StorageError:  # as an opening does: it is the object that tells whose it is
            try:
                told.append(storage.read(path) == _body(racer))
            except (StorageError, FileNotFoundError):
                told.append(False)
    return told


def _missing_folders(folder: Path | None) -> list[Path]:
    """Return the folders that a write would make, the innermost first."""
    missing = []
    while folder is not None and not folder.exists() and folder.parent != folder:
        missing.append(folder)
        folder = folder.parent
    return missing


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # somebody uses it by now, or it was never made
        return
