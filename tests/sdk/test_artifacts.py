"""Artifacts of a run: versions and aliases, which rewind, fork and are restored with it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

import rewind_logger
from rewind_logger import Artifact, ArtifactNotFoundError, ConfigError, Run, StoredRun, init, open_store
from rewind_logger.history import blobs
from rewind_logger.sdk import open_runs
from rewind_logger.storage.faults import CountingStorage
from tests.sdk.scripts import script


def text(name: str, content: str, **options: object) -> Artifact:
    """An artifact of one small file."""
    artifact = Artifact(name, "text", **options)  # type: ignore[arg-type]
    with artifact.new_file("content.txt") as file:
        file.write(content)
    return artifact


def content(artifact: Artifact, tmp_path: Path) -> str:
    """What its file holds, as it is downloaded anew."""
    return Path(artifact.get_entry("content.txt").download(tmp_path / os.urandom(4).hex())).read_text()


def told(run: StoredRun) -> list[tuple[str, list[str], int]]:
    """Versions, aliases and steps of what a run has."""
    return [(f"{one.name}:{one.version}", one.aliases, one.step) for one in run.artifacts]


def at_step(run: Run, step: int) -> Run:
    run.log({"a": 0}, step=step, commit=False)
    return run


def test_what_is_logged_comes_back(any_url: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "inner").mkdir(parents=True)
    (data / "a.bin").write_bytes(os.urandom(3_000_000))
    (data / "inner" / "b.txt").write_text("b")
    (data / ".hidden").write_text("")
    (tmp_path / "model.pt").write_bytes(b"weights")
    with init(dir=any_url, project="p", id="r1") as run:
        at_step(run, 7)
        artifact = Artifact(
            "set", type="dataset", description="Some files.", metadata={"rows": 3, "nested": {"a": [1]}}
        )
        artifact.add_dir(data)
        artifact.add_dir(data / "inner", name="copy")
        artifact.add_file(tmp_path / "model.pt", name="models/first.pt")
        assert artifact.is_draft()
        digest = artifact.digest
        assert run.log_artifact(artifact, aliases=["raw"]) is artifact
        assert (artifact.name, artifact.type, artifact.version, artifact.digest) == ("set", "dataset", "v0", digest)
        assert artifact.qualified_name == "p/r1@1/set:v0"
    stored = open_store(any_url).run("p/r1").artifact("set:raw")
    names = [".hidden", "a.bin", "copy/b.txt", "inner/b.txt", "models/first.pt"]
    assert list(stored.manifest) == names
    assert [entry.path for entry in stored.files()] == names
    assert (stored.type, stored.version, stored.aliases) == ("dataset", "v0", ["latest", "raw"])
    assert (stored.step, stored.run, stored.revision) == (7, "p/r1", 1)
    assert (stored.description, stored.metadata) == ("Some files.", {"rows": 3, "nested": {"a": [1]}})
    assert (stored.size, stored.file_count, stored.digest) == (3_000_000 + 1 + 0 + 1 + 7, 5, digest)
    folder = stored.download(tmp_path / "back")
    assert folder == str(tmp_path / "back")
    assert sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file()) == names
    assert (tmp_path / "back" / "a.bin").read_bytes() == (data / "a.bin").read_bytes()
    stored.verify(folder)
    assert (tmp_path / "back" / "models" / "first.pt").read_bytes() == b"weights"


def test_the_default_folder_of_a_download(any_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with init(dir=any_url, project="p", id="r1") as run:
        run.log_artifact(text("greeting", "hello"))
        artifact = run.use_artifact("greeting:v0")
        assert artifact.download() == "artifacts/greeting:v0"
        assert artifact.file() == "artifacts/greeting:v0/content.txt"
        assert Path(artifact.file()).read_text() == "hello"
        artifact.verify()


def test_versions_and_aliases(any_url: str, tmp_path: Path) -> None:
    with init(dir=any_url, project="p", id="r1") as run:
        first = run.log_artifact(text("m", "one"), aliases=["best", "first"])
        second = run.log_artifact(text("m", "two"))
        third = run.log_artifact(text("m", "three"), aliases="best")
        other = run.log_artifact(text("other", "one"))
        assert [first.version, second.version, third.version, other.version] == ["v0", "v1", "v2", "v0"]
        assert [one.aliases for one in (first, second, third)] == [["first"], [], ["latest", "best"]]
        for name, expected in {
            "m": "three",
            "m:latest": "three",
            "m:v1": "two",
            "m:best": "three",
            "m:first": "one",
        }.items():
            assert content(run.use_artifact(name), tmp_path) == expected
    assert told(open_store(any_url).run("p/r1")) == [
        ("m:v0", ["first"], 0),
        ("m:v1", [], 0),
        ("m:v2", ["latest", "best"], 0),
        ("other:v0", ["latest"], 0),
    ]


def test_the_same_content_makes_no_new_version_and_moves_the_aliases(any_url: str) -> None:
    with init(dir=any_url, project="p", id="r1") as run:
        run.log_artifact(text("m", "one"), aliases=["a"])
        assert run.log_artifact(text("m", "one"), aliases=["b"]).version == "v0"
        assert run.log_artifact(text("m", "two"), aliases=["b"]).version == "v1"
        assert run.log_artifact(text("m", "one")).version == "v2", "it is not the newest"
    with init(dir=any_url, project="p", id="r1") as run:
        assert run.log_artifact(text("m", "one"), aliases=["again"]).version == "v2"
        assert run.log_artifact(text("m", "three")).version == "v3"
    assert told(open_store(any_url).run("p/r1")) == [
        ("m:v0", ["a"], 0),
        ("m:v1", ["b"], 0),
        ("m:v2", ["again"], 0),
        ("m:v3", ["latest"], 0),
    ]


def test_nothing_is_sent_again_for_what_the_store_has(url: str, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(os.urandom(1_000_000))
    (tmp_path / "small").write_text("1")
    with init(dir=url, project="p", id="r1") as run:
        counting = run._artifacts._storage = CountingStorage(run._artifacts._storage)
        for version in range(3):
            if version == 2:
                (tmp_path / "small").write_text("2")
            before = counting.traffic
            artifact = Artifact("m", "model")
            artifact.add_file(tmp_path / "large")
            artifact.add_file(tmp_path / "small")
            assert run.log_artifact(artifact).version == ["v0", "v0", "v1"][version]
            took = counting.traffic - before
            if version == 0:
                assert took.requests == {"info": 3, "put_file": 2, "put": 1}
            elif version == 1:
                assert took.requests == {"info": 3, "touch": 3}
            else:
                assert took.requests == {"info": 3, "touch": 1, "put_file": 1, "put": 1}
                assert took.bytes_written < 1000


def test_a_rewind_takes_the_versions_and_aliases_back(any_url: str, tmp_path: Path) -> None:
    with init(dir=any_url, project="p", id="r1") as run:
        for step in range(6):
            artifact = text("m", f"step {step}")
            at_step(run, step).log_artifact(artifact, aliases=["even"] if step % 2 == 0 else ["odd"])
        artifact.aliases = ["odd", "chosen"]
        artifact.save()
    with init(dir=any_url, project="p", resume_from="r1?_step=2") as run:
        assert content(run.use_artifact("m:latest"), tmp_path) == "step 2"
        assert content(run.use_artifact("m:odd"), tmp_path) == "step 1"
        with pytest.raises(ArtifactNotFoundError, match=r"no artifact m:v3 .* v0 to v2, and the aliases even, latest"):
            run.use_artifact("m:v3")
        again = run.log_artifact(text("m", "another step 3"), aliases=["odd"])
        assert (again.version, again.revision, again.step) == ("v3", 2, 3)
    store = open_store(any_url)
    kept: list[tuple[str, list[str], int]] = [("m:v0", [], 0), ("m:v1", [], 1)]
    assert told(store.run("p/r1")) == [*kept, ("m:v2", ["even"], 2), ("m:v3", ["latest", "odd"], 3)]
    assert told(store.run("p/r1@1")) == [
        *kept,
        ("m:v2", [], 2),
        ("m:v3", [], 3),
        ("m:v4", ["even"], 4),
        ("m:v5", ["latest", "chosen", "odd"], 5),
    ]
    assert told(store.run("p/r1@1?_step=3")) == [*kept, ("m:v2", ["even"], 2), ("m:v3", ["latest", "odd"], 3)]
    assert told(store.run("p/r1?_step=0")) == [("m:v0", ["latest", "even"], 0)]
    assert content(store.run("p/r1@1").artifact("m:v3"), tmp_path) == "step 3"
    assert content(store.run("p/r1").artifact("m:v3"), tmp_path) == "another step 3"
    store.restore("p/r1@1")
    assert told(store.run("p/r1")) == told(store.run("p/r1@1"))
    assert content(store.run("p/r1").artifact("m:chosen"), tmp_path) == "step 5"


@pytest.mark.parametrize("same_store", [True, False])
def test_a_fork_has_what_its_parent_had_there(any_url: str, tmp_path: Path, same_store: bool) -> None:
    with init(dir=any_url, project="p", id="r1") as run:
        run.use_artifact(text("input", "data"))
        for step in range(4):
            at_step(run, step).log_artifact(text("m", f"step {step}"), aliases=["best"])
    target = any_url if same_store else str(tmp_path / "elsewhere")
    with init(dir=target, project="p", id="r2", fork_from=open_store(any_url).run("p/r1?_step=1")) as run:
        assert content(run.use_artifact("m:best"), tmp_path) == "step 1"
        assert run.log_artifact(text("m", "mine")).qualified_name == "p/r2@1/m:v2"
    fork = open_store(target).run("p/r2")
    assert [(one.qualified_name, content(one, tmp_path)) for one in fork.artifacts] == [
        ("p/r1@1/input:v0", "data"),
        ("p/r1@1/m:v0", "step 0"),
        ("p/r1@1/m:v1", "step 1"),
        ("p/r2@1/m:v2", "mine"),
    ]
    assert [one.name for one in fork.used_artifacts] == ["input", "m"]
    assert [content(one, tmp_path) for one in fork.used_artifacts] == ["data", "step 1"]
    if not same_store:
        there = {word: blobs.exists(fork._storage, blobs.digest_of(word.encode())) for word in ("step 1", "step 2")}
        assert there == {"step 1": True, "step 2": False}, "what lies beyond the cut is not copied"


def test_an_artifact_of_an_archived_revision_and_of_another_run(any_url: str, tmp_path: Path) -> None:
    with init(dir=any_url, project="p", id="r1") as run:
        for step in range(3):
            at_step(run, step).log_artifact(text("m", f"step {step}"), aliases=["best"] if step < 2 else [])
    with init(dir=any_url, project="p", resume_from="r1?_step=0"):
        pass
    with init(dir=any_url, project="q", id="r2") as run:
        for name, expected in {
            "p/r1/m:latest": "step 0",
            "p/r1@1/m:v2": "step 2",
            "p/r1@1/m:best": "step 1",
            "p/r1@1?_step=0/m:best": "step 0",
            "p/m:latest": "step 0",
        }.items():
            assert content(run.use_artifact(name, type="text"), tmp_path) == expected
        with pytest.raises(ConfigError, match="type 'text', not 'model'"):
            run.use_artifact("p/m:latest", type="model")
        with pytest.raises(ArtifactNotFoundError, match=r"no artifact 'x' in p/r1@1\. There are: m"):
            run.use_artifact("p/r1@1/x:v0")
        with pytest.raises(rewind_logger.RunNotFoundError):
            run.use_artifact("p/r1@7/m:v0")
        with pytest.raises(rewind_logger.PositionError, match="its last step is 0"):
            run.use_artifact("p/r1?_step=5/m:v0")
        used = [(one.qualified_name, one.version) for one in run.used_artifacts]
    expected_uses = [("p/r1@1/m:v0", "v0"), ("p/r1@1/m:v2", "v2"), ("p/r1@1/m:v1", "v1")]
    assert used == expected_uses
    stored = open_store(any_url).run("q/r2")
    assert [(one.qualified_name, one.version) for one in stored.used_artifacts] == expected_uses
    assert [content(one, tmp_path) for one in stored.used_artifacts] == ["step 0", "step 2", "step 1"]
    assert stored.artifacts == []


def test_a_name_that_the_run_lacks_is_looked_for_in_the_project(any_url: str, tmp_path: Path) -> None:
    for id_, word in (("r1", "older"), ("r2", "newer")):
        with init(dir=any_url, project="p", id=id_) as run:
            run.log_artifact(text("m", word), aliases=["best"])
            run.log_artifact(text(f"of-{id_}", word))
    with init(dir=any_url, project="p", id="r3") as run:
        assert content(run.use_artifact("m:best"), tmp_path) == "newer"
        assert content(run.use_artifact("of-r1:v0"), tmp_path) == "older"
        with pytest.raises(ArtifactNotFoundError, match=r"Several runs have another m:v0. .* r1/m:v0, r2/m:v0"):
            run.use_artifact("m:v0")
        assert content(run.use_artifact("r1/m:v0"), tmp_path) == "older"
        with pytest.raises(ArtifactNotFoundError, match="no artifact nothing:latest in project 'p'"):
            run.use_artifact("nothing")
        run.log_artifact(text("m", "mine"))
        assert content(run.use_artifact("m"), tmp_path) == "mine", "the run's own comes first"


def test_what_another_run_logged_can_be_logged_here(any_url: str, tmp_path: Path) -> None:
    with init(dir=any_url, project="p", id="r1") as run:
        run.log_artifact(text("m", "one"))
    with init(dir=any_url, project="p", id="r2") as run:
        mine = run.log_artifact(run.use_artifact("m:latest"), aliases=["adopted"])
        assert (mine.version, mine.run, mine.aliases) == ("v0", "p/r2", ["latest", "adopted"])
    assert content(open_store(any_url).run("p/r2").artifact("m:adopted"), tmp_path) == "one"


def test_aliases_are_changed_at_a_step(any_url: str) -> None:
    with init(dir=any_url, project="p", id="r1") as run:
        artifact = run.log_artifact(text("m", "one"), aliases=["a"])
        run.log_artifact(text("m", "two"))
        at_step(run, 5)
        artifact.aliases.append("b")
        artifact.aliases.remove("a")
        artifact.save()
        assert artifact.aliases == ["b"]
    store = open_store(any_url)
    assert told(store.run("p/r1"))[0] == ("m:v0", ["b"], 0)
    assert told(store.run("p/r1?_step=4"))[0] == ("m:v0", ["a"], 0)
    with pytest.raises(ConfigError, match="does not belong to an open run"):
        store.run("p/r1").artifact("m:b").save()


def test_files_folders_and_urls_without_an_artifact(any_url: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a file").write_text("a")
    with init(dir=any_url, project="p", id="r1") as run:
        file = run.log_artifact(tmp_path / "folder" / "a file")
        folder = run.log_artifact(str(tmp_path / "folder"), name="files", type="dataset", aliases=["x"])
        reference = run.log_artifact((tmp_path / "folder" / "a file").as_uri(), name="far")
        assert (file.name, file.type, list(file.manifest)) == ("run-r1-afile", "unspecified", ["a file"])
        assert (folder.name, folder.type, list(folder.manifest)) == ("files", "dataset", ["a file"])
        assert reference.get_entry("a%20file").ref_target() == (tmp_path / "folder" / "a file").as_uri()
        with pytest.raises(ConfigError, match="is no file"):
            run.log_artifact(tmp_path / "nothing")
        with pytest.raises(ConfigError, match="has its name and type"):
            run.log_artifact(Artifact("x", "y"), name="z")


def test_references_are_followed_and_checked(any_url: str, tmp_path: Path) -> None:
    (tmp_path / "far away.bin").write_bytes(b"content")
    with init(dir=any_url, project="p", id="r1") as run:
        artifact = Artifact("far", "dataset")
        entry = artifact.add_reference((tmp_path / "far away.bin").as_uri(), name="inner/near.bin")
        assert (entry.size, entry.path) == (7, "inner/near.bin")
        run.log_artifact(artifact)
    stored = open_store(any_url).run("p/r1").artifact("far")
    assert stored.get_entry("inner/near.bin").ref == (tmp_path / "far away.bin").as_uri()
    stored.download(tmp_path / "one")
    assert (tmp_path / "one" / "inner" / "near.bin").read_bytes() == b"content"
    stored.verify(tmp_path / "one")
    (tmp_path / "far away.bin").write_bytes(b"changed")
    with pytest.raises(rewind_logger.CorruptError, match="no longer what it was"):
        stored.download(tmp_path / "two")
    assert not list((tmp_path / "two").rglob("*.*"))
    for url in ("ssh://host/file", "nonsense", "simplecache::s3://a/b", f"file://{tmp_path}"):
        with pytest.raises(ConfigError):
            Artifact("far", "dataset").add_reference(url if "://" in url else "github://" + url)


def test_the_content_is_that_of_the_call(any_url: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_text("before")
    with init(dir=any_url, project="p", id="r1") as run:
        artifact = Artifact("m", "model")
        artifact.add_file(path, name="content.txt")
        run.log_artifact(artifact)
        path.write_text("after")
        path.unlink()
        assert content(artifact, tmp_path) == "before"
        gone = Artifact("m", "model")
        path.write_text("soon gone")
        gone.add_file(path)
        path.unlink()
        with pytest.raises(ConfigError, match=r"model\.pt.* is gone"):
            run.log_artifact(gone)
        with pytest.raises(ConfigError, match="is logged, and stays as it is"):
            artifact.add_file(__file__)


def test_what_cannot_be_an_artifact(any_url: str, tmp_path: Path) -> None:
    for name in ("", "a/b", "a:b", "ä", "..", "x" * 129, None):
        with pytest.raises(ConfigError, match="cannot be called so"):
            Artifact(name, "t")  # type: ignore[arg-type]
    for type_ in ("", "a/b", "a:b", None):
        with pytest.raises(ConfigError, match="type="):
            Artifact("a", type_)  # type: ignore[arg-type]
    artifact = Artifact("a", "t")
    for name in ("../x", "/x", "a\\b", "C:x", "con", "a/../b", "", "a//b", "a\nb", "x."):
        with pytest.raises(ConfigError, match="cannot be added"):
            artifact.add_file(__file__, name=name)
    artifact.add_file(__file__, name="README")
    artifact.add_file(__file__, name="readme")
    with init(dir=any_url, project="p", id="r1") as run:
        with pytest.raises(ConfigError, match="one file where case is not told apart"):
            run.log_artifact(artifact)
        for alias in ("v3", "a/b", "a:b", ""):
            with pytest.raises(ConfigError, match="cannot be used"):
                run.log_artifact(text("m", "x"), aliases=[alias])
    with pytest.raises(ConfigError, match="is finished"):
        run.log_artifact(text("m", "x"))
    assert open_store(any_url).run("p/r1").artifacts == []


def test_what_is_logged_outlives_a_kill(tmp_path: Path) -> None:
    code = """
import os, signal, rewind_logger
run = rewind_logger.init(project='p', id='r1')
run.log({'a': 0})
artifact = rewind_logger.Artifact('m', 'text')
with artifact.new_file('content.txt') as file:
    file.write('kept')
run.log_artifact(artifact, aliases=['best'])
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = script(code, tmp_path, check=False)
    assert done.returncode == -signal.SIGKILL
    with init(dir=tmp_path / "rewind_logs", project="p", id="r1") as run:
        assert content(run.use_artifact("m:best"), tmp_path) == "kept"
    assert told(open_store(tmp_path / "rewind_logs").run("p/r1")) == [("m:v0", ["latest", "best"], 1)]


def test_a_disabled_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with init(project="p", mode="disabled") as run:
        artifact = run.log_artifact(text("m", "x"), aliases=["best"]).wait()
        assert artifact.version == "v0"
        with pytest.raises(ConfigError, match="mode='disabled'"):
            artifact.download()
    assert list(tmp_path.iterdir()) == []
    assert not rewind_logger.open_store("memory://rewind-logger-disabled").storage.list("")


def test_the_module_s_functions_use_the_current_run(any_url: str) -> None:
    with pytest.raises(ConfigError, match="needs a run that is open"):
        rewind_logger.log_artifact(text("m", "x"))
    with init(dir=any_url, project="p", id="r1"):
        rewind_logger.log_artifact(text("m", "x"))
        assert rewind_logger.use_artifact("m:latest").version == "v0"
    assert not open_runs._open


def test_an_empty_path_is_not_the_current_folder(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`best_model_path` of a ModelCheckpoint is empty until something was saved."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "secret").write_text("1")
    monkeypatch.chdir(work)
    with init(dir=url, project="p", id="r1") as run:
        for add in (run.log_artifact, Artifact("x", "t").add_dir, Artifact("x", "t").add_file):
            with pytest.raises(ConfigError, match=r"The path is empty: give that of a file or a folder, '\.' for"):
                add("")
        with pytest.raises(ConfigError, match="5 is an int: give the path"):
            run.log_artifact(5)  # type: ignore[arg-type]
        assert list(run.log_artifact(".").manifest) == ["secret"]
