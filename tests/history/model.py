"""A model check of the protocol: the real code, interleaved request by request.

Writers run as greenlets over one store in memory. Every request stops twice, before and after its effect, and at each
stop another writer may go on instead, the request or its reply may be lost, or the writer may be killed. What was lost
may still come through later. So a schedule has late writes of fenced writers, lost replies, claims without a base, and
openings that are cut short, in every order that chance finds.

At any moment, and at the end, everything is read and compared with what the writers know. A row whose flush was
acknowledged is in the run, once and in its place, unless a rewind cut it off; then it is in the archived revision. A
revision that was archived never changes.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from unittest import mock

import greenlet
from fsspec.implementations.memory import MemoryFileSystem

from rewind_logger.errors import ConfigError, RunNotFoundError, TransientStorageError
from rewind_logger.format import names
from rewind_logger.history import catalog, claims, cumulative, recovery
from rewind_logger.history.collect import collect
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.remove import remove_run
from rewind_logger.history.sync import sync_store
from rewind_logger.history.verify import verify
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.history.actors import Actors
from tests.history.rules import CLOCK, Killed
from tests.history.truth import Truth

WEEK = 8 * 86400.0
"""Seconds after which everything is old."""

NEVER = 2**62
"""Segments after which there is no summary."""


class Schedule(Actors):
    """One random schedule: who goes on when, what is lost on the way, and the looks at what came of it."""

    def run(self) -> Truth:
        """Let the writers run until all turns are taken; look now and then, and at the end."""
        due, closing = (2, 1) if self.summaries else (NEVER, NEVER)
        cumulative.DUE_SEGMENTS, cumulative.CLOSING_SEGMENTS = due, closing
        try:
            self._run()
        finally:
            self._clear()
        return self.truth

    def _run(self) -> None:
        rules, chance = self.rules, self.random
        rescue, clear, verified = (chance.random() < each for each in (rules.rescue, rules.clear, rules.verify))
        writers: list[greenlet.greenlet] = []
        turns = rules.turns
        sticky = chance.choice([0.0, 0.8, 0.95, 0.99])  # from request by request to nearly one after the other
        weather = chance.choice([0.2, 1.0, 5.0])  # from fair to foul
        kill, lose = weather * rules.kill, weather * rules.lose
        chosen: greenlet.greenlet | None = None
        pausing = False
        while turns or writers:
            if pausing and not writers:
                self._let_a_week_go_by()
                pausing = False
            if turns and not pausing and len(writers) < rules.writers:
                turns -= 1
                writers.append(greenlet.greenlet(self._turn()))
                pausing = turns > 0 and chance.random() < rules.pause
            if chosen is None or chance.random() > sticky:
                chosen = chance.choice(writers)
            drawn = chance.random() if chosen else 1.0
            if drawn < kill:
                self.truth.seen["kills"] += 1
                chosen.throw(Killed)
            elif drawn < kill + lose:
                self.truth.seen["lost requests"] += 1
                chosen.throw(TransientStorageError("lost"))
            else:
                chosen.switch()
            if chosen.dead:
                writers.remove(chosen)
                chosen = None
            if chance.random() < rules.land:
                self.network.land_one()
            if chance.random() < rules.look:
                self.look()
        if rules.unflushed_counts:
            for run in self.runs:
                self._bring_in(run)
        self.look()
        self.network.land_all()
        if rescue:
            self._rescue()
        self.look()
        if clear:
            self._clear_up()
        if verified:
            self._verify()
        self.truth.seen["late requests"] += self.network.landed

    def look(self) -> None:
        """Read everything and compare it with what the writers know."""
        self.onlooker.look()

    def _let_a_week_go_by(self) -> None:
        """Let more time go by than any request or writer takes: what is old now can be collected."""
        self.truth.seen["weeks"] += 1
        self.network.land_all()
        CLOCK.now += WEEK
        self.rested = True
        waiting = self.truth.logged.keys() - self.truth.acknowledged
        self.truth.waited |= {i for i in waiting if self.truth.logged[i].elsewhere}

    def _clear_up(self) -> None:
        """Collect, undisturbed, all that can be; remove a run; and look whether all that should be is there still."""
        self.truth.seen["clearances"] += 1
        self._let_a_week_go_by()
        collect(self.store, dry_run=False)
        again = collect(self.store, dry_run=False)
        assert not again.objects, f"a second collection still found {again}"
        self.look()
        run = self.random.choice(self.runs)
        with contextlib.suppress(RunNotFoundError, ConfigError):
            remove_run(self.store, run, dry_run=False, adopt=True)
            self.truth.gone.add(run)
            self.truth.seen["removed runs"] += 1
        self.look()
        self._let_a_week_go_by()
        collect(self.store, dry_run=False)
        self.look()

    def _rescue(self) -> None:
        """Bring in every journal of every machine, undisturbed, and look for every row that was ever logged."""
        self.truth.seen["rescues"] += 1
        for run in self.runs:
            for machine in range(self.rules.machines):
                self._bring_in(run, machine)
        for machine in range(self.rules.machines):
            folder = self.folder / str(machine)
            with mock.patch.object(recovery, "_is_alive", lambda pid: False):  # by now all of them were killed
                self._note_rescued(sync_store(self._storage(folder, lambda: None), as_fork=True))
            left = [path for path in folder.rglob("*.part") if not self._is_of_removed(path)]
            assert not left, f"nobody brought in {left}"
        found: set[int] = set()
        for run in catalog.runs(self.store):
            with contextlib.suppress(RunNotFoundError):
                for record in resolve(self.store, run).revisions:
                    with contextlib.suppress(RunNotFoundError):
                        found.update(self.onlooker.rows(resolve(self.store, run, record.number), str(run)))
        lost = set() if self.truth.removed or self.truth.gone else self.truth.logged.keys() - found
        self.truth.lost += len(lost)
        assert not lost, f"rows {sorted(lost)} were logged and are nowhere"

    def _is_of_removed(self, part: Path) -> bool:
        """Say whether a journal waits in vain, for a run was removed.

        That may be the run which a sync made of it: another of that name may have been begun. Or the one that its own
        was to be forked from: then nobody can finish the fork.
        """
        nonce, run = part.parent.name, RunRef("p", part.parts[-4])
        first = claims.first(self.store, run)
        meant = first.source.run if first is not None and first.source is not None else None
        return any(one.id.endswith(f"-{nonce[:8]}") or str(one) == meant for one in self.truth.gone)

    def _verify(self) -> None:
        """Have the package itself look for what is not as it should be."""
        self.truth.seen["verified"] += 1
        report = verify(self.store)
        known = {names.blob(digest) for digest in self.onlooker.excused()}
        assert all(problem.path in known for problem in report.problems), str(report)

    def _bring_in(self, run: RunRef, machine: int = 0) -> None:
        """Open a run once more, undisturbed, for what the last writer left in its journal."""
        writer = Writer(self._storage(self.folder / str(machine), lambda: None), run, background=False)
        with contextlib.suppress(RunNotFoundError):
            writer.open(OpenRequest(resume="must"))
        writer.close()

    def _clear(self) -> None:
        """Forget everything: a listing of fsspec's memory looks at all objects of all schedules."""
        if self.tokens is not None:
            self.tokens.clear()
        elif isinstance(self.store, MemoryStorage):
            kept = MemoryFileSystem.store
            for path in [path for path in kept if path.startswith(f"{self.store._root}/")]:
                del kept[path]
        shutil.rmtree(self.folder, ignore_errors=True)
