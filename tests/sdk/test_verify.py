"""`Store.verify` as a person uses it, and the files that rows refer to."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewind_logger import Artifact, ConfigError, Store, init, open_store
from rewind_logger.format import names
from rewind_logger.history import blobs
from rewind_logger.sdk.media.table import Table
from tests.figures import count


@pytest.fixture
def store(url: str, tmp_path: Path) -> Store:
    """A store with files: of an artifact in two versions, and of a table that was logged, rewound over, and again."""
    for version in (1, 2):
        (tmp_path / "data.csv").write_text(f"a,b\n{version},2\n")
        with init(dir=url, project="p", id="r1", resume_from=None if version == 1 else "p/r1?_step=1") as run:
            for step in range(run.step, run.step + 3):
                run.log({"loss": step, "table": Table(columns=["x"], data=[[version * 100 + step]])})
            artifact = Artifact("data", type="dataset")
            artifact.add_file(str(tmp_path / "data.csv"))
            run.log_artifact(artifact)
    return open_store(url)


def objects(store: Store) -> list[str]:
    found = [
        f"blobs/{folder.name}/{info.name}"
        for folder in store.storage.list("blobs")
        for info in store.storage.list(f"blobs/{folder.name}")
    ]
    assert len(found) > 7
    return found


def test_files_are_checked_against_their_names(store: Store) -> None:
    report = store.verify()
    assert report.ok, report
    assert report.objects["blobs"] == len(objects(store))
    assert store.verify("p/r1").objects["blobs"] == len(objects(store))
    for i, path in enumerate(objects(store)):
        data = store.storage.read(path)
        store.storage.delete(path)
        if i % 3:
            store.storage.put(path, data[:-1] if i % 3 == 1 else bytes([data[0] ^ 1]) + data[1:])
            count("bytes flipped", i % 3 - 1)
        problems = store.verify().problems
        assert path in [problem.path for problem in problems]
        assert all("p/r1@" in problem.cost and problem.harm == "loss" for problem in problems), problems
        assert [problem.path for problem in store.verify("r1").problems] == [problem.path for problem in problems]
        store.storage.put(path, data)


def test_what_a_file_is_needed_for_is_said(store: Store) -> None:
    first = blobs.digest_of(b"a,b\n1,2\n")
    store.storage.delete(names.blob(first))
    (problem,) = store.verify().problems
    assert problem.what == "It is missing."
    assert problem.cost.startswith("what 'logged' refers to: rows of artifacts in p/r1@1 (step")


def test_a_file_that_no_row_refers_to_costs_nothing(store: Store) -> None:
    digest = blobs.put(store.storage, b"left by a fenced writer")
    assert store.verify().ok
    store.storage.put(names.blob(digest), b"something else")
    (problem,) = store.verify().problems
    assert (problem.harm, problem.path) == ("none", names.blob(digest))
    assert store.verify("p/r1").ok


def test_a_run_that_can_no_longer_be_read_can_be_verified(store: Store) -> None:
    folder = store.storage.list("p/r1/t")[-1].name
    base = f"p/r1/t/{folder}/base.json"
    store.storage.put(base, store.storage.read(base)[:-20])
    for name in (None, "p/r1", "r1"):
        assert base in [problem.path for problem in store.verify(name).problems]


def test_a_run_is_named_as_a_whole(store: Store) -> None:
    for name in ("p/r1@1", "r1?_step=2"):
        with pytest.raises(ConfigError, match="does not name a whole run"):
            store.verify(name)
