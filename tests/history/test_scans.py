"""A file that comes while its folder is listed is seen or not: on a local disk that goes by the hash of its name.

So a listing of a folder that is written shows a flush without the one before it, which is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest

from rewind_logger.format import names
from rewind_logger.format.documents import decode_base, encode_base
from rewind_logger.history import reader, segments
from rewind_logger.history.damage import report
from rewind_logger.history.evaluation import EvaluationWriter, evaluations
from rewind_logger.history.verify import verify
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Listing, Storage
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.wrapper import WrapperStorage
from rewind_logger.types import Position, RunRef
from tests.history.clocked import flushes
from tests.history.lines import RUN, end, forked, line, log, opened, read
from tests.history.verifying.verified import only

CHILD = RunRef("p", "b")


class Scanned(WrapperStorage):
    """A store of which the next listing of segments takes so long that files come meanwhile: it shows the last alone.

    Args:
        inner: Where everything is.
        meanwhile: Puts them.
    """

    def __init__(self, inner: Storage, meanwhile: Callable[[], None]) -> None:
        super().__init__(inner)
        self.meanwhile: Callable[[], None] | None = meanwhile

    def list_each(self, folders: Iterable[str]) -> list[Listing | Exception]:
        return [self.list(folder) for folder in folders]

    def list(self, folder: str) -> Listing:
        found = super().list(folder)
        if self.meanwhile is None or not any(info.name.endswith(".parquet") for info in found):
            return found
        meanwhile, self.meanwhile = self.meanwhile, None
        meanwhile()
        return [*found, super().list(folder)[-1]]


class Forgetful(WrapperStorage):
    """A store of which a listing passes over a segment that was there all the time: some file servers do."""

    forgets = "000000001-000000001_1_1.parquet"

    def list_each(self, folders: Iterable[str]) -> list[Listing | Exception]:
        return [self.list(folder) for folder in folders]

    def list(self, folder: str) -> Listing:
        found = super().list(folder)
        left = [info for info in found if info.name != self.forgets]
        if len(left) < len(found):
            self.forgets = ""
        return left


@pytest.fixture
def writer(memory: MemoryStorage) -> Writer:
    """The writer of a run with four flushes."""
    found = opened(memory)
    flushes(found, range(4))
    return found


@pytest.fixture
def scanned(memory: MemoryStorage, writer: Writer) -> Scanned:
    """The same store, in which three flushes come during a listing."""
    return Scanned(memory, lambda: flushes(writer, range(4, 7)))


def test_a_fork_of_a_live_run_has_no_gap(scanned: Scanned, memory: MemoryStorage) -> None:
    child = forked(scanned, "b", None)
    assert scanned.meanwhile is None
    log(child, [child.next_step])
    end(child)
    assert read(memory, run=CHILD) == line(range(8))
    assert child.opened is not None and len(child.opened.base.plan) == 1
    assert verify(memory).ok


def test_nor_has_a_copy_in_another_store(scanned: Scanned) -> None:
    target = MemoryStorage(f"{scanned.url}-copy")
    opened(target, CHILD, at=Position(RUN, None, None), source=scanned).close()
    assert scanned.meanwhile is None
    assert read(target, run=CHILD) == line(range(7))
    assert verify(target).ok


def test_a_reader_of_the_head_misses_nothing(scanned: Scanned, caplog: pytest.LogCaptureFixture) -> None:
    assert read(scanned) == line(range(7))
    assert scanned.meanwhile is None
    assert "missing" not in caplog.text


def test_nor_does_verify(scanned: Scanned) -> None:
    assert verify(scanned).ok
    assert scanned.meanwhile is None


def test_nor_does_a_reader_that_lists_what_a_base_does_not_name(
    memory: MemoryStorage, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    forked(memory, "b", 3).close()
    view = replace(resolve(memory, CHILD), plan={})
    entry = view.entries[0]
    store = Forgetful(memory)
    assert [one.name.first for one in reader.entry_segments(store, view, entry, "metrics")] == [0, 1, 2, 3]
    assert store.forgets == "" and caplog.text == ""


def test_an_evaluation_that_is_read_while_it_is_written_has_no_gap(memory: MemoryStorage) -> None:
    end(opened(memory))
    evaluation = EvaluationWriter(memory, RUN, kind="test", revision=1, next_step=0, checkpoint=None)

    def more(count: int) -> None:
        for _ in range(count):
            evaluation.append({"acc": 0.5})
            evaluation.flush()

    more(2)
    (found,) = evaluations(memory, resolve(memory, RUN))
    store = Scanned(memory, lambda: more(3))
    end_of_it = segments.seal(store, found.folder)
    assert store.meanwhile is None and end_of_it.files is not None
    assert [one.name.first for one in end_of_it.files["metrics"]] == [0, 1, 2, 3, 4]


def test_a_base_names_nothing_of_a_folder_with_a_gap_so_that_what_is_restored_is_read(
    memory: MemoryStorage, writer: Writer
) -> None:
    assert writer.opened is not None
    path = names.segment(writer.opened.folder, "metrics", names.SegmentName(2, 2, 2, 2))
    data = memory.read(path)
    memory.delete(path)
    child = forked(memory, "b", None)
    assert child.opened is not None and child.opened.base.plan == {}
    assert read(memory, run=CHILD) == line([0, 1, 3])
    assert any("Flush 2 is missing" in problem.what for problem in verify(memory, CHILD).problems)
    memory.put(path, data)
    assert read(memory, run=CHILD) == line(range(4))
    assert verify(memory).ok


def test_a_base_that_passes_over_a_flush_hides_no_row(
    memory: MemoryStorage, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    """As forks have that were made before listings were looked at for gaps."""
    child = forked(memory, "b", None)
    assert child.opened is not None
    path = names.base(child.opened.folder)
    base = decode_base(memory.read(path), CHILD, path)
    (entry,) = base.lineage
    files = base.plan[entry.folder]["metrics"]
    memory.put(path, encode_base(replace(base, plan={entry.folder: {"metrics": files[:1] + files[2:]}}), CHILD))
    report.cache_clear()
    assert read(memory, run=CHILD) == line(range(4))
    assert caplog.text == ""
    found = verify(memory, CHILD)
    assert found.ok
    assert any("not flushes 1 to 1, which are there" in note for note in found.notes)
    lost = names.segment(entry.folder, "metrics", names.SegmentName(1, 1, 1, 1))
    memory.delete(lost)
    assert read(memory, run=CHILD) == line([0, 2, 3])
    assert "Flushes 1 to 1 of metrics" in caplog.text
    assert "Flush 1 is missing" in only(verify(memory, CHILD)).what
