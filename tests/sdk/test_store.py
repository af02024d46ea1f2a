"""Reading: `open_store`, and what a stored run says."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from rewind_logger import ConfigError, PositionError, RunNotFoundError, StorageError, Store, init, open_store
from rewind_logger.history.evaluation import EvaluationWriter
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.writer import Writer
from rewind_logger.storage import open_storage
from rewind_logger.storage.wrapper import WrapperStorage
from rewind_logger.types import RunRef
from tests.sdk.reading import rows


@pytest.fixture
def store(any_url: str) -> str:
    """p/r1: 10 steps, rewound to 4, two steps more."""
    with init(dir=any_url, project="p", id="r1", config={"lr": 0.1}, name="one") as run:
        for i in range(10):
            run.log({"a": i, "b": i / 2} if i % 2 else {"a": i})
    with init(dir=any_url, resume_from="p/r1?_step=4") as run:
        for i in range(2):
            run.log({"a": 50 + i})
    return any_url


def test_runs_are_listed(store: str) -> None:
    init(dir=store, project="p", id="r0").finish()
    init(dir=store, project="q", id="r1").finish()
    init(dir=store, entity="team", project="p", id="r2").finish()
    opened = open_store(store)
    assert [run.path for run in opened.runs()] == ["p/r0", "p/r1", "q/r1", "team/p/r2"]
    assert [run.id for run in opened.runs("p")] == ["r0", "r1"]
    assert [run.id for run in opened.runs("team/p")] == ["r2"]
    assert opened.runs("nothing") == []


def test_a_run_is_found_by_any_of_its_names(store: str) -> None:
    opened = open_store(store)
    for name in ("p/r1", "r1", "p/r1@2", "r1@2", "r1?_step=6"):
        found = opened.run(name)
        assert (found.path, found.project, found.entity, found.revision) == ("p/r1", "p", None, 2), name
    assert opened.run("r1@1").immutable_id == "r1@1"
    init(dir=store, entity="team", project="q", id="r9").finish()
    assert opened.run("r9").path == opened.run("team/q/r9").path == "team/q/r9"


def test_what_is_not_there(store: str, tmp_path: Path) -> None:
    opened = open_store(store)
    init(dir=store, project="q", id="r1").finish()
    for name, error, message in [
        ("p/r9", RunNotFoundError, "no run p/r9"),
        ("r9", RunNotFoundError, "no run 'r9'"),
        ("r1", RunNotFoundError, "Several runs .*p/r1, q/r1"),
        ("p/r1@3", RunNotFoundError, "has no revision 3"),
        ("p/r1?_step=7", PositionError, "has no step 7: its last step is 6"),
        ("p/r1@1?_step=10", PositionError, "has no step 10: its last step is 9"),
        ("p/r1?_step=x", PositionError, "no number"),
        ("s3://bucket/p/r1", PositionError, r"is a URL: open the store with open_store\(url\)"),
    ]:
        with pytest.raises(error, match=message):
            opened.run(name)
    nowhere = open_store(tmp_path / "nowhere")
    assert nowhere.runs() == []
    with pytest.raises(RunNotFoundError, match="no run p/r1"):
        nowhere.run("p/r1")
    assert not (tmp_path / "nowhere").exists(), "looking makes nothing"


def test_history_of_the_head_of_a_revision_and_of_a_step(store: str) -> None:
    def steps(name: str) -> list[tuple[object, object]]:
        return [(row["_step"], row["a"]) for row in rows(store, name)]

    before = [(i, i) for i in range(10)]
    assert steps("p/r1") == [*before[:5], (5, 50), (6, 51)]
    assert steps("p/r1@1") == before
    assert steps("p/r1?_step=5") == [*before[:5], (5, 50)]
    assert steps("p/r1@1?_step=5") == before[:6]
    assert steps("p/r1?_step=-1") == []


def test_history_of_some_keys_and_steps(store: str) -> None:
    history = open_store(store).run("p/r1@1").history
    assert history(keys=["b"]).to_arrow()["_step"].to_pylist() == [1, 3, 5, 7, 9]
    assert history(keys="b").keys == ["b"]
    assert history(keys=[]).keys == []
    assert history(start=3, stop=6).to_arrow()["a"].to_pylist() == [3, 4, 5], "start is inclusive, stop is not"
    assert len(history(start=10)) == 0
    with pytest.raises(ConfigError, match="no stream 'nothing'"):
        history(stream="nothing")  # type: ignore[call-overload]


def test_summary_config_and_labels_are_those_of_the_place(store: str) -> None:
    opened = open_store(store)
    assert dict(opened.run("p/r1").summary) == {"a": 51, "b": 1.5}
    assert dict(opened.run("p/r1@1").summary) == {"a": 9, "b": 4.5}
    assert dict(opened.run("p/r1@1?_step=2").summary) == {"a": 2, "b": 0.5}
    assert opened.run("p/r1@1?_step=2").config == {"lr": 0.1}
    assert (opened.run("p/r1").name, opened.run("p/r1").notes, opened.run("p/r1").tags) == ("one", None, ())
    assert opened.run("p/r1").last_step == 6


def test_revisions(store: str) -> None:
    first, second = open_store(store).run("p/r1").revisions
    assert (first.number, first.immutable_id, first.parent, first.cut, first.archived) == (1, "r1@1", None, None, True)
    assert (second.number, second.immutable_id, second.parent) == (2, "r1@2", "p/r1@1")
    assert (second.cut, second.archived, second.reason) == (5, False, "resume_from='p/r1?_step=4'")
    assert (first.rows, second.rows) == (10, 7)
    assert datetime.now(timezone.utc) - second.created < timedelta(minutes=5)


def test_lineage(store: str) -> None:
    opened = open_store(store)
    opened.restore("p/r1@1")
    assert opened.run("p/r1").lineage == ["p/r1@1", "p/r1@3"]
    assert opened.run("p/r1@2").lineage == ["p/r1@1?_step=4", "p/r1@2"]
    assert opened.run("p/r1@1").lineage == ["p/r1@1"]


def test_state(url: str) -> None:
    run = init(dir=url, project="p", id="r1")
    run.log({"a": 1})
    run.flush()

    def state(name: str) -> str:
        return open_store(url).run(name).state

    assert state("p/r1") == "running"
    run.finish(exit_code=3)
    assert state("p/r1") == "failed"
    other = init(dir=url, project="p", id="r1", resume_from="r1?_step=-1")
    assert (state("p/r1"), state("p/r1@1")) == ("running", "failed")
    other.finish()
    assert (state("p/r1"), state("p/r1@1")) == ("finished", "failed")


def test_a_revision_that_was_cut_off_while_it_ran_is_superseded(url: str) -> None:
    writer = Writer(open_storage(url), RunRef("p", "r1"))
    writer.open(OpenRequest())
    writer.append("metrics", {"a": 1}, 0)
    writer.flush()
    init(dir=url, project="p", resume_from="r1?_step=-1").finish()
    writer.close()
    assert open_store(url).run("p/r1@1").state == "superseded"


def test_a_reader_sees_what_was_flushed_meanwhile(any_url: str) -> None:
    run = init(dir=any_url, project="p", id="r1")
    stored = open_store(any_url).run("p/r1")
    assert len(stored.history()) == 0
    for i in range(3):
        run.log({"a": i})
        run.flush()
        assert len(stored.history()) == i + 1
        assert stored.summary["a"] == i


def test_an_archived_revision_is_looked_up_once(store: str) -> None:
    stored = open_store(store).run("p/r1@1")
    before = stored.history().to_arrow()
    init(dir=store, resume_from="p/r1?_step=-1").finish()
    assert stored.history().to_arrow().equals(before)


class ReadOnly(WrapperStorage):
    """A store in which nothing may be written."""

    def create(self, path: str, data: bytes) -> bool:
        raise StorageError(f"create {path}")

    def put(self, path: str, data: bytes) -> None:
        raise StorageError(f"put {path}")

    def delete(self, path: str) -> None:
        raise StorageError(f"delete {path}")


def test_reading_needs_no_right_to_write(store: str) -> None:
    opened = Store(ReadOnly(open_storage(store)))
    assert len(opened.runs()) == 1
    for name in ("p/r1", "p/r1@1", "p/r1?_step=3"):
        stored = opened.run(name)
        assert len(stored.history()) > 0
        assert (stored.state, stored.config, stored.checkpoints, stored.evaluations) == (
            "finished",
            {"lr": 0.1},
            [],
            [],
        )
        assert [revision.rows for revision in stored.revisions] == [10, 7]
        assert stored.lineage
        assert stored.summary["a"] is not None
    with pytest.raises(StorageError, match="create"):
        opened.restore("p/r1@1")


def test_checkpoints(any_url: str) -> None:
    run = init(dir=any_url, project="p", id="r1")
    mark = {"nonce": "n1", "next_step": 2, "global_step": 4, "epoch": 0, "score": 0.5, "monitor": "a", "path": None}
    for i in range(6):
        run.log({"a": i})
        if i == 1:
            run._writer.append("checkpoints", {"mark": json.dumps(mark)}, i)
        if i == 2:
            run._writer.append("checkpoints", {"path": json.dumps({"nonce": "n1", "path": "c/step=2.ckpt"})}, i)
        if i == 4:
            later = {"nonce": "n2", "next_step": 5, "path": "c/last.ckpt"}
            run._writer.append("checkpoints", {"mark": json.dumps(later)}, i)
    run.finish()
    opened = open_store(any_url)
    first, last = opened.run("p/r1").checkpoints
    assert (first.path, first.next_step, first.global_step, first.epoch) == ("c/step=2.ckpt", 2, 4, 0)
    assert (first.score, first.monitor) == (0.5, "a")
    assert (last.path, last.next_step, last.score) == ("c/last.ckpt", 5, None)
    assert [one.path for one in opened.run("p/r1?_step=3").checkpoints] == ["c/step=2.ckpt"]
    assert [one.path for one in opened.run("p/r1?_step=1").checkpoints] == [None], "its path was not known then"
    assert opened.run("p/r1?_step=0").checkpoints == []


def test_evaluations(store: str) -> None:
    writer = EvaluationWriter(
        open_storage(store), RunRef("p", "r1"), kind="test", revision=1, next_step=4, checkpoint="c/x.ckpt"
    )
    writer.append({"acc": 0.75})
    writer.flush()
    (found,) = open_store(store).run("p/r1").evaluations
    assert (found.kind, found.checkpoint, found.revision, found.next_step) == ("test", "c/x.ckpt", 1, 4)
    assert dict(found.summary) == {"acc": 0.75}
    assert found.history().to_arrow()["_step"].to_pylist() == [3]
    assert repr(found) == "<Evaluation test of p/r1@1?_step=3>"


def test_what_it_looks_like(store: str) -> None:
    opened = open_store(store)
    assert repr(opened) == f"<Store {opened.url}>"
    assert repr(opened.run("p/r1@1?_step=3")) == f"<StoredRun p/r1@1?_step=3 in {opened.url}>"
    assert opened.run("p/r1").url == f"{opened.url}/p/r1"


@pytest.mark.parametrize(
    ("grace", "said"),
    [
        (timedelta(hours=23), "too short"),
        (timedelta(days=-1), "too short"),
        (0, r"give a timedelta, such as timedelta\(days=7\)"),
        (None, "give a timedelta"),
    ],
)
def test_a_collection_without_a_day_of_grace_is_refused(tmp_path: Path, grace: Any, said: str) -> None:
    """What a writer relies on at that moment could go."""
    store = open_store(tmp_path)
    for dry_run in (True, False):
        with pytest.raises(ConfigError, match=said):
            store.collect(grace=grace, dry_run=dry_run)
    assert store.collect(grace=timedelta(0), exclusive=True).objects == {}


@pytest.mark.skipif(os.name == "nt", reason="links need a right there")
@pytest.mark.parametrize("where", ["latest", "p/latest", "p/a/notes"])
def test_a_stray_link_hides_no_run_but_stops_who_must_know_all(
    where: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with init(dir=tmp_path / "store", project="p", id="a") as run:
        run.log({"x": 1})
    (tmp_path / "other").mkdir()
    (tmp_path / "store" / where).symlink_to(tmp_path / "other")
    store = open_store(tmp_path / "store")
    for _ in range(2):
        assert [run.path for run in store.runs()] == ["p/a"]
    assert store.run("a").summary["x"] == 1
    said = [record.message for record in caplog.records if f"{where} is left out" in record.message]
    assert len(said) == 1, "once"
    report = store.verify()
    assert report.ok and any(f"{where} is left out" in note for note in report.notes)
    with pytest.raises(RunNotFoundError, match=r"Project p has a\."):
        store.run("p/b")
    for refused in (store.collect, lambda: store.remove("p/a")):
        with pytest.raises(StorageError, match="leads out of the store"):
            refused()


def test_a_dry_run_writes_nothing_and_needs_no_right_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with init(dir=tmp_path / "store", project="p", id="a") as run:
        run.log({"x": 1})
    with init(dir=tmp_path / "store", project="p", resume_from="a?_step=-1"):
        pass
    store, written = open_store(tmp_path / "store"), []
    monkeypatch.setattr(type(store.storage), "put", lambda self, path, data: written.append(path))
    monkeypatch.setattr(type(store.storage), "create", lambda self, path, data: written.append(path))
    for report in (store.collect(), store.remove("p/a"), store.remove("p/a@1")):
        assert report.dry_run and "by the clock of this machine, for a dry run writes nothing" in str(report)
    assert not written
    assert open_store(tmp_path / "typo").collect().objects == {}
    assert not (tmp_path / "typo").exists()


def test_a_store_in_which_nothing_is_may_be_a_typing_error(tmp_path: Path) -> None:
    report = open_store(tmp_path / "typo").verify()
    assert report.ok, "an empty store is as it should be"
    assert str(report) == f"{tmp_path}/typo: nothing is there: is it the right store?"
