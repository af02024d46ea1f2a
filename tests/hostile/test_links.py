"""A store in a folder may have been unpacked from what somebody else packed: with links, pipes and strange names."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from rewind_logger import ConfigError, RewindError, StorageError, open_store, sync
from rewind_logger.format import documents
from rewind_logger.history.journals.roots import journal_root
from rewind_logger.history.verifying.report import VerifyReport
from rewind_logger.storage.local import LocalStorage
from rewind_logger.types import RunRef
from tests.history.lines import RUN, end, forked, line, log, opened, read
from tests.history.machine import die, journals
from tests.hostile.specimen import objects

ESC = "\x1b[2J"


@pytest.fixture
def store(tmp_path: Path) -> LocalStorage:
    """A store with a run."""
    storage = LocalStorage(tmp_path / "store")
    writer = opened(storage)
    log(writer, range(3))
    end(writer)
    return storage


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder that is none of the store's business."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("as it was")
    return folder


def moved_out(store: LocalStorage, path: str, outside: Path) -> None:
    """Put a part of the store elsewhere, and a link in its place."""
    assert store.local_path is not None
    target = outside / secrets.token_hex(4)
    (store.local_path / path).rename(target)
    (store.local_path / path).symlink_to(target, target_is_directory=target.is_dir())


@pytest.mark.parametrize("part", ["p", "p/a", "p/a/m", "p/a/t"])
def test_no_link_leads_a_reader_out_of_the_store(part: str, store: LocalStorage, outside: Path) -> None:
    moved_out(store, part, outside)
    with pytest.raises(StorageError, match=r"is a link that leads out of the store, to .*, and is not followed"):
        open_store(store.url).run("p/a").history()


@pytest.mark.parametrize("part", ["p/a", "p/a/m", "p/a/t"])
def test_no_link_leads_a_writer_out_of_the_store(part: str, store: LocalStorage, outside: Path) -> None:
    moved_out(store, part, outside)
    before = sorted(outside.rglob("*"))
    with pytest.raises(StorageError, match="is a link that leads out of the store"):
        opened(store)
    assert sorted(outside.rglob("*")) == before


def test_no_journal_is_written_or_looked_for_behind_a_link(store: LocalStorage, outside: Path) -> None:
    assert store.local_path is not None
    (store.local_path / "p/a/j").symlink_to(outside, target_is_directory=True)
    with pytest.raises(StorageError, match="is a link that leads out of the store"):
        journal_root(store, RUN)
    with pytest.raises(StorageError, match="is a link that leads out of the store"):
        opened(store)
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_a_link_within_the_store_and_one_to_the_whole_store_are_fine(store: LocalStorage, tmp_path: Path) -> None:
    assert store.local_path is not None
    (store.local_path / "p/b").symlink_to("a", target_is_directory=True)
    assert read(store, run=RunRef("p", "b")) == line(range(3))
    (tmp_path / "elsewhere").symlink_to(store.local_path, target_is_directory=True)
    again = LocalStorage(tmp_path / "elsewhere")
    writer = opened(again)
    log(writer, [3])
    end(writer)
    assert read(again) == line(range(4))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
def test_a_pipe_in_place_of_an_object_stops_nobody(store: LocalStorage) -> None:
    """To open one waits until somebody writes to it, which nobody does."""
    assert store.local_path is not None
    for path in list(objects(store)):
        file = store.local_path / path
        data = file.read_bytes()
        file.unlink()
        os.mkfifo(file)
        with contextlib.suppress(RewindError):
            read(store)
        file.unlink()
        file.write_bytes(data)
    assert read(store) == line(range(3))


def test_links_that_go_round_in_circles_come_to_an_end(store: LocalStorage) -> None:
    assert store.local_path is not None
    (store.local_path / "p/a/m/00000009.json").symlink_to("00000009.json")
    (store.local_path / "p/round").symlink_to("..", target_is_directory=True)
    assert [run.path for run in open_store(store.url).runs()] == ["p/a"]
    assert read(store) == line(range(3))


LOOKS: dict[str, Callable[[LocalStorage], object]] = {
    "an opening": lambda store: end(opened(store)),
    "collect": lambda store: open_store(store.url).collect(grace=timedelta(days=1)),
    "verify": lambda store: open_store(store.url).verify(),
    "sync": lambda store: sync(store.url),
    "a list of runs": lambda store: [run.state for run in open_store(store.url).runs()],
}
"""By name what looks into the journals of a store."""


@pytest.mark.timeout(60)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
@pytest.mark.parametrize("look", LOOKS)
def test_parts_of_a_journal_that_are_links_or_pipes_are_not_read(look: str, store: LocalStorage, outside: Path) -> None:
    writer = opened(store)
    log(writer, range(3, 5))
    [folder] = journals(store)
    die(writer)
    [part] = folder.glob("*.part")
    part.rename(outside / "part")
    part.symlink_to(outside / "part")
    (folder / f"{1:064x}.blob").symlink_to(outside / "secret")
    os.mkfifo(folder / "000000009.part")
    os.mkfifo(folder / f"{2:064x}.blob")
    result = LOOKS[look](store)
    if isinstance(result, VerifyReport):
        assert result.ok and not {"journal parts", "journal blobs"} & result.objects.keys()
    assert read(store) == line(range(3))
    assert sorted(path.name for path in outside.iterdir()) == ["part", "secret"]


@pytest.mark.timeout(60)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes in folders")
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("what", ["a pipe", "a link", "a link of the folder"])
def test_a_journal_that_is_one_by_a_link_or_pipe_only_is_not_opened(
    what: str, look: str, store: LocalStorage, outside: Path
) -> None:
    """Its parts are files, and are checked; but whoever brings rows in locks the file that says whose they are."""
    writer = opened(store)
    log(writer, range(3, 5))
    [folder] = journals(store)
    die(writer)
    taken = folder if what == "a link of the folder" else folder / "journal.json"
    taken.rename(outside / "taken")
    if what == "a pipe":
        os.mkfifo(taken)
    else:
        taken.symlink_to(outside / "taken")
    before = sorted(outside.rglob("*"))
    LOOKS[look](store)
    assert read(store) == line(range(3))
    assert sorted(outside.rglob("*")) == before


def test_names_that_no_run_can_have_are_not_listed(store: LocalStorage) -> None:
    """They would reach a terminal, which takes some for commands."""
    assert store.local_path is not None
    for name in (f"evil{ESC}", "a\nb", "a\u202eb", "con", "a@2", "x" * 201, ".hidden", "trailing.", "trailing "):
        (store.local_path / "p" / name / "m").mkdir(parents=True)
        (store.local_path / name / "r" / "m").mkdir(parents=True)
    assert [run.path for run in open_store(store.url).runs()] == ["p/a"]
    with pytest.raises(LookupError) as caught:
        open_store(store.url).run("p/missing")
    assert ESC not in str(caught.value) and "evil" not in str(caught.value)


def test_streams_and_groups_that_nobody_writes_are_passed_by(store: LocalStorage) -> None:
    """Such as the folders that a file server leaves everywhere."""
    assert store.local_path is not None
    [term] = (store.local_path / "p/a/t").iterdir()
    [segment] = term.glob("s/metrics/000000/*")
    for folder in ("s/@eaDir/000000", "s/metrics/@eaDir", "s/a b/000000", "s/metrics/999999999999999999999"):
        (term / folder).mkdir(parents=True)
        (term / folder / segment.name).write_bytes(b"")
    writer = opened(store)
    log(writer, [3])
    end(writer)
    assert read(store) == line(range(4))


def test_what_tools_leave_beside_our_files_is_passed_by(store: LocalStorage) -> None:
    """Copies that a service which synchronises folders makes of conflicts, of editors and of file servers."""
    assert store.local_path is not None
    end(forked(store, "b", 2))
    for path in [path for path in store.local_path.rglob("*") if path.is_file()]:
        for name in (f"{path.stem} (conflicted copy){path.suffix}", f"{path.name}~", f"{path.stem} 2{path.suffix}"):
            path.with_name(name).write_bytes(b"not what it was")
    report = open_store(store.url).verify()
    assert report.ok, report
    assert open_store(store.url).collect().objects == {}
    with pytest.raises(ConfigError, match="p/b needs rows of it"):
        open_store(store.url).remove("p/a")
    writer = opened(store)
    log(writer, [3])
    end(writer)
    assert read(store) == line(range(4))


def test_no_text_of_a_store_sends_commands_to_a_terminal(store: LocalStorage) -> None:
    """What a claim or an opening says of itself is shown in messages and tables."""
    opening = {"run": "p/a", "revision": 1, "term": 1, "kind": "new", "reason": ESC, "start": 3, "started_ms": 0}
    writer = opened(store, reason=ESC)
    writer.append("events", {"opened": json.dumps({**opening, "user": f"u{ESC}", "host": "\u202ehost"})}, -1)
    end(writer)
    shown = str(open_store(store.url).run("p/a").revisions)
    assert "u\\x1b[2J@\\u202ehost" in shown and ESC not in shown and "\u202e" not in shown
    claim = documents.Claim(nonce="aa", kind=ESC, created_ms=0, host=f"h{ESC}", pid=1, reason=ESC)
    found = documents.decode_claim(documents.encode_claim(claim), "x")
    assert (found.kind, found.host, found.reason) == ("\\x1b[2J", "h\\x1b[2J", "\\x1b[2J")
