"""Going back, branching off and restoring: what each revision holds, now and ever after."""

from __future__ import annotations

import random
import shutil
import struct
from dataclasses import dataclass, field

import pytest

from rewind_logger.errors import RunNotFoundError
from rewind_logger.format import names
from rewind_logger.format.documents import decode_pin
from rewind_logger.format.names import RunPaths
from rewind_logger.history import catalog, compact
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.local import LocalStorage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import Position, RunRef, Scalar
from tests.history.clocked import objects
from tests.history.lines import RUN, Line, end, exact, forked, line, log, opened, read, rewound


def begun(storage: Storage, steps: int = 10) -> None:
    """A finished run with rows 0 to `steps` (exclusive)."""
    writer = opened(storage)
    log(writer, range(steps))
    end(writer)


def contents(storage: Storage) -> dict[str, bytes]:
    """All objects of a store, byte for byte, but for the journals of this machine."""
    journals = f"{RunPaths(RUN).journals}/"
    return {path: storage.read(path) for path in objects(storage) if not path.startswith(journals)}


def test_a_rewind_keeps_what_is_before_and_archives_the_rest(storage: Storage) -> None:
    begun(storage, 6)
    writer = opened(storage)
    log(writer, range(6, 10))
    end(writer)
    before = contents(storage)
    writer = rewound(storage, 4)
    assert writer.opened is not None
    assert (writer.opened.kind, writer.opened.revision, writer.opened.start) == ("rewound", 2, 4)
    assert writer.opened.parent == Position(RUN, 1, 4)
    after = contents(storage)
    assert after.items() >= before.items(), "nothing is deleted or changed"
    assert after.keys() - before.keys() == {RunPaths(RUN).claim(2), names.base(writer.opened.folder)}, "or copied"
    log(writer, range(4, 6), turn=1)
    end(writer)
    assert read(storage) == line(range(4)) + line(range(4, 6), turn=1)
    assert read(storage, 1) == line(range(10))
    assert contents(storage).items() >= before.items()


def test_a_position_beyond_the_last_row_cuts_nothing_and_is_where_the_run_goes_on(storage: Storage) -> None:
    """A checkpoint's: rows are logged less often than checkpoints are saved."""
    begun(storage)
    writer = rewound(storage, 15)
    assert writer.opened is not None
    assert (writer.opened.kind, writer.opened.revision, writer.opened.start) == ("resumed", 1, 15)
    log(writer, [15])
    end(writer)
    assert read(storage) == [*line(range(10)), *line([15])]


def test_a_resume_goes_on_in_the_same_revision(storage: Storage) -> None:
    begun(storage)
    writer = opened(storage, resume="must")
    assert writer.opened is not None
    assert (writer.opened.kind, writer.opened.revision, writer.opened.start) == ("resumed", 1, 10)
    log(writer, range(10, 12))
    end(writer)
    assert read(storage) == line(range(12))


def awkward(storage: Storage) -> None:
    """A run whose rows have every kind of value, in every stream and in many small segments."""
    writer = opened(storage)
    nan = struct.unpack("<d", struct.pack("<Q", 0x7FF8_DEAD_BEEF_0001))[0]
    values: list[Scalar] = [nan, float("inf"), -0.0, 2**63 - 1, -(2**62) - 1, True, "größer", "", 1e-310]
    for step in range(12):
        writer.append("metrics", {"a": step, "loss/x": values[step % len(values)]}, step, time_ms=10**12 + step)
        writer.append("metrics", {"b": 0.1 * step}, step, 7 * step + 1, time_ms=10**12 + step)
        if step % 7 == 0:
            writer.append("events", {"config": f'{{"lr":{step}}}'}, step)
            writer.append("checkpoints", {"mark": "{}"}, step)
        writer.flush()
    writer.close()


def test_an_archived_revision_reads_back_bit_for_bit_whatever_follows(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact, "FAN_IN", 3)
    monkeypatch.setattr(compact, "CLOSING_PARTS", 2)
    awkward(storage)
    first = exact(storage)

    end(rewound(storage, 8))
    assert exact(storage, 1) == first, "after a rewind"

    writer = opened(storage)
    for step in range(8, 18):
        log(writer, [step], turn=1)
        writer.flush()
    end(writer)
    second = exact(storage)
    assert exact(storage, 1) == first, "after a resume and compactions"

    end(forked(storage, "b", 10, revision=1))
    end(rewound(storage, 5))
    end(rewound(storage, 11, revision=1))
    end(rewound(storage, None, revision=2))
    assert exact(storage, 1) == first, "after forks, rewinds and a restore"
    assert exact(storage, 2) == second, "the second as well"
    assert exact(storage) == second, "and the restored one is the same as what was restored"
    assert resolve(storage, RUN).revision == 5


def test_a_zombie_changes_no_archived_revision(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last segment and its last compaction may arrive after it was fenced, and nobody may see them."""
    monkeypatch.setattr(compact, "FAN_IN", 2)
    zombie = opened(storage)
    for step in range(3):
        log(zombie, [step])
        zombie.flush()
    before = exact(storage)
    end(rewound(storage, 1))
    assert zombie._delivery.term is not None and zombie._outbox is not None
    log(zombie, [3])
    zombie._outbox.close_batch()
    batch = zombie._outbox.first(0)
    assert batch is not None
    for late in zombie._delivery.term.put(batch.flushes, batch.rows):
        zombie._delivery.term._compactor.add(*late)
    zombie._delivery.term.compact()
    assert exact(storage, 1) == before
    assert read(storage) == line([0])


def test_an_archived_revision_can_be_gone_back_in_and_branched_off(storage: Storage) -> None:
    begun(storage)
    writer = rewound(storage, 2)
    log(writer, range(2, 5), turn=1)
    end(writer)
    end(forked(storage, "b", 7, revision=1))
    assert read(storage, run=RunRef("p", "b")) == line(range(7))
    writer = rewound(storage, 6, revision=1)
    assert writer.opened is not None
    assert (writer.opened.kind, writer.opened.revision) == ("rewound", 3)
    log(writer, [6], turn=2)
    end(writer)
    assert read(storage) == line(range(6)) + line([6], turn=2)
    assert read(storage, 2) == line(range(2)) + line(range(2, 5), turn=1)


def test_restoring_makes_an_archived_revision_the_head_as_a_new_one(storage: Storage) -> None:
    begun(storage)
    end(rewound(storage, 3))
    writer = rewound(storage, None, revision=1)
    assert writer.opened is not None
    assert (writer.opened.kind, writer.opened.revision, writer.opened.start) == ("restored", 3, 10)
    log(writer, [10], turn=1)
    end(writer)
    assert read(storage) == line(range(10)) + line([10], turn=1)
    assert (read(storage, 1), read(storage, 2)) == (line(range(10)), line(range(3)))
    record = resolve(storage, RUN).record
    assert (record.parent, record.cut) == ((str(RUN), 1), None)


def test_a_revision_that_is_not_there_cannot_be_gone_back_in(storage: Storage) -> None:
    begun(storage)
    for revision in (0, 2, -1):
        with pytest.raises(RunNotFoundError, match=f"has no revision {revision}: it has revisions 1 to 1"):
            rewound(storage, 3, revision)
    assert read(storage) == line(range(10))


def test_a_fork_into_another_project_shares_the_rows(storage: Storage) -> None:
    begun(storage)
    child = RunRef("team/q", "c")
    writer = opened(storage, child, at=Position(RUN, None, 5))
    log(writer, [5], turn=1)
    end(writer)
    assert read(storage, run=child) == line(range(5)) + line([5], turn=1)
    folders = [entry.folder for entry in resolve(storage, child).entries]
    assert folders[0].startswith("p/a/t/") and folders[1].startswith("team/q/c/t/"), "nothing was copied"


def test_what_becomes_of_a_parent_never_changes_a_child(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "FAN_IN", 2)
    parent = opened(storage)
    for step in range(6):
        log(parent, [step])
        parent.flush()
    child = RunRef("p", "b")
    end(forked(storage, "b", 5))
    before = exact(storage, run=child)

    for step in range(6, 12):
        log(parent, [step])
        parent.flush()
    end(parent)
    assert exact(storage, run=child) == before, "after the parent went on and put its segments together"
    end(rewound(storage, 0))
    assert exact(storage, run=child) == before, "after a rewind to the beginning"
    writer = rewound(storage, 0)
    log(writer, range(5), turn=9)
    end(writer)
    assert exact(storage, run=child) == before, "after the same steps were logged anew"


def test_a_parent_knows_its_children(storage: Storage) -> None:
    """Whoever deletes rows must see who still needs them."""
    begun(storage)
    for child in ("b", "c"):
        end(forked(storage, child, 5))
    pins = RunPaths(RUN).pins
    paths = [f"{pins}/{info.name}" for info in storage.list(pins)]
    assert sorted(decode_pin(storage.read(path), path) for path in paths) == ["p/b", "p/c"]


def test_a_moved_store_reads_the_same(local: LocalStorage) -> None:
    begun(local)
    end(rewound(local, 4))
    end(forked(local, "b", 7, revision=1))
    runs = [(RUN, 1), (RUN, 2), (RunRef("p", "b"), 1)]
    before = [exact(local, revision, run) for run, revision in runs]
    target = local.local_path.with_name("elsewhere")
    shutil.move(local.local_path, target)
    assert [exact(LocalStorage(target), revision, run) for run, revision in runs] == before


@dataclass
class Expected:
    """What a run is, by the rule: a list of rows for each revision."""

    revisions: list[Line] = field(default_factory=lambda: [[]])

    @property
    def head(self) -> Line:
        return self.revisions[-1]

    def rewind(self, next_step: int, revision: int) -> bool:
        """Go back; return whether that makes a revision."""
        target = self.revisions[revision - 1]
        if target is self.head and all(step < next_step for step, _ in target):
            return False
        self.revisions.append([row for row in target if row[0] < next_step])
        return True


@pytest.mark.parametrize("seed", range(12))
def test_any_sequence_of_openings_gives_what_the_rule_says(
    seed: int, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = memory
    monkeypatch.setattr(compact, "FAN_IN", 3)
    monkeypatch.setattr(compact, "CLOSING_PARTS", 2)
    chance = random.Random(seed)
    expected = {RUN: Expected()}
    end(opened(storage))
    for turn in range(1, 16):
        run = chance.choice(list(expected))
        known = expected[run]
        revision = chance.randint(1, len(known.revisions))
        kind = chance.choice(["resume", "rewind", "rewind", "restore", "fork"])
        writer = Writer(storage, run, background=False)
        if kind == "fork":
            next_step = chance.randint(0, len(known.revisions[revision - 1]))
            child = RunRef(chance.choice(["p", "q"]), f"fork{turn}")
            writer = Writer(storage, child, background=False)
            writer.open(OpenRequest(at=Position(run, revision, next_step)))
            known = expected[child] = Expected([[row for row in known.revisions[revision - 1] if row[0] < next_step]])
        elif kind == "rewind":
            next_step = chance.randint(0, len(known.revisions[revision - 1]))
            writer.open(OpenRequest(at=Position(run, revision, next_step)))
            known.rewind(next_step, revision)
        elif kind == "restore" and revision < len(known.revisions):
            writer.open(OpenRequest(at=Position(run, revision, None)))
            known.revisions.append(list(known.revisions[revision - 1]))
        else:
            writer.open(OpenRequest())
        assert writer.opened is not None
        start = writer.opened.start
        steps = range(start, start + chance.randint(0, 4))
        for step in steps:
            log(writer, [step], turn=turn)
            if chance.random() < 0.6:
                writer.flush()
        known.head.extend(line(steps, turn=turn))
        end(writer)
    assert sorted(map(str, catalog.runs(storage))) == sorted(map(str, expected))
    for run, known in expected.items():
        for number, rows in enumerate(known.revisions, start=1):
            assert read(storage, number, run=run) == rows, f"{run}@{number}"
        assert resolve(storage, run).revision == len(known.revisions)
