"""The lock on a journal is its writer's as long as its process lives, whatever else happens to the file."""

from __future__ import annotations

import shutil
from pathlib import Path

from rewind_logger.history.journals import locks
from rewind_logger.storage.local import LocalStorage
from tests.history.lines import line, log, opened, read
from tests.history.machine import waiting
from tests.history.processes import HEAD, running

COPIED_WHILE_IT_IS_WRITTEN = (
    HEAD
    + """
import shutil
writer = Writer(storage, run, background=False)
writer.open(OpenRequest())
log(0, 1)
writer.flush()
log(2)
shutil.copytree(sys.argv[1], sys.argv[2])
say("copied")
input()
log(3)
try:
    writer.flush()
except FencedError as error:
    say(error)
log(4)
say("logged")
input()
"""
)


def test_who_copies_a_store_that_he_writes_keeps_what_he_logs(local: LocalStorage, tmp_path: Path) -> None:
    """Who reads a file and closes it gives the usual kind of lock up; the journal would be taken for abandoned."""
    with running(COPIED_WHILE_IT_IS_WRITTEN, tmp_path, local.url, str(tmp_path / "copy")) as script:
        script.hear("copied")
        second = opened(local)
        assert second.opened is not None
        assert (second.opened.start, second.opened.notes) == (2, ()), "the first one lives, its journal is its own"
        log(second, [2], turn=2)
        second.flush()
        script.go_on()
        script.hear("Run p/a was taken over by process")
        script.hear("logged")
        assert waiting(local)[:3] == [2, 3, 4], "what it logged is kept"
        second.close()
    assert read(local) == [*line(range(2)), *line([2], turn=2)]


def test_a_lock_is_one_for_the_process_too(tmp_path: Path) -> None:
    held = locks.create(tmp_path / "owner", b"me")
    assert locks.acquire(tmp_path / "owner") is None
    assert (tmp_path / "owner").read_bytes() == b"me"
    assert locks.look(tmp_path / "owner") == (True, b"")
    shutil.copy(tmp_path / "owner", tmp_path / "copy")
    with running(
        "import sys\nfrom pathlib import Path\nfrom rewind_logger.history.journals import locks\n"
        "print(locks.acquire(Path(sys.argv[1])), locks.look(Path(sys.argv[1])))",
        tmp_path,
        str(tmp_path / "owner"),
    ) as script:
        assert script.hear() == "None (True, b'')"
    locks.release(held, tmp_path / "owner")
    assert locks.look(tmp_path / "owner") == (False, b"me")
