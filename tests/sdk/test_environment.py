"""What a run was opened with: packages, code and machine."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import rewind_logger
from rewind_logger import open_store
from rewind_logger.sdk.provenance import environment, git
from rewind_logger.sdk.provenance.environment import Environment, decode, encode
from rewind_logger.sdk.provenance.git import Git
from rewind_logger.sdk.provenance.hardware import hardware
from rewind_logger.storage import open_storage
from rewind_logger.types import RunRef
from tests.conftest import Bucket

RUN = RunRef("p", "a")


@pytest.fixture(autouse=True)
def look_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look around at each opening."""
    monkeypatch.setattr(environment, "FRESH_S", 0.0)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A repository with one commit, as the working directory; the user's own settings are not looked at."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "code"
    folder.mkdir()
    monkeypatch.chdir(folder)
    ask("init", "-q", "-b", "main")
    ask("config", "user.email", "me@example.org")
    ask("config", "user.name", "me")
    (folder / "train.py").write_text("lr = 0.1\n")
    ask("add", ".")
    ask("commit", "-q", "-m", "first")
    yield folder


def ask(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def described() -> Git:
    found = git.describe(os.getcwd())
    assert found is not None
    return found


def blobs(url: str) -> list[str]:
    """The names of the blobs of a store on disk."""
    return sorted(path.name for path in Path(url).glob("blobs/*/*"))


def test_a_run_knows_the_packages_the_code_and_the_machine(repository: Path, url: str) -> None:
    (repository / "train.py").write_text("lr = 0.2\n")
    with rewind_logger.init(dir=url, project="p", id="a"):
        pass
    found = open_store(url).run("p/a").environment
    assert found is not None and found.git is not None
    assert found.packages["numpy"] == importlib.metadata.version("numpy")
    assert found.packages["pytest"] == pytest.__version__
    assert (found.git.commit, found.git.branch, found.git.dirty) == (ask("rev-parse", "HEAD"), "main", True)
    assert "-lr = 0.1\n+lr = 0.2\n" in found.git.diff
    assert found.hardware == hardware()
    assert found.hardware.cpu_count == os.cpu_count()
    assert found.hardware.memory_bytes is None or found.hardware.memory_bytes > 1 << 20


def test_every_installed_package_has_its_version() -> None:
    found = environment.packages()
    expected = {one.metadata["Name"]: one.version for one in importlib.metadata.distributions()}
    assert found == expected and list(found) == sorted(found, key=lambda name: (name.lower(), name))


def test_two_hundred_openings_in_one_environment_keep_it_once(repository: Path, url: str) -> None:
    for _ in range(20):
        with rewind_logger.init(dir=url, project="p", id="a") as run:
            run.log({"x": 1})
    assert len(blobs(url)) == 1
    (repository / "train.py").write_text("lr = 0.3\n")
    with rewind_logger.init(dir=url, project="p", id="a"):
        pass
    assert len(blobs(url)) == 2


def test_each_revision_and_each_step_has_the_environment_it_was_made_in(repository: Path, url: str) -> None:
    for lr, options in enumerate(
        [{"id": "a"}, {"id": "a"}, {"resume_from": "a?_step=4"}, {"fork_from": "a@1?_step=7", "id": "b"}]
    ):
        (repository / "train.py").write_text(f"lr = {lr}\n")
        with rewind_logger.init(dir=url, project="p", **options) as run:  # type: ignore[arg-type]
            for _ in range(5):
                run.log({"x": 1})
    store = open_store(url)

    def lr_of(name: str) -> int:
        found = store.run(name).environment
        assert found is not None and found.git is not None
        return int(found.git.diff.rpartition("+lr = ")[2])

    assert [lr_of(name) for name in ("p/a@1", "p/a", "p/b")] == [1, 2, 3]
    assert [lr_of(f"p/a@1?_step={step}") for step in (0, 4, 5, 9)] == [0, 0, 1, 1]
    assert [lr_of(f"p/a?_step={step}") for step in (0, 4, 5, 9)] == [0, 0, 2, 2]
    assert [lr_of(f"p/b?_step={step}") for step in (4, 5, 7, 8)] == [0, 1, 1, 3]


def test_the_working_tree_is_described_and_not_touched(repository: Path) -> None:
    clean = described()
    assert (clean.dirty, clean.diff, clean.diff_cut, clean.untracked, clean.remote) == (False, "", False, (), None)
    (repository / "größer 1.txt").write_text("x")
    (repository / "out").mkdir()
    (repository / "out" / "secret.txt").write_text("not to be read")
    ask("mv", "train.py", "fit.py")
    ask("checkout", "-q", "--detach")
    before = ask("status", "--porcelain"), sorted(repository.rglob("*"))
    found = described()
    assert (found.branch, found.dirty, found.untracked) == (None, True, ("größer 1.txt", "out/"))
    assert "rename to fit.py" in found.diff and "not to be read" not in found.diff
    assert (ask("status", "--porcelain"), sorted(repository.rglob("*"))) == before


def test_staged_and_unstaged_changes_belong_to_the_diff(repository: Path) -> None:
    (repository / "staged.py").write_text("staged\n")
    ask("add", "staged.py")
    (repository / "train.py").write_text("unstaged\n")
    assert "+staged\n" in described().diff and "+unstaged\n" in described().diff


def test_a_repository_without_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ask("init", "-q", "-b", "main")
    (tmp_path / "a").write_text("x")
    ask("add", "a")
    found = described()
    assert (found.commit, found.branch, found.dirty, found.diff) == (None, "main", True, "")


@pytest.mark.parametrize(
    ("remote", "shown"),
    [
        ("https://me:hunter2@host/me/code.git", "https://host/me/code.git"),
        ("https://hunter2@host/me/code.git?token=hunter2", "https://host/me/code.git"),
        ("git@host:me/code.git", "git@host:me/code.git"),
    ],
)
def test_the_remote_is_shown_without_credentials(remote: str, shown: str, repository: Path) -> None:
    ask("remote", "add", "upstream", "https://elsewhere/x.git")
    assert described().remote == "https://elsewhere/x.git"
    ask("remote", "add", "origin", remote)
    assert described().remote == shown


def test_a_large_diff_is_cut_and_says_so(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git, "MAX_DIFF_BYTES", 1000)
    (repository / "train.py").write_text("x = 1\n" * 200)
    found = described()
    assert (len(found.diff), found.diff_cut, found.dirty) == (1000, True, True)
    (repository / "train.py").write_text("x = 1\n")
    assert not described().diff_cut


def test_secrets_of_the_environment_are_not_in_the_diff(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "correct-horse-battery")
    lines = "login('correct-horse-battery')", f"hf = 'hf_{'a' * 34}'", "db = 'pg://me:hunter2@host/x?a=b'", "token = 7"
    (repository / "train.py").write_text("\n".join(lines) + "\n")
    found = described()
    assert "+login('…')\n+hf = '…'\n+db = 'pg://…@host/x?a=b'\n+token = 7\n" in found.diff


def test_programs_that_a_repository_names_are_not_run(repository: Path) -> None:
    trap = repository / "trap"
    trap.write_text(f"#!/bin/sh\ntouch '{repository}/sprung'\n")
    trap.chmod(0o755)
    for name in ("diff.external", "core.fsmonitor", "core.pager", "pager.diff", "diff.py.textconv"):
        ask("config", name, str(trap))
    (repository / ".gitattributes").write_text("*.py diff=py\n")
    (repository / "train.py").write_text("lr = 0.2\n")
    assert "+lr = 0.2\n" in described().diff
    assert not (repository / "sprung").exists()


def test_a_git_that_hangs_is_given_up(repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(git, "TIMEOUT_S", 0.05)
    (tmp_path / "git").write_text(f"#!{sys.executable}\nimport threading\nthreading.Event().wait()\n")
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert git.describe(str(repository)) is None


def test_without_git_a_run_has_the_rest(repository: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with rewind_logger.init(dir=url, project="p", id="a"):
        pass
    found = open_store(url).run("p/a").environment
    assert found is not None and found.git is None and "numpy" in found.packages


def test_git_is_not_started_where_there_is_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GIT_DIR", raising=False)
    monkeypatch.setattr(subprocess, "Popen", None)
    assert git.describe(str(tmp_path)) is None


def test_what_a_process_saw_a_moment_ago_is_not_looked_up_again(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "FRESH_S", 60.0)
    monkeypatch.setattr(environment, "_seen", None)
    first = environment.look_around()
    (repository / "train.py").write_text("lr = 0.2\n")
    assert environment.look_around() is first
    other = repository / "below"
    other.mkdir()
    monkeypatch.chdir(other)
    assert environment.look_around() is not first


def test_an_environment_is_the_same_bytes_and_reads_the_same(repository: Path) -> None:
    found = Environment(packages={"a": "1"}, git=described(), hardware=hardware())
    assert decode(encode(found)) == found and encode(decode(encode(found))) == encode(found)
    newer = encode(found).replace(b'"hardware":{', b'"newer":1,"hardware":{"newer":[1],')
    assert decode(newer) == found
    with pytest.raises(rewind_logger.CorruptError):
        decode(b"{}")


def test_an_environment_that_came_too_late_is_not_taken_for_that_of_the_next_opening(url: str) -> None:
    with rewind_logger.init(dir=url, project="p", id="a") as run:
        run.log({"x": 1})
    right = open_store(url).run("p/a").environment
    with rewind_logger.init(dir=url, project="p", id="a") as run:
        run._companions.rest(60)  # its own is there
        run._append("events", environment.to_value(0, run._writer.attach(b"another"), 7), -1)
        run.log({"x": 1})
    assert right is not None and open_store(url).run("p/a").environment == right


def test_a_disabled_run_looks_at_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(environment, "look_around", lambda: looked.append("around"))
    threads = threading.active_count()
    with rewind_logger.init(mode="disabled"):
        assert threading.active_count() == threads
    assert not looked


def test_a_restored_revision_keeps_its_environment(repository: Path, url: str) -> None:
    with rewind_logger.init(dir=url, project="p", id="a") as run:
        run.log({"x": 1})
    made_in = open_store(url).run("p/a").environment
    with rewind_logger.init(dir=url, project="p", resume_from="a?_step=-1"):
        (repository / "train.py").write_text("lr = 0.2\n")
    assert open_store(url).restore("p/a@1").environment == made_in


def test_it_comes_into_a_remote_store_too(bucket: Bucket, repository: Path, tmp_path: Path) -> None:
    options = bucket.storage_options
    with rewind_logger.init(dir=bucket.url, project="p", id="a", storage_options=options):
        pass
    found = open_store(bucket.url, options).run("p/a").environment
    assert found is not None and found.git is not None and found.git.branch == "main"
    storage = open_storage(bucket.url, options)
    assert len([info for info in storage.list("blobs") if info.size is None]) == 1


def test_a_fork_into_another_store_takes_the_environments_along(repository: Path, url: str, tmp_path: Path) -> None:
    with rewind_logger.init(dir=url, project="p", id="a") as run:
        for _ in range(5):
            run.log({"x": 1})
    (repository / "train.py").write_text("lr = 0.2\n")
    other = str(tmp_path / "other")
    rewind_logger.init(dir=other, project="p", fork_from=open_store(url).run("p/a?_step=2"), id="b").finish()
    first, fork = open_store(other).run("p/b?_step=2").environment, open_store(other).run("p/b").environment
    assert first is not None and first == open_store(url).run("p/a").environment
    assert fork is not None and fork.git is not None and fork.git.dirty
