"""A store on S3, and on a server of each other kind: the same as on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from rewind_logger import RunExistsError, Text, init, open_store
from rewind_logger.sdk.stored import StoredRun
from rewind_logger.storage.base import CHUNK_BYTES
from tests.conftest import Bucket
from tests.emulators.servers import ALL, Place

pytestmark = pytest.mark.filterwarnings("ignore")  # The backends' clients warn of things that are theirs.


@pytest.fixture(params=["moto", *(pytest.param(server, marks=pytest.mark.exhaustive) for server in ALL)])
def where(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path / "spool"))
    place: Bucket | Place = (
        request.getfixturevalue("bucket")
        if request.param == "moto"
        else request.getfixturevalue("servers").place(request.param)
    )
    return {"dir": f"{place.url}/exp", "storage_options": place.storage_options}


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


def test_artifacts_and_media_come_and_go(where: dict[str, Any], tmp_path: Path) -> None:
    content = os.urandom(2 * CHUNK_BYTES + 12_345)
    (tmp_path / "large file.bin").write_bytes(content)
    with init(**where, project="p", id="r1") as run:
        run.log({"a": 0, "text": Text("größe " * 2_000)})
        run.log_artifact(str(tmp_path / "large file.bin"), name="weights", type="model").wait()
        run.log({"a": 1})
    read = stored(where, "p/r1")
    (artifact,) = read.artifacts
    folder = Path(artifact.download(tmp_path / "downloaded"))
    assert (folder / "large file.bin").read_bytes() == content
    assert values(where, "p/r1") == [0, 1]
    assert open_store(where["dir"], where["storage_options"]).verify().ok


def test_a_fork_from_a_disk_to_a_bucket(where: dict[str, Any], url: str) -> None:
    with init(dir=url, project="p", id="r1") as run:
        for i in range(20):
            run.log({"a": i})
    with init(**where, id="r2", fork_from=open_store(url).run("p/r1?_step=9")) as run:
        assert run.path == "p/r2"
        run.log({"a": 100})
    assert values(where, "p/r2") == [*range(10), 100]
