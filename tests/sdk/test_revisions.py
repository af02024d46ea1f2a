"""Where the revisions and forks of a run come from, who made them, and how long they ran."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from IPython.lib.pretty import pretty

import rewind_logger
from rewind_logger import Run, open_store
from rewind_logger.history import claims, compact, opening, view, writer
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.writer import Writer
from rewind_logger.sdk import revisions
from rewind_logger.sdk.forks import Fork
from rewind_logger.sdk.stored import StoredRun
from rewind_logger.storage import open_storage
from rewind_logger.storage.faults import CountingStorage
from rewind_logger.types import STREAMS, Position, RunRef, Stream


def log(run: Run, steps: int) -> None:
    for _ in range(steps):
        run.log({"x": 1})


@pytest.fixture
def store(any_url: str) -> str:
    """A run of five revisions: 10 steps; back to step 4 and 2 more; from step 7 of the first, 1 more; the second; 5."""
    for options, steps in (
        ({"id": "a"}, 10),
        ({"resume_from": "a?_step=4"}, 2),
        ({"resume_from": "a@1?_step=7"}, 1),
        ({"resume_from": "a@2"}, 0),
        ({"resume_from": "a?_step=5"}, 0),
    ):
        with rewind_logger.init(dir=any_url, project="p", **options) as run:  # type: ignore[arg-type]
            log(run, steps)
    return any_url


def test_each_revision_says_what_it_kept_and_what_was_archived(store: str) -> None:
    found = open_store(store).run("p/a").revisions
    assert [(one.parent, one.cut, one.rows_kept, one.rows_archived, one.rows) for one in found] == [
        (None, None, 0, 0, 10),
        ("p/a@1", 5, 5, 5, 7),
        ("p/a@1", 8, 8, 2, 9),  # of revision 2, the two rows of its own
        ("p/a@2", None, 7, 4, 7),  # of revision 3, three of the first revision and its own
        ("p/a@4", 6, 6, 1, 6),
    ]


def test_each_revision_says_who_opened_it_when_and_why(store: str) -> None:
    found = open_store(store).run("p/a").revisions
    for one in found:
        assert one.opening is not None
        assert (one.opening.user, one.opening.host) == (getpass.getuser(), socket.gethostname())
        assert (one.opening.pid, one.opening.revision) == (os.getpid(), one.number)
        assert abs(one.created - one.opening.started) < timedelta(seconds=60)
        assert one.opening.reason == one.reason
    assert [one.reason for one in found] == [
        "",
        "resume_from='a?_step=4'",
        "resume_from='a@1?_step=7'",
        "resume_from='a@2'",
        "resume_from='a?_step=5'",
    ]
    assert [one.opening.kind for one in found if one.opening] == ["new", "rewound", "rewound", "restored", "rewound"]


def test_each_revision_says_how_it_ended(url: str) -> None:
    killed = Writer(open_storage(url, None), RunRef("p", "a"), background=False)
    killed.open(OpenRequest())
    killed.append("metrics", {"x": 1}, 0)
    killed.flush()
    with pytest.raises(ZeroDivisionError), rewind_logger.init(dir=url, project="p", resume_from="a?_step=-1"):
        _ = 1 / 0
    rewind_logger.init(dir=url, project="p", resume_from="a@1").finish()
    run = rewind_logger.init(dir=url, project="p", resume_from="a@1")
    found = open_store(url).run("p/a").revisions
    assert [one.state for one in found] == ["superseded", "failed", "finished", "running"]
    assert found[0].opening is None, "it was not opened by this package's calls"
    run.finish()
    killed.close()


def test_a_table_of_revisions_for_people(store: str) -> None:
    table = str(open_store(store).run("p/a").revisions).splitlines()
    heading = "revision  created (UTC)        by"
    assert table[0].startswith(heading) and len(table) == 6
    who = f"{getpass.getuser()}@{socket.gethostname()}"
    cells = table[2].split()
    assert (cells[0], cells[3], cells[4]) == ("a@2", who, "p/a@1?_step=4")
    assert cells[5:] == ["5", "5", "7", "finished", "resume_from='a?_step=4'"]
    assert all(line == line.rstrip() for line in table)
    assert pretty(open_store(store).run("p/a").revisions).splitlines() == table, "as a notebook shows it"  # type: ignore[no-untyped-call]


def test_a_table_shows_the_last_revisions(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revisions, "SHOWN", 2)
    table = str(open_store(store).run("p/a").revisions).splitlines()
    assert table[0] == "… and 3 before these"
    assert [line.split()[0] for line in table[1:]] == ["revision", "a@4", "a@5"]


def test_a_run_names_its_forks_and_where_they_began(store: str) -> None:
    opened = open_store(store)
    assert opened.run("p/a").forks == []
    for source, name in (("a@1?_step=7", "b"), ("a?_step=4", "c"), ("a@1?_step=-1", "d")):
        rewind_logger.init(dir=store, project="p", fork_from=source, id=name).finish()
    rewind_logger.init(dir=store, project="q", fork_from="p/b?_step=2", id="e").finish()

    def named(name: str) -> list[tuple[str, int, int]]:
        return [(fork.run, fork.revision, fork.step) for fork in opened.run(name).forks]

    assert named("p/a") == [("p/b", 1, 7), ("p/c", 5, 4), ("p/d", 1, -1)]
    assert named("p/a@1") == [("p/b", 1, 7), ("p/d", 1, -1)]
    assert named("p/a?_step=4") == [("p/c", 5, 4), ("p/d", 1, -1)]
    assert named("p/b") == [("q/e", 1, 2)]
    [fork] = opened.run("p/b").forks
    assert fork == Fork(run="q/e", revision=1, step=2, created=fork.created, reason="fork_from='p/b?_step=2'")
    assert opened.run("q/e").lineage == ["p/a@1?_step=7", "p/b@1?_step=2", "q/e@1"]


def test_a_fork_that_was_never_made_is_none(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(claims, "take", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rewind_logger.init(dir=store, project="p", fork_from="a?_step=4", id="b")
    assert open_store(store).run("p/a").forks == []
    rewind_logger.init(dir=store, project="p", fork_from="a?_step=4", id="b").finish()
    assert len(open_store(store).run("p/a").forks) == 1, "and not the one that was tried"


def test_a_run_of_the_name_of_a_fork_that_was_never_made_is_none(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(claims, "take", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            rewind_logger.init(dir=store, project="p", fork_from="a?_step=4", id="b")
    rewind_logger.init(dir=store, project="p", id="b").finish()
    assert open_store(store).run("p/a").forks == []


def test_nothing_is_lost_by_a_restore_in_any_stream(any_url: str) -> None:
    """What each revision showed of each stream it shows after the others were restored, rewound and forked."""

    def fill(run: Run, turn: int, steps: int) -> None:
        for _ in range(steps):
            step = run.step
            for stream in STREAMS:
                if stream not in ("events", "metrics"):
                    run._append(stream, {"x": f"{turn} {step}"}, step)
            run.log({"x": turn * 100 + step})
            run.config.update({"turn": turn, f"step {step}": step}, allow_val_change=True)

    def shown(name: str) -> dict[Stream, list[object]]:
        stored = open_store(any_url).run(name)
        rows = {stream: stored._rows(stream) for stream in STREAMS}
        return {stream: [(row.clock, dict(row.values)) for row in found] for stream, found in rows.items()}

    with rewind_logger.init(dir=any_url, project="p", id="a", tags=["first"]) as run:
        fill(run, 1, 8)
    first = shown("p/a")
    with rewind_logger.init(dir=any_url, project="p", resume_from="a?_step=3") as run:
        fill(run, 2, 2)
    second = shown("p/a")
    assert {stream: len(rows) for stream, rows in first.items() if stream != "events"} == dict.fromkeys(
        [stream for stream in STREAMS if stream != "events"], 8
    )
    assert shown("p/a@1") == first
    store = open_store(any_url)
    restored = store.restore("p/a@1")
    assert (restored.revision, restored.last_step) == (3, 7)
    for stream in STREAMS:
        ours = shown("p/a")[stream]
        assert [row for row in ours if row in first[stream]] == first[stream], stream
        assert len(ours) == len(first[stream]) + (stream == "events"), "and the event of its own opening"
    assert (shown("p/a@1"), shown("p/a@2")) == (first, second)
    store.restore("p/a@2")
    assert (shown("p/a@1"), shown("p/a@2")) == (first, second)
    assert store.run("p/a").config == store.run("p/a@2").config
    assert store.run("p/a").last_step == 5


def test_a_run_as_of_a_step_has_the_labels_and_the_config_of_that_step(any_url: str) -> None:
    with rewind_logger.init(dir=any_url, project="p", id="a", name="first", tags=["x"], config={"lr": 0.1}) as run:
        log(run, 5)
        run.tags += ("y",)
        run.notes = "diverged"
        run.name = "second"
        run.config.update({"lr": 0.2, "new": True}, allow_val_change=True)
        log(run, 5)
        assert (run.tags, run.notes, run.name) == (("x", "y"), "diverged", "second")

    def told(name: str) -> tuple[object, ...]:
        stored = open_store(any_url).run(name)
        return stored.tags, stored.notes, stored.name, stored.config

    before = (("x",), None, "first", {"lr": 0.1})
    after = (("x", "y"), "diverged", "second", {"lr": 0.2, "new": True})
    assert [told(f"p/a?_step={step}") for step in (0, 4, 5, 9)] == [before, before, after, after]
    with rewind_logger.init(dir=any_url, project="p", resume_from="a?_step=4"):
        pass
    assert (told("p/a"), told("p/a@1")) == (before, after)
    with rewind_logger.init(dir=any_url, project="p", fork_from="a@1?_step=4", id="b"):
        pass
    assert told("p/b") == ((), None, "b", {"lr": 0.1})


class Clock:
    """The time of day, which a test sets; seconds since its beginning."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began = int(time.time())
        self.now = 0.0
        self.ms: Callable[[], int] = lambda: int((self.began + self.now) * 1000)
        monkeypatch.setattr(opening, "now_ms", self.ms)
        monkeypatch.setattr(writer, "_time_ns", lambda: self.ms() * 1_000_000)

    def log(self, run: Run, steps: int, each_s: float = 10.0) -> None:
        """Log some steps, each of which takes so long."""
        for _ in range(steps):
            self.now += each_s
            run.log({"x": 1})


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def ran(url: str, name: str) -> float:
    return open_store(url).run(name).runtime


def begun(stored: StoredRun, clock: Clock) -> tuple[float, float]:
    return stored.created.timestamp() - clock.began, stored.started.timestamp() - clock.began


def test_the_runtime_is_that_of_what_is_visible_without_the_pauses(any_url: str, clock: Clock) -> None:
    with rewind_logger.init(dir=any_url, project="p", id="a") as run:
        assert run.start_time == clock.began
        clock.log(run, 10)  # steps 0 to 9 at 10 to 100 s
        clock.now += 5
    clock.now += 1000
    with rewind_logger.init(dir=any_url, project="p", id="a") as run:
        assert run.start_time == clock.began + 1105
        clock.log(run, 5)  # steps 10 to 14
    clock.now += 1000
    with rewind_logger.init(dir=any_url, project="p", resume_from="a?_step=6") as run:
        clock.log(run, 2, 7.0)  # steps 7 and 8
    assert ran(any_url, "p/a@1") == 100 + 50, "of an opening that was resumed up to its last row"
    assert ran(any_url, "p/a") == 70 + 14
    assert ran(any_url, "p/a@1?_step=9") == 100
    assert ran(any_url, "p/a@1?_step=11") == 100 + 20
    assert ran(any_url, "p/a?_step=2") == 30
    clock.now += 1000
    with rewind_logger.init(dir=any_url, project="p", fork_from="a@1?_step=11", id="b") as run:
        clock.now += 3
    assert ran(any_url, "p/b") == 120 + 3, "the time of its parents up to there, and up to its own end"
    store = open_store(any_url)
    assert begun(store.run("p/a"), clock) == (0, 0)
    assert begun(store.run("p/b"), clock)[1] == 0 < begun(store.run("p/b"), clock)[0]


def test_the_runtime_of_many_merged_openings_is_the_sum_of_them(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "FAN_IN", 4)
    monkeypatch.setattr(view, "LONG_LINEAGE", 4)
    url = f"memory://test-{secrets.token_hex(6)}"
    for _ in range(12):
        with rewind_logger.init(dir=url, project="p", id="a") as run:
            clock.log(run, 2)
        clock.now += 1000
    entries = view.resolve(open_storage(url, None), RunRef("p", "a")).entries
    assert any("/a" in entry.folder.rpartition("/t/")[2] for entry in entries), "some were merged into one folder"
    assert ran(url, "p/a") == 12 * 20
    assert ran(url, "p/a?_step=4") == 20 + 20 + 10


def test_the_runtime_costs_a_few_requests_however_long_the_history() -> None:
    url = f"memory://test-{secrets.token_hex(6)}"
    with rewind_logger.init(dir=url, project="p", id="a", console=False, system_metrics=False) as run:
        for _ in range(30):
            log(run, 1)
            run.flush()
        # While it is open: at its end its segments are put together.
        storage = CountingStorage(open_storage(url, None))
        stored = StoredRun(storage, Position(RunRef("p", "a"), None, None))
        stored.revisions  # noqa: B018  (what a look at any run costs)
        before = storage.traffic
        assert stored.runtime > 0
        assert (storage.traffic - before).requests["read"] < 12


def test_a_run_whose_openings_are_not_known_has_no_runtime(url: str) -> None:
    plain = Writer(open_storage(url, None), RunRef("p", "a"), background=False)
    plain.open(OpenRequest())
    plain.append("metrics", {"x": 1}, 0)
    plain.finish("finished")
    plain.close()
    stored = open_store(url).run("p/a")
    assert (stored.runtime, stored.started) == (0.0, stored.created)
    assert StoredRun(open_storage(url, None), Position(RunRef("p", "a"), None, None)).environment is None


def test_a_table_shows_a_revision_that_was_removed_as_such(tmp_path: Path) -> None:
    with rewind_logger.init(dir=str(tmp_path), project="p", id="a") as run:
        run.log({"loss": 1.0})
        run.log({"loss": 2.0})
    with rewind_logger.init(dir=str(tmp_path), project="p", resume_from="a?_step=0") as run:
        run.log({"loss": 3.0})
    store = rewind_logger.open_store(tmp_path)
    store.remove("p/a@1", dry_run=False)
    first, second = store.run("p/a").revisions
    assert (first.removed, second.removed, second.rows) == (True, False, 2)
    lines = str(store.run("p/a").revisions).splitlines()
    assert lines[1].split()[-1] == "removed"
    assert lines[2].split()[0] == "a@2"
