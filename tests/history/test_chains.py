"""Long chains: hundreds of rewinds, resumes and forks in a row stay right, and readable in few requests."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from rewind_logger.errors import CorruptError
from rewind_logger.format import names
from rewind_logger.history import compact, reader
from rewind_logger.history.view import LONG_LINEAGE, resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import CountingStorage, Traffic
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import RunRef
from tests.history.lines import RUN, Line, end, forked, line, log, opened, read, rewound

MOST_ENTRIES = LONG_LINEAGE + 1
"""Of a lineage that a reader meets: one that has become longer was merged by its owner's first flush."""

MOST_REQUESTS = 13
"""Of an opening: a fork of a run that had merged its ancestors. It lists the claims of both and three folders of the
last term; reads a claim, a base, what was merged, and after its pin and its base whether somebody came between; and
puts a claim, a pin and a base."""


class Chain:
    """Openings in a row, each of which logs a few rows, and the most that one of them asked of the store."""

    def __init__(self, storage: Storage) -> None:
        self.storage = CountingStorage(storage)
        self.openings: list[Traffic] = []
        self.flushes: list[Traffic] = []

    def add(self, opening: Callable[[], Writer], steps: range, turn: int) -> None:
        before = self.storage.traffic
        writer = opening()
        self.openings.append(self.storage.traffic - before)
        assert writer.opened is not None and writer.opened.start == steps.start
        before = self.storage.traffic
        log(writer, steps, turn=turn)
        writer.flush()
        self.flushes.append(self.storage.traffic - before)
        end(writer)

    def check_costs(self) -> None:
        """See that no opening took more than a few requests, and that flushes only now and then do."""
        assert max(traffic.total for traffic in self.openings) <= MOST_REQUESTS
        usual = 2 if self.storage.local_path is None else 3  # there it is seen as well whether the run was deleted
        dear = [i for i, traffic in enumerate(self.flushes) if traffic.total > usual]
        # Those that merge ancestors: each of so many has a merge behind it that read every one once, and put their
        # aggregates into one snapshot.
        assert len(dear) <= len(self.flushes) // LONG_LINEAGE
        assert all(self.flushes[i].total <= usual + MOST_ENTRIES + 6 for i in dear)

    def read(self, revision: int | None = None, run: RunRef = RUN) -> Line:
        """Read a revision, and see that it did not take many requests."""
        before = self.storage.traffic
        found = read(self.storage, revision, run=run)
        assert (self.storage.traffic - before).total <= MOST_ENTRIES + 10
        return found


def rewinds(storage: Storage, times: int, *, every: int = 1) -> None:
    chain = Chain(storage)
    chain.add(lambda: opened(chain.storage), range(0, 4), 0)
    head = line(range(4))
    archived = []
    for turn in range(1, times + 1):
        archived.append(head)
        cut = 3 * turn
        chain.add(lambda cut=cut: rewound(chain.storage, cut), range(cut, cut + 4), turn)  # type: ignore[misc]
        head = [row for row in head if row[0] < cut] + line(range(cut, cut + 4), turn=turn)
    chain.check_costs()
    assert chain.read() == head
    for number in range(1, times + 1, every):
        assert chain.read(number) == archived[number - 1], f"revision {number}"
    assert resolve(storage, RUN).revision == times + 1


def resumes(storage: Storage, times: int) -> None:
    chain = Chain(storage)
    for turn in range(times):
        chain.add(lambda: opened(chain.storage), range(2 * turn, 2 * turn + 2), turn)
    chain.check_costs()
    assert chain.read() == [row for turn in range(times) for row in line(range(2 * turn, 2 * turn + 2), turn=turn)]
    assert resolve(storage, RUN).revision == 1


def forks(storage: Storage, times: int) -> None:
    chain = Chain(storage)
    chain.add(lambda: opened(chain.storage), range(0, 4), 0)
    parent, rows = RUN, line(range(4))
    expected = {parent: rows}
    for turn in range(1, times + 1):
        cut, child = 3 * turn, f"fork{turn}"
        chain.add(
            lambda cut=cut, child=child, parent=parent: forked(chain.storage, child, cut, of=parent),  # type: ignore[misc]
            range(cut, cut + 4),
            turn,
        )
        rows = [row for row in rows if row[0] < cut] + line(range(cut, cut + 4), turn=turn)
        parent = RunRef("p", child)
        expected[parent] = rows
    chain.check_costs()
    for run, rows in expected.items():
        assert chain.read(run=run) == rows, f"run {run}"


def test_200_rewinds(memory: MemoryStorage) -> None:
    rewinds(memory, 200, every=11)


def test_50_nested_forks(memory: MemoryStorage) -> None:
    forks(memory, 50)


def test_many_resumes(memory: MemoryStorage) -> None:
    resumes(memory, 2 * LONG_LINEAGE + 10)


@pytest.mark.exhaustive
def test_1000_resumes(storage: Storage) -> None:
    resumes(storage, 1000)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("chain", "times"), [(rewinds, 200), (forks, 200)])
def test_chains_on_any_store(chain: Callable[[Storage, int], None], times: int, storage: Storage) -> None:
    chain(storage, times)


def test_openings_that_log_nothing_leave_no_trace_in_the_lineage(memory: MemoryStorage) -> None:
    chain = Chain(memory)
    chain.add(lambda: opened(chain.storage), range(0, 4), 0)
    for _ in range(2 * LONG_LINEAGE):
        opened(memory).close()
    assert len(resolve(memory, RUN).entries) == 2
    assert chain.read() == line(range(4))


def killed_after_its_first_flush(storage: Storage, step: int) -> None:
    """A turn that ends before its writer comes to put anything together."""
    writer = opened(storage)
    log(writer, [step])
    writer._drain()
    writer.close()


def test_the_merge_of_ancestors_may_fail_or_never_come(memory: MemoryStorage) -> None:
    """Until an owner lives long enough for it, everything can be read all the same."""
    times = LONG_LINEAGE + 20
    for step in range(times):
        killed_after_its_first_flush(memory, step)
    assert read(memory) == line(range(times))
    assert len(resolve(memory, RUN).entries) == times
    writer = opened(memory)
    log(writer, [times])
    writer.flush()
    view = resolve(memory, RUN)
    assert len(view.entries) == 2, "all ancestors were small: they are one now"
    assert read(memory) == line(range(times + 1))


def test_a_merge_that_lacks_rows_is_not_made(memory: MemoryStorage) -> None:
    """It would hide for good what may come back from a backup."""
    for step in range(LONG_LINEAGE + 2):
        killed_after_its_first_flush(memory, step)
    entry = resolve(memory, RUN).entries[5]
    group = names.group(entry.folder, "metrics", 0)
    [info] = memory.list(group)
    backup = memory.read(f"{group}/{info.name}")
    memory.delete(f"{group}/{info.name}")
    writer = opened(memory)
    assert writer.opened is not None
    with pytest.raises(CorruptError, match="is missing"):
        compact.merge_ancestors(memory, writer.opened)
    log(writer, [LONG_LINEAGE + 2])
    writer.flush()
    assert read(memory) == line(step for step in range(LONG_LINEAGE + 3) if step != 5)
    memory.put(f"{group}/{info.name}", backup)
    assert read(memory) == line(range(LONG_LINEAGE + 3))


def test_a_large_ancestor_is_left_where_it_is(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compact, "SMALL_BYTES", 20_000)
    chance = random.Random(0)
    for step in range(20):
        killed_after_its_first_flush(memory, step)
    writer = opened(memory)
    for step in range(20, 5000):
        writer.append("metrics", {"a": chance.random()}, step)
    writer.flush()
    writer.close()
    large = resolve(memory, RUN).folder
    for step in range(5000, 5000 + LONG_LINEAGE):
        killed_after_its_first_flush(memory, step)
    writer = opened(memory)
    log(writer, [5000 + LONG_LINEAGE])
    writer.flush()
    view = resolve(memory, RUN)
    assert large in [entry.folder for entry in view.entries]
    assert len(view.entries) < 30
    rows = reader.read_rows(memory, view, "metrics")
    assert [row.clock for row in rows] == list(range(5001 + LONG_LINEAGE))
