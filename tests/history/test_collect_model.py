"""Random lives of runs with a collector at work: what anybody can read stays, whoever writes meanwhile.

The schedules of the model (`tests/history/model.py`), in which writers are stopped before and after every request,
killed, taken over, and robbed of replies. Now and then the store is collected in the midst of that. And now and then so
much time goes by, while every writer is between two of its operations, that all there is has become old: what is
collected then is all that nobody needs, under writers that go on afterwards with what they know.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import greenlet
import pytest

from rewind_logger.errors import ConfigError, RunNotFoundError, TransientStorageError
from rewind_logger.history import catalog
from rewind_logger.history.collect import collect
from rewind_logger.history.remove import remove_revision, remove_run
from rewind_logger.history.verify import verify
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.types import RunRef
from tests.figures import count
from tests.history import swift
from tests.history.model import Schedule
from tests.history.rules import CLOCK, Killed, Rules
from tests.history.swift import Tokens
from tests.history.test_model import disk, small

__all__ = ["disk"]

GRACE_S = 7 * 86400.0


class Collected(Schedule):
    """A schedule with a collector."""

    def __init__(self, seed: int, folder: Path, rules: Rules, tokens: Tokens) -> None:
        super().__init__(seed, folder, rules, tokens)
        self.alive: set[greenlet.greenlet] = set()
        """Who would not take so long that all grows old …"""
        self.between: set[greenlet.greenlet] = set()
        """… unless it is between two operations."""
        self.removed: Counter[str] = Counter()
        self.chance = random.Random(-seed)

    def _writer(self) -> None:
        self._lives(super()._writer)

    def _syncer(self) -> None:
        self._lives(super()._syncer)

    def _copier(self) -> None:
        self._lives(super()._copier)

    def _lives(self, turn: object) -> None:
        assert callable(turn)
        me = greenlet.getcurrent()
        self.alive.add(me)
        try:
            turn()
            with contextlib.suppress(Killed):
                self._rest()
        finally:
            self.alive.discard(me)

    def _log(self, writer: Writer, clock: int | None) -> int:
        self._rest()
        return super()._log(writer, clock)

    def _rest(self) -> None:
        """Be between two operations for a moment."""
        me = greenlet.getcurrent()
        self.between.add(me)
        try:
            with contextlib.suppress(TransientStorageError):  # there is no request to be lost
                self._stop()
        finally:
            self.between.discard(me)

    def look(self) -> None:
        super().look()
        CLOCK.now += 1.0
        if self.chance.random() < 0.5:
            self._collect()
        else:
            self._grow_old()
            self._collect()
            assert not collect(self.store, grace_s=GRACE_S).objects, "something is left"
        super().look()

    def _grow_old(self) -> None:
        """Let a fortnight go by: no operation takes that long, and no request is under way for so long."""
        for one in list(self.alive - self.between):
            while not one.dead and one not in self.between:
                one.switch()
        self.network.land_all()
        CLOCK.now += 2 * GRACE_S

    def _collect(self) -> None:
        self.truth.seen["collections"] += 1
        self.removed.update(collect(self.store, dry_run=False, grace_s=GRACE_S).objects)

    def _run(self) -> None:
        super()._run()
        self._remove()

    def _all(self) -> dict[tuple[RunRef, int], list[int]]:
        """Return the rows of every revision of every run."""
        found = {}
        for run in catalog.runs(self.store):
            with contextlib.suppress(RunNotFoundError):
                for record in resolve(self.store, run).revisions:
                    with contextlib.suppress(RunNotFoundError):
                        found[run, record.number] = self.onlooker.rows(
                            resolve(self.store, run, record.number), str(run)
                        )
        return found

    def _remove(self) -> None:
        """Remove one revision or run after the other: all that is left reads the same."""
        self._grow_old()
        before = self._all()
        while before:
            run, revision = self.chance.choice(sorted(before, key=str))
            whole = revision == max(number for of, number in before if of == run)
            adopt = self.chance.random() < 0.5
            try:
                if whole:
                    remove_run(self.store, run, dry_run=False, adopt=adopt)
                else:
                    remove_revision(self.store, run, revision, dry_run=False, adopt=adopt)
            except ConfigError:
                self.truth.seen["refused removals"] += 1
                if not adopt:
                    continue
                # a fork of it was begun and not finished
                before = {at: rows for at, rows in before.items() if at[0] != run}
                continue
            self.truth.seen["removals"] += 1
            kept = {at: rows for at, rows in before.items() if at[0] != run or not (whole or at[1] == revision)}
            found = self._all()
            self.truth.checked += sum(map(len, kept.values()))
            self.truth.lost += sum(len(set(rows) - set(found.get(at, ()))) for at, rows in kept.items())
            assert {at: found.get(at) for at in kept} == kept, f"{run}@{revision} was removed, and others with it"
            assert (run, revision) not in found
            if self.chance.random() < 0.3:
                self._grow_old()
                self._collect()
                found = self._all()
                assert {at: found.get(at) for at in kept} == kept
            before = kept
        report = verify(self.store)
        assert report.ok, str(report)
        if not catalog.runs(self.store):
            self._grow_old()
            self._collect()
            left = [path for path in self.store._objects if "/t/" in path]  # type: ignore[attr-defined]
            assert not left, "of removed runs nothing is left but claims"


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    small(monkeypatch)
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def tokens(monkeypatch: pytest.MonkeyPatch, busy: None) -> Tokens:
    return swift.use(monkeypatch)


def check(seeds: range, folder: Path, tokens: Tokens) -> tuple[Counter[str], Counter[str]]:
    """Run schedules; return what happened in them and what was collected."""
    seen: Counter[str] = Counter()
    removed: Counter[str] = Counter()
    rules = Rules(writers=3, verify=0.3, look=0.01, collect=0.0, remove=0.0, erase=0.0, pause=0.0, clear=0.0)
    for seed in seeds:
        schedule = Collected(seed, folder, rules, tokens)
        try:
            seen += schedule.run().seen
        except BaseException:
            print(f"seed {seed}")
            raise
        finally:
            count("rows checked", schedule.truth.checked)
            count("rows lost", schedule.truth.lost)
        removed += schedule.removed
    count("schedules", len(seeds))
    print(seen, removed)
    return seen, removed


REASONS = (
    "superseded segments",
    "segments of writers that were taken over",
    "older snapshots",
    "pins of forks that are not there",
    "files that no row refers to",
    "removed runs and revisions",
)


def test_no_schedule_loses_a_row_to_the_collector(disk: Path, tokens: Tokens) -> None:
    seen, removed = check(range(40), disk, tokens)
    for what in ("collections", "removals", "FencedError", "kills", "forked", "rewound"):
        assert seen[what] > 0, f"{what} never happened: the schedules are too tame"
    assert not [reason for reason in REASONS if not removed[reason]], "a collector that removes nothing is none"


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(4))
def test_thousands_of_schedules_lose_nothing_to_the_collector(part: int, disk: Path, tokens: Tokens) -> None:
    check(range(10_000 + 500 * part, 10_500 + 500 * part), disk, tokens)
