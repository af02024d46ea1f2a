"""What this package writes, a stranger reads with nothing but `docs/format.md`, and finds the same."""

from __future__ import annotations

import json
import math
import secrets
import struct
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from rewind_logger import FencedError, init, open_store
from rewind_logger.history import compact, opening, view
from rewind_logger.history.evaluation import EvaluationWriter
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.writer import Writer
from rewind_logger.sdk.frames import History
from rewind_logger.storage import open_storage
from rewind_logger.types import Position, RunRef, Scalar
from tests.format.stranger import Point, Stranger

RUN, FORK = RunRef("team/p", "r1"), RunRef("p", "r2")


@pytest.fixture(params=[True, False], ids=["with shortcuts", "without"])
def shortcuts(request: pytest.FixtureRequest) -> bool:
    """Whether the stranger uses plans and `merge.json`."""
    return bool(request.param)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compact and merge after a few flushes."""
    monkeypatch.setattr(compact, "FAN_IN", 4)
    monkeypatch.setattr(compact, "CLOSING_PARTS", 3)
    monkeypatch.setattr(view, "LONG_LINEAGE", 4)
    monkeypatch.setattr(opening, "PLANNED_FILES", 5)


class Session:
    """One writer that logs and flushes."""

    def __init__(self, store: str, run: RunRef, at: Position | None = None) -> None:
        self.writer = Writer(open_storage(store), run, background=False)
        self.clock = self.writer.open(OpenRequest(at=at)).start

    def log(self, flushes: int, *, last: bool = True) -> Session:
        """Log two rows a flush; the last flush may be left out."""
        for flush in range(flushes):
            for _ in range(2):
                step = 7 * self.clock if self.clock % 5 == 0 else None
                self.writer.append("metrics", values_at(self.clock), self.clock, step, 1_700_000_000_000 + self.clock)
                self.clock += 1
            if last or flush < flushes - 1:
                self.writer.flush()
        return self

    def finish(self) -> None:
        """Compact, and let go."""
        self.writer.finish("finished")
        self.writer.close()

    def die(self) -> None:
        """Let go of files and locks as the kernel does for a process that is killed."""
        assert self.writer._outbox is not None
        self.writer._outbox._journal.leave()


def values_at(clock: int) -> dict[str, Scalar]:
    """Some of each kind of value."""
    values: dict[str, Scalar] = {"loss": 1 / (clock + 1), "größe/a": clock, "ok": clock % 2 == 0, "note": f"№ {clock}"}
    odd: list[Scalar] = [math.nan, -math.inf, -0.0, 2**63 + 1, -(2**63)]
    return {**values, "odd": odd[clock % len(odd)]} if clock % 3 else values


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A store with everything in it that can be in one."""
    store = str(tmp_path / "store")
    Session(store, RUN).log(9).finish()  # steps 0 to 17, compacted
    Session(store, RUN, Position(RUN, None, 11)).log(3).finish()  # revision 2
    for _ in range(6):  # a long lineage, to be merged
        Session(store, RUN).log(1).finish()
    forked = Session(store, FORK, Position(RUN, 1, 15)).log(5)
    Session(store, RUN, Position(RUN, 1, None)).log(2).finish()  # revision 3: revision 1 again
    Session(store, FORK, Position(FORK, None, 4)).log(2).finish()  # back into what it was forked from
    with pytest.raises(FencedError):
        forked.log(1)  # what a fenced writer puts lies beyond its seal
    evaluation = EvaluationWriter(
        open_storage(store), RUN, kind="test", revision=2, next_step=12, checkpoint="checkpoints/a.ckpt"
    )
    for n in range(3):
        evaluation.append({"acc": n / 3})
        evaluation.flush()
    Session(store, RUN, Position(RUN, None, 13)).log(3, last=False).die()  # revision 4, with a flush that is missing
    return store


def exact(points: list[Point]) -> list[tuple[object, ...]]:
    """Points such that equal ones are equal to the bit, NaNs too."""
    return [(*point[:5], None if point[5] is None else struct.pack("<d", point[5]), point[6]) for point in points]


def assert_the_same(stranger: list[Point], history: History) -> None:
    """Compare the points to the bit, and then with what people see."""
    columns = (
        history._points.column(name).to_pylist() for name in ("key", "clock", "time", "step", "kind", "value", "text")
    )
    assert exact(stranger) == exact(list(zip(*columns, strict=True)))
    assert len(stranger) > 0
    long = history.to_long("arrow")
    seen = zip(long["key"].to_pylist(), long["_step"].to_pylist(), long["_timestamp"].to_pylist(), strict=True)
    assert [(key, clock, ms / 1000) for key, clock, ms, *_ in stranger] == list(seen)


def test_every_revision_and_step_reads_the_same(store: str, shortcuts: bool) -> None:
    revisions = {RUN: 4, FORK: 2}
    for run, last in revisions.items():
        stranger = Stranger(store, str(run), shortcuts=shortcuts)
        assert stranger.base["revision"] == last
        assert_the_same(stranger.points(), open_store(store).run(str(run)).history())
        for revision in range(1, last + 1):
            name = f"{run}@{revision}"
            assert_the_same(stranger.points(revision=revision), open_store(store).run(name).history())
            last_step = open_store(store).run(name).last_step
            assert last_step is not None
            for step in {0, 3, 4, 10, 11, 14, 15, 16, last_step} & set(range(last_step + 1)):
                history = open_store(store).run(f"{name}?_step={step}").history()
                assert_the_same(stranger.points(revision=revision, step=step), history)


def test_there_is_what_makes_reading_hard(store: str) -> None:
    """Else the test above would show little."""
    found = {str(path.relative_to(store)) for path in Path(store).rglob("*") if path.is_file()}
    assert any("merge.json" in name for name in found)
    assert any("/a0/s/" in name for name in found)
    assert any("/pins/" in name for name in found)
    assert any("000000000-000000003_0_7.parquet" in name for name in found), "compacted"
    assert any("000000005-000000005_25_26.parquet" in name for name in found), "put by a fenced writer"
    forked = Stranger(store, str(FORK), shortcuts=True).base
    assert {entry["cut"] for entry in forked["lineage"]} == {4}


def test_rows_that_a_killed_writer_left_are_those_that_the_next_opening_brings_in(store: str) -> None:
    stranger = Stranger(store, str(RUN), shortcuts=True)
    waiting = stranger.waiting()
    assert [clock for clock, _ in waiting] == [17, 18]
    assert repr([values for _, values in waiting]) == repr([values_at(17), values_at(18)])
    before = stranger.points()
    Session(store, RUN, Position(RUN, None, 2)).finish()  # archives the revision, with its last rows
    after = Stranger(store, str(RUN), shortcuts=True).points(revision=4)
    assert exact(after[: len(before)]) == exact(before)
    assert sorted({clock for _, clock, *_ in after[len(before) :]}) == [17, 18]
    assert_the_same(after, open_store(store).run(f"{RUN}@4").history())


def test_evaluations(store: str) -> None:
    ((about, points),) = Stranger(store, str(RUN), shortcuts=True).evaluations()
    (ours,) = open_store(store).run(f"{RUN}@2").evaluations
    assert (about["kind"], about["revision"], about["next_step"]) == (ours.kind, ours.revision, ours.next_step)
    assert about["checkpoint"] == ours.checkpoint == "checkpoints/a.ckpt"
    assert_the_same(points, ours.history())
    assert [point[5] for point in points] == [0, 1 / 3, 2 / 3]


def test_events_are_config_and_labels(tmp_path: Path) -> None:
    store = str(tmp_path)
    with init(dir=store, project="p", id="r", config={"lr": 0.1, "depth": {"a": 1}}, tags=["x"]) as run:
        run.log({"loss": 1.0})
        run.config.update({"lr": 0.2}, allow_val_change=True)
        run.log({"loss": 2.0})
    config: dict[str, object] = {}
    labels: dict[str, object] = {}
    openings: list[str] = []
    for key, _, _, _, _, _, text in Stranger(store, "p/r", shortcuts=True).points("events"):
        assert text is not None
        if key == "config":
            config.update(json.loads(text))
        elif key == "opened":
            openings.append(json.loads(text)["kind"])
        elif key != "environment":
            labels[key] = json.loads(text)
    ours = open_store(store).run("p/r")
    assert config == ours.config == {"lr": 0.2, "depth": {"a": 1}}
    assert labels == {"tags": list(ours.tags)}
    assert openings == ["new"]


@pytest.mark.parametrize("fan_in", [64, pytest.param(5000, marks=pytest.mark.exhaustive)])
def test_flushes_are_found_in_folders_of_a_thousand(
    tmp_path: Path, fan_in: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact, "FAN_IN", fan_in)
    written = f"memory://{secrets.token_hex(8)}"  # not a disk, which would sync each of a thousand files
    Session(written, RUN).log(1003).finish()
    Session(written, RUN, Position(RUN, None, 2004)).log(1).finish()
    store = str(tmp_path / "copied by any tool")
    MemoryFileSystem().get(written, store, recursive=True)
    for name, revision in ((f"{RUN}@1", 1), (str(RUN), 2)):
        history = open_store(store).run(name).history()
        for shortcuts in (True, False):
            assert_the_same(Stranger(store, str(RUN), shortcuts=shortcuts).points(revision=revision), history)
