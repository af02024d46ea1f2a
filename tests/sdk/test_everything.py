"""Everything that a run has rewinds: a real store beside a plain model, over random lives of runs."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import rewind_logger
from rewind_logger import Run, open_store
from rewind_logger.sdk.console.console import Console
from tests.history.machine import die
from tests.sdk.everything import NAMES, Event, Line, ModelRun
from tests.small import make_small

KEYS = st.sampled_from(NAMES)
NUMBERS = st.floats(allow_nan=False, width=32) | st.integers(-5, 5).map(float)
PROJECT = "p"

MEMORY = "/dev/shm"
"""Most of the time would go into syncing files; where there is such a folder, it is in memory."""


class Life(RuleBasedStateMachine):
    """The lives of a few runs in one store; one of them at a time is open."""

    whole: ClassVar[bool] = False
    """Whether everything is compared after each step, or what was just changed and one other thing."""

    def __init__(self) -> None:
        super().__init__()
        self.store = tempfile.mkdtemp(prefix="rewind-logger-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None)
        self.runs: dict[str, ModelRun] = {}
        self.run: Run | None = None
        self.turn = 0
        self.watched = True  # after each step; a flush before each crash leaves nothing in the journal
        self.begun = False  # whether a number was logged since the opening
        self.crashed: set[str] = set()  # and not opened since: the end of it is in a journal

    def teardown(self) -> None:
        if self.run is not None:
            self.run.finish()
        for name in sorted(self.crashed):
            self.runs[name].resume()
            self.begin(id=name).finish()
        try:
            self.compare(self.runs, whole=True)
        finally:
            shutil.rmtree(self.store, ignore_errors=True)

    # What the open run is told

    @property
    def line(self) -> Line:
        """The model of the open run's head."""
        assert self.run is not None
        return self.runs[self.run.id].head

    def note(self, kind: Any, key: str, value: Any) -> None:
        """Add to the model what was logged now."""
        assert self.run is not None
        self.line.events.append(Event(self.run.step, kind, key, value))

    @precondition(lambda self: self.run is not None)
    @rule(values=st.dictionaries(KEYS, NUMBERS, min_size=1))
    def log(self, values: dict[str, float]) -> None:
        assert self.run is not None
        for key, value in sorted(values.items()):  # the order in which points of one row are read
            self.note("metric", key, value)
        self.run.log(values)
        self.begun = True

    @precondition(lambda self: self.run is not None)
    @rule(count=st.integers(2, 40), value=NUMBERS)
    def log_many(self, count: int, value: float) -> None:
        for _ in range(count):
            self.log({"loss": value})

    @precondition(lambda self: self.run is not None)
    @rule(text=st.sampled_from(("short", "long " * 1000)), loss=st.none() | NUMBERS)
    def show(self, text: str, loss: float | None) -> None:
        """Log a text, which is a file of the store if it is long, and perhaps a number with it."""
        assert self.run is not None
        self.note("media", "sample", text)
        if loss is not None:
            self.note("metric", "loss", loss)
            self.begun = True
        self.run.log({"loss": loss, "sample": rewind_logger.Text(text)})

    @precondition(lambda self: self.run is not None)
    @rule(key=st.sampled_from(("lr", "depth")), value=st.integers(0, 9))
    def configure(self, key: str, value: int) -> None:
        assert self.run is not None
        self.note("config", key, value)
        self.run.config[key] = value

    @precondition(lambda self: self.run is not None)
    @rule(tags=st.lists(st.sampled_from(("a", "b", "c")), max_size=2).map(tuple))
    def tag(self, tags: tuple[str, ...]) -> None:
        assert self.run is not None
        self.note("tags", "", tags)
        self.run.tags = tags

    @precondition(lambda self: self.run is not None)
    @rule(
        name=st.sampled_from(("model", "data")),
        content=st.sampled_from(("x", "y")),
        alias=st.none() | st.sampled_from(("good", "bad")),
    )
    def keep(self, name: str, content: str, alias: str | None) -> None:
        """Log an artifact; with the content of the newest version it makes no new one."""
        assert self.run is not None
        self.note("artifact", name, (content, alias))
        self.run.log_artifact(artifact(name, content), aliases=None if alias is None else [alias])

    @precondition(lambda self: self.run is not None and self.line.artifacts)
    @rule(data=st.data())
    def use(self, data: st.DataObject) -> None:
        """Find one by an alias or its number, as the open run sees them."""
        assert self.run is not None
        (name, version), (step, content, aliases) = data.draw(st.sampled_from(sorted(self.line.artifacts.items())))
        which = data.draw(st.sampled_from(sorted({version, *aliases})))
        used = len(self.run.used_artifacts)
        found = self.run.use_artifact(f"{name}:{which}")
        if len(self.run.used_artifacts) > used:  # it is noted once in a history
            self.note("use", name, version)
        assert (found.version, found.step, frozenset(found.aliases)) == (version, step, aliases)
        assert Path(found.get_entry("content").download(Path(self.store, "down", "content"))).read_text() == content

    @precondition(lambda self: self.run is not None)
    @rule(key=KEYS, wanted=st.sampled_from(("none", "min", "max,last", "mean,first", "best")))
    def define(self, key: str, wanted: str) -> None:
        """Say what the summary keeps: what an opening begins with survives every cut, as its config does."""
        assert self.run is not None
        clock = self.run.step if self.begun else -1
        self.line.events.append(Event(clock, "define", key, wanted))
        self.run.define_metric(key, summary=wanted, overwrite=True)

    @precondition(lambda self: self.run is not None)
    @rule(key=st.sampled_from((*NAMES, "score")), value=st.integers(0, 9))
    def summarize(self, key: str, value: int) -> None:
        assert self.run is not None
        self.note("summary", key, value)
        self.run.summary[key] = value

    @precondition(lambda self: self.run is not None)
    @rule(text=st.sampled_from(("done", "\x1b[32mgreen\x1b[0m", "10 %\r20 %\r30 %", "")))
    def print(self, text: str) -> None:
        """Print a line; of a progress bar only the last state stays."""
        self.note("console", "stdout", text.rpartition("\r")[2])
        print(text)

    @precondition(lambda self: self.run is not None)
    @rule(value=NUMBERS)
    def measure(self, value: float) -> None:
        assert self.run is not None
        self.note("system", "cpu", value)
        self.run._append("system", {"cpu": value}, self.run.step)

    @precondition(lambda self: self.run is not None)
    @rule()
    def look(self) -> None:
        """Flush, and read."""
        assert self.run is not None
        assert_same_summary(self.run.summary.as_dict(), self.line.summary, "live")
        assert self.run.flush()
        self.compare({self.run.id: self.runs[self.run.id]}, whole=True)

    # Beginnings and ends

    def begin(self, **how: Any) -> Run:
        """Open a run."""
        if self.run is not None:
            self.run.finish()
        self.turn += 1
        self.run = rewind_logger.init(dir=self.store, project=PROJECT, system_metrics=False, **how)
        self.crashed.discard(self.run.id)
        self.begun = False
        return self.run

    @initialize(watched=st.booleans())
    def new(self, watched: bool) -> None:
        self.watched = watched
        self.runs["r0"] = ModelRun()
        self.begin(id="r0", config={"depth": 1})
        self.line.events.append(Event(-1, "config", "depth", 1))

    @rule(data=st.data())
    def reopen(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.runs)))
        if self.run is not None:
            self.run.finish()
        self.runs[name].resume()
        run = self.begin(id=name, config={"lr": self.turn})
        self.line.events.append(Event(-1, "config", "lr", self.turn - 1))
        assert (run.step, run.revision) == (self.line.start, len(self.runs[name].revisions))

    @precondition(lambda self: self.run is not None)
    @rule()
    def crash(self) -> None:
        assert self.run is not None
        crash(self.run)
        self.crashed.add(self.run.id)
        self.run = None

    @rule(data=st.data())
    def rewind(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.runs)))
        if self.run is not None:
            self.run.finish()
        model = self.runs[name]
        revision = data.draw(st.integers(1, len(model.revisions)))
        step = data.draw(st.integers(-1, model.revisions[revision - 1].next_step - 1))
        model.rewind(revision, step + 1)
        run = self.begin(resume_from=f"{name}@{revision}?_step={step}")
        assert (run.step, run.revision) == (step + 1, len(model.revisions))

    @precondition(lambda self: len(self.runs) < 4)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.runs)))
        if self.run is not None:
            self.run.finish()
        model = self.runs[name]
        revision = data.draw(st.integers(1, len(model.revisions)))
        step = data.draw(st.integers(-1, model.revisions[revision - 1].next_step - 1))
        child = f"r{len(self.runs)}"
        self.runs[child] = model.fork(revision, step + 1)
        run = self.begin(id=child, fork_from=f"{name}@{revision}?_step={step}")
        assert (run.step, run.revision) == (step + 1, 1)

    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.runs)))
        model = self.runs[name]
        revision = data.draw(st.integers(1, len(model.revisions)))
        if self.run is not None:
            self.run.finish()
            self.run = None
        model.restore(revision)
        restored = open_store(self.store).restore(f"{PROJECT}/{name}@{revision}")
        assert restored.revision == len(model.revisions)

    # What is read

    @invariant()
    def agrees(self) -> None:
        """Whoever reads sees what the model says."""
        if self.run is not None and self.watched:
            assert self.run.flush()
            settled = {name: run for name, run in self.runs.items() if name not in self.crashed}
            self.compare(settled if self.whole else {self.run.id: self.runs[self.run.id]}, whole=self.whole)

    def compare(self, runs: dict[str, ModelRun], *, whole: bool) -> None:
        """Compare heads, archived revisions, and what they were as of a step."""
        store = open_store(self.store)
        for name, model in runs.items():
            for number, line in enumerate(model.revisions, start=1):
                is_head = number == len(model.revisions)
                if not whole and not is_head and number != self.turn % len(model.revisions) + 1:
                    continue
                where = f"{PROJECT}/{name}" if is_head else f"{PROJECT}/{name}@{number}"
                same(store.run(where), line)
                step = self.turn % (line.next_step + 1) - 1
                same(store.run(f"{where}?_step={step}"), line.cut_at(step + 1))


def artifact(name: str, content: str) -> rewind_logger.Artifact:
    """An artifact of one file."""
    made = rewind_logger.Artifact(name, "text")
    with made.new_file("content") as file:
        file.write(content)
    return made


@functools.cache
def digest(content: str) -> str:
    return artifact("any", content).digest


def assert_same_summary(found: dict[str, Any], expected: dict[str, Any], where: object) -> None:
    """Compare summaries; a mean to the last few bits."""
    assert found.keys() == expected.keys(), where
    for key, value in expected.items():
        assert found[key] == (pytest.approx(value, rel=1e-12) if isinstance(value, dict) else value), (where, key)


def same(stored: rewind_logger.StoredRun, line: Line) -> None:
    """Compare what a store shows with what it should."""
    long = stored.history().to_long("arrow").to_pylist()
    assert [(row["_step"], row["key"], row["value"]) for row in long] == line.metrics, stored
    assert [(one.step, one.key, one.read().decode()) for one in stored.media()] == line.media, stored
    artifacts = {(one.name, one.version): (one.step, one.digest, frozenset(one.aliases)) for one in stored.artifacts}
    expected = {which: (step, digest(content), aliases) for which, (step, content, aliases) in line.artifacts.items()}
    assert artifacts == expected, stored
    console = [row for row in stored.history(stream="console").to_arrow().to_pylist() if row["source"] == "stdout"]
    assert [(row["_step"], row["text"]) for row in console] == line.console, stored
    system = stored.history(stream="system").to_long("arrow").to_pylist()
    assert [(row["_step"], row["value"]) for row in system] == line.system, stored
    assert_same_summary(stored.summary.as_dict(), line.summary, stored)
    assert stored.config == line.config, stored
    assert stored.tags == line.tags, stored


def crash(run: Run) -> None:
    """Do to an open run what the end of its process would: nothing more is written, nothing is closed."""
    for companion in run._companions:
        if isinstance(companion, Console):
            companion._stop_thread()
        companion.disown()
    run._writer._stop_flusher()
    die(run._writer)
    rewind_logger.sdk.open_runs.remove(run._storage.url, run._ref, run)
    run._state = "finished"


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say nothing of openings, of which there are thousands; and do after a few rows what else takes many."""
    monkeypatch.setenv("REWIND_LOGGER_QUIET", "1")
    make_small(monkeypatch.setattr, fan_in=3, lineage=4)


class WholeLife(Life):
    """The same, with everything compared after each step."""

    whole = True


CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

TestLife = Life.TestCase
TestLife.settings = settings(max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=CHECKS)


@pytest.mark.exhaustive
@pytest.mark.timeout(3600)
class TestWholeLife(WholeLife.TestCase):  # type: ignore[valid-type,misc]
    settings = settings(
        max_examples=int(os.environ.get("REWIND_LOGGER_LIVES", "100")),
        stateful_step_count=60,
        deadline=None,
        suppress_health_check=CHECKS,
    )
