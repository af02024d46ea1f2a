"""`doctor` says of each kind of store what is wrong with it, in a line, and leaves nothing there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fsspec import AbstractFileSystem

from rewind_logger import ConfigError, doctor, init
from rewind_logger.errors import StorageError
from rewind_logger.storage import Storage
from rewind_logger.storage import doctor as examination
from rewind_logger.storage.base import Listing
from rewind_logger.storage.doctor import DoctorReport, examine
from rewind_logger.storage.faults import Fault, FaultyStorage, Request
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.wrapper import WrapperStorage
from tests.conftest import Bucket
from tests.servers import HANG_UP, Answer, S3Server, ScriptedServer
from tests.storage.backends import CarelessFileSystem, PlainFileSystem, UnableFileSystem, registered
from tests.storage.test_weak_store import SENTENCE

EVERYTHING = ["list", "write", "read", "delete", "create", "consistency", "wall time", "latency", "large objects"]
URL = "memory://doctor"


def verdicts(report: DoctorReport) -> dict[str, str]:
    return {check.name: check.verdict for check in report.checks}


def others(report: DoctorReport, *names: str) -> set[str]:
    """Return the verdicts of all checks but some."""
    return {verdict for name, verdict in verdicts(report).items() if name not in names}


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("somebody's")
    report = doctor(tmp_path)
    assert verdicts(report) == dict.fromkeys(EVERYTHING, "ok"), report
    assert report.ok and report.usable and report.left == ()
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    assert doctor(tmp_path / "a" / "b").ok
    assert list(tmp_path.iterdir()) == []


def test_memory() -> None:
    report = doctor(URL)
    assert report.ok, report
    assert MemoryStorage(URL).list("") == []


def test_a_bucket(bucket: Bucket) -> None:
    report = doctor(f"{bucket.url}/exp", bucket.storage_options)
    assert report.ok and set(verdicts(report).values()) == {"ok"}, report
    assert bucket.storage_options["secret"] not in str(report)


def test_a_bucket_that_does_not_exist(bucket: Bucket) -> None:
    report = doctor(f"{bucket.url}-not/exp", bucket.storage_options)
    assert report["write"].verdict == "fails" and not report.usable
    assert "there is no bucket of that name" in str(report) and "nothing can be logged" in report["write"].meaning
    assert others(report, "list", "write") == {"not tried"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer.s3_error(403, "InvalidAccessKeyId"), "access was denied"),
        (Answer.s3_error(403, "SignatureDoesNotMatch"), "access was denied"),
        (Answer.s3_error(400, "ExpiredToken"), "the credentials have expired"),
    ],
)
def test_wrong_credentials(answer: Answer, said: str) -> None:
    with ScriptedServer([answer]) as server:
        options = S3Server(server.endpoint).storage_options
        report = doctor("s3://bucket/exp", options)
        assert (report["list"].verdict, report["write"].verdict) == ("fails", "fails")
        assert said in report["write"].found and not report.usable
        assert options["secret"] not in str(report) and options["key"] not in str(report)


def test_a_server_that_is_away() -> None:
    with ScriptedServer([HANG_UP]) as server:
        report = doctor("s3://bucket/exp", S3Server(server.endpoint).storage_options)
    assert not report.usable and "try again" in report["write"].found


@pytest.mark.parametrize("filesystem", [CarelessFileSystem, UnableFileSystem])
def test_a_store_without_create_if_absent(filesystem: type[PlainFileSystem]) -> None:
    with registered(filesystem):
        report = doctor(f"{filesystem.protocol}://place")
        assert report["create"].verdict == "weak"
        assert SENTENCE.format(f"{filesystem.protocol}://place") in report["create"].meaning
        assert report.usable and not report.ok
        assert not [name for name in filesystem.store if "doctor-" in name]


class FolderFileSystem(PlainFileSystem):
    """A file system whose package offers no conditional creation, so that it is looked and then written."""

    protocol = "folders"
    pipe_file = AbstractFileSystem.pipe_file


def test_it_says_what_init_says_of_a_store_that_promises_no_create_if_absent(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the store does well while it is looked at, as SFTP does."""
    monkeypatch.setenv("REWIND_LOGGER_SPOOL", str(tmp_path))
    with registered(FolderFileSystem):
        check = doctor("folders://place")["create"]
        assert check.verdict == "weak" and "one wins" in check.found, check
        with init(dir="folders://place", project="p", id="r"):
            pass
    assert SENTENCE.format("folders://place") in check.meaning
    assert SENTENCE.format("folders://place") in capsys.readouterr().err


class Wrapped(WrapperStorage):
    """A store in memory with a flaw."""

    def __init__(self) -> None:
        super().__init__(MemoryStorage(URL))


class Racy(Wrapped):
    """Refuses to create what exists, if it had the time to look."""

    def create(self, path: str, data: bytes) -> bool:
        if "-race-" in path:
            self.put(path, data)
            return True
        return super().create(path, data)


def test_a_store_that_looks_before_it_creates() -> None:
    check = examine([Racy() for _ in range(4)])["create"]
    assert check.verdict == "weak" and "of 4 that created a name at once 4 were told they did" in check.found


class StaleListing(Wrapped):
    """Lists what it listed a moment ago, as file systems do that cache listings."""

    def __init__(self) -> None:
        super().__init__()
        self._known: Listing | None = None

    def list(self, folder: str) -> Listing:
        found, self._known = self._known, super().list(folder)
        return self._known if found is None else found


class OldSizes(Wrapped):
    """Shows a replaced object with the size that it had."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[str, int | None] = {}

    def list(self, folder: str) -> Listing:
        return [replace(info, size=self._sizes.setdefault(info.name, info.size)) for info in super().list(folder)]


class OldContent(Wrapped):
    """Gives again what it gave before."""

    def __init__(self) -> None:
        super().__init__()
        self._content: dict[str, bytes] = {}

    def read(self, path: str) -> bytes:
        return self._content.setdefault(path, super().read(path) if path not in self._content else b"")


class Undead(Wrapped):
    """Goes on to show what was deleted."""

    def delete(self, path: str) -> None:
        return None


@pytest.mark.parametrize(
    ("flawed", "said"),
    [
        (StaleListing, "was not listed"),
        (OldSizes, "was not listed as it was written"),
        (OldContent, "was not read as it was written"),
        (Undead, "was not gone from the list when it was deleted"),
    ],
)
def test_what_one_connection_does_another_must_see(flawed: Callable[[], Storage], said: str) -> None:
    storage = flawed()
    check = examine([MemoryStorage(URL), storage] if flawed is not Undead else [storage, storage])["consistency"]
    assert check.verdict == "fails" and said in check.found
    assert "may miss the last rows" in check.meaning


def denied(*verbs: str) -> Callable[[], Storage]:
    """Make stores that deny some requests."""
    error = StorageError("Could not do it: permission was denied.")

    def plan(request: Request) -> Fault | None:
        return Fault("before", error) if request.verb in verbs else None

    return lambda: FaultyStorage(MemoryStorage(URL), plan)


def test_each_permission_that_is_missing_is_named_with_what_then_fails() -> None:
    for verbs, name, meaning in (
        (("list",), "list", "Runs are not found"),
        (("put", "create", "put_file"), "write", "nothing can be logged"),
        (("read", "read_range"), "read", "can neither be read nor resumed from"),
        (("delete",), "delete", "Nothing can be collected or removed; all else works."),
    ):
        open_one = denied(*verbs)
        report = examine([open_one(), open_one()])
        assert report[name].verdict == "fails" and "permission was denied" in report[name].found
        assert meaning in report[name].meaning
        assert report.usable == (name == "delete")
        if name == "write":
            assert report.left == (), "what was not written is not left behind"
        if name == "delete":
            assert others(report, "delete") == {"ok"}
            assert sorted(info.name for info in MemoryStorage(URL).list("")) == sorted(report.left) != []
            assert f"Left behind, for it could not be deleted: {report.left[0]}" in str(report)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only to root")
def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    report = doctor(tmp_path)
    assert report["list"].verdict == "ok" and report["write"].verdict == "fails" and not report.usable


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is a file, not a folder" in doctor(tmp_path / "file" / "store")["write"].found


class Skewed(Wrapped):
    """A store whose wall time is ten minutes behind, or unknown."""

    ahead: float | None = -600.0

    def list(self, folder: str) -> Listing:
        return [
            replace(info, modified=None if self.ahead is None else (info.modified or 0) + self.ahead)
            for info in super().list(folder)
        ]


def test_a_wall_time_that_is_wrong() -> None:
    check = examine([Skewed(), Skewed()])["wall time"]
    assert check.verdict == "weak" and "s behind this machine's" in check.found
    unknown = Skewed()
    unknown.ahead = None
    assert examine([unknown, unknown])["wall time"].verdict == "not tried"


def test_a_slow_store_is_not_asked_for_a_large_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "PATIENCE_S", -1.0)
    report = doctor(URL)
    assert report["large objects"].verdict == "not tried" and report.ok


class Mangling(Wrapped):
    """Loses the end of large objects."""

    def put_file(self, path: str, source: Path, *, sha256: str | None = None) -> None:
        self.put(path, source.read_bytes()[:-1])


def test_a_large_object_that_is_cut_off() -> None:
    assert examine([Mangling(), Mangling()])["large objects"].verdict == "fails"


def test_a_url_that_is_none() -> None:
    with pytest.raises(ConfigError, match="names no store"):
        doctor("")


def test_a_line_for_each_check(tmp_path: Path) -> None:
    lines = str(doctor(tmp_path)).splitlines()
    assert lines[0] == str(tmp_path) and len(lines) == 1 + len(EVERYTHING)
    assert all(any(line.startswith("ok") and f" {name}: " in line for line in lines) for name in EVERYTHING)


def test_what_it_does_to_a_local_store_is_not_seen_as_runs(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Watched(LocalStorage):
        def put(self, path: str, data: bytes) -> None:
            seen.append(path)
            super().put(path, data)

    examine([Watched(tmp_path), Watched(tmp_path)])
    assert seen and all(path.startswith("doctor-") and "/" not in path for path in seen)
