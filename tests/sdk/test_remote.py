"""A store on S3: the same as on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rewind_logger import RunExistsError, init, open_store
from rewind_logger.sdk.stored import StoredRun
from tests.conftest import Bucket


@pytest.fixture
def where(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    return {"dir": f"{bucket.url}/exp", "storage_options": bucket.storage_options}


def stored(where: dict[str, Any], name: str) -> StoredRun:
    return open_store(where["dir"], where["storage_options"]).run(name)


def values(where: dict[str, Any], name: str) -> list[Any]:
    return stored(where, name).history().to_arrow()["a"].to_pylist()


def test_rewind_fork_and_resume(where: dict[str, Any], tmp_path: Path) -> None:
    with init(**where, project="p", id="r1", name="one", config={"lr": 0.1}) as run:
        for i in range(20):
            run.log({"a": i})
    with init(**where, project="p", resume_from="one", step=9) as run:
        assert (run.id, run.step, run.config.lr, run.summary["a"]) == ("r1", 10, 0.1, 9)
        run.log({"a": 100})
    for _ in range(2):
        with init(**where, fork_from="p/r1@1?_step=14", id="r2") as run:
            run.log({"a": 200})
    with pytest.raises(RunExistsError):
        init(**where, project="p", id="r2", resume="never")
    assert values(where, "p/r1") == [*range(10), 100]
    assert values(where, "p/r1@1") == list(range(20))
    assert values(where, "p/r2") == [*range(15), 200, 200]
    assert [run.path for run in open_store(where["dir"], where["storage_options"]).runs()] == ["p/r1", "p/r2"]
    assert not list((tmp_path / "spool").rglob("*.part")), "nothing waits on this machine"


def test_a_fork_from_a_disk_to_a_bucket(where: dict[str, Any], url: str) -> None:
    with init(dir=url, project="p", id="r1") as run:
        for i in range(20):
            run.log({"a": i})
    with init(**where, id="r2", fork_from=open_store(url).run("p/r1?_step=9")) as run:
        assert run.path == "p/r2"
        run.log({"a": 100})
    assert values(where, "p/r2") == [*range(10), 100]
