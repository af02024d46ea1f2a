"""Rows that a run went on without: a sync makes a run of their own of them, which has all that their writer had."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewind_logger.errors import FencedError
from rewind_logger.format.run_names import check_name
from rewind_logger.history import view
from rewind_logger.history.collect import collect
from rewind_logger.history.journals.part import Part
from rewind_logger.history.remove import remove_run
from rewind_logger.history.superseded import fork_of
from rewind_logger.history.sync import sync_store
from rewind_logger.history.verify import verify
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.history.lines import RUN, end, line, log, opened, read, rewound
from tests.history.machine import Killed, Machine, die, waiting
from tests.history.synced import logged, only, superseded


def test_rows_that_the_run_went_on_without_become_a_fork(machine: Machine, memory: MemoryStorage) -> None:
    other, nonce = superseded(machine, memory)
    child = fork_of(RUN, nonce)
    assert child == RunRef("p", f"a-{nonce[:8]}")

    kept = only(sync_store(machine))
    assert (kept.what, kept.rows, kept.fork) == ("superseded", 3, child)
    assert f"rewind_logger.sync('{memory.url}', as_fork=True)" in str(kept)
    assert waiting(machine) == [3, 4, 5], "a plain sync leaves them where they are"

    made = only(sync_store(machine, as_fork=True))
    assert (made.what, made.rows, made.fork) == ("forked", 3, child)
    assert str(made).endswith(f"3 rows were brought into a run of their own, {child}")
    assert read(memory, run=child) == line(range(6)), "exactly what that writer had"
    assert sync_store(machine, as_fork=True) == []

    log(other, [5], turn=2)
    assert other.flush(), "whoever writes the run was not disturbed"
    assert read(memory) == line(range(3)) + line(range(3, 6), turn=2)
    end(rewound(memory, 1))
    assert read(memory, run=child) == line(range(6)), "what becomes of the run is nothing to its fork"
    onward = opened(memory, child)
    assert onward.opened is not None
    assert onward.opened.start == 6
    end(onward)


def test_a_fork_has_what_its_writer_was_rewound_to(machine: Machine, memory: MemoryStorage) -> None:
    end(logged(memory, range(6), range(0)))
    first = rewound(machine, 2)
    log(first, [2], turn=1)
    first.flush()
    log(first, [3], turn=1)
    end(rewound(memory, 1))
    die(first)
    made = only(sync_store(machine, as_fork=True))
    assert made.fork is not None
    assert read(memory, run=made.fork) == line(range(2)) + line([2, 3], turn=1)


def test_a_term_that_no_head_names_any_more_is_forked_without_doubling_a_row(
    machine: Machine, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last flush is in the store, and the part of its journal that holds it was not removed yet."""
    end(logged(memory, range(3), range(0)))
    first = rewound(machine, 2)
    log(first, [2], turn=1)
    with monkeypatch.context() as context, pytest.raises(Killed):
        context.setattr(Part, "drop", _killed)
        first.flush()
    log(first, [3], turn=1)
    die(first)
    end(opened(memory))  # goes on in the same revision: that is the term with which it ends
    end(rewound(memory, 1))
    end(rewound(memory, None, revision=1))
    made = only(sync_store(machine, as_fork=True))
    assert made.fork is not None
    assert read(memory, run=made.fork) == line(range(2)) + line([2, 3], turn=1)


def _killed(part: Part) -> None:
    raise Killed


def test_a_run_that_was_removed_does_not_come_back_by_a_sync(machine: Machine, memory: MemoryStorage) -> None:
    writer = logged(machine, range(3), range(3, 6))
    die(writer)
    remove_run(memory, RUN, dry_run=False)
    assert only(sync_store(machine)).what == "superseded"
    made = only(sync_store(machine, as_fork=True))
    assert made.what == "forked" and made.fork is not None
    assert read(memory, run=made.fork) == line(range(3, 6)), "what was not removed"


def test_a_run_of_the_forks_name_is_not_written_to(machine: Machine, memory: MemoryStorage) -> None:
    other, nonce = superseded(machine, memory)
    taken = opened(memory, fork_of(RUN, nonce))
    log(taken, [7])
    end(taken)
    found = only(sync_store(machine, as_fork=True))
    assert (found.what, found.trouble) == (
        "failed",
        f"There is another run {taken.run}, which is no fork of these rows.",
    )
    assert read(memory, run=taken.run) == line([7])
    assert waiting(machine) == [3, 4, 5]
    die(other)


def test_a_long_name_leaves_room_for_that_of_its_fork(machine: Machine, memory: MemoryStorage) -> None:
    for name in (128 * "n", 66 * "ü"):
        fork = fork_of(RunRef("p", name), "0123456789abcdef")
        assert check_name("run id", fork.id).endswith("-01234567")


def test_a_fork_has_all_that_its_writer_had_though_its_folder_was_merged_and_collected(
    machine: Machine, memory: MemoryStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by the model check: the fork referred to segments that were there no longer."""
    monkeypatch.setattr(view, "LONG_LINEAGE", 1)
    zombie = logged(machine, range(4), range(4, 6))
    elsewhere = Machine(memory, tmp_path / "another disk")
    for start in (4, 8, 12):  # each goes on, and merges what it builds on
        writer = opened(elsewhere)
        log(writer, range(start, start + 4), turn=1)
        end(writer)
    with pytest.raises(FencedError):
        zombie.flush()
    die(zombie)
    removed = collect(memory, dry_run=False, grace_s=-1.0)
    assert removed.objects
    synced = only(sync_store(machine, as_fork=True))
    assert synced.what == "forked" and synced.fork is not None
    assert read(memory, run=synced.fork) == line(range(6))
    assert read(memory) == [*line(range(4)), *line(range(4, 16), turn=1)]
    assert verify(memory).ok, verify(memory)
