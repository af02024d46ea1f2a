"""A folder is sealed at one place, whatever its fenced writer still puts there while the next one opens the run."""

from __future__ import annotations

import contextlib

import pytest

from rewind_logger.errors import FencedError
from rewind_logger.format import names
from rewind_logger.history import reader
from rewind_logger.history.verify import verify
from rewind_logger.history.view import resolve
from rewind_logger.storage.faults import FaultyStorage, Request
from rewind_logger.storage.memory import MemoryStorage
from tests.history.lines import RUN, end, line, log, opened, read, rewound
from tests.history.machine import requests_of


@pytest.mark.parametrize("revision", [None, 1], ids=["present", "by its number"])
def test_an_archived_revision_has_what_the_one_after_it_was_built_on(revision: int | None) -> None:
    """Found by the model check: what was archived, and what was built on it, were looked at one after the other."""

    def run(number: int | None) -> int:
        """Rewind a run, while a zombie flushes its last row at one of the requests; return how many there were."""
        store = MemoryStorage(f"memory://seals-{revision}-{number}")
        zombie = opened(store)
        log(zombie, range(4))
        zombie.flush()
        log(zombie, [4])

        def flush(request: Request) -> None:
            if request.number == number:
                with contextlib.suppress(FencedError):
                    zombie.flush()

        taken = requests_of(store, lambda storage: rewound(FaultyStorage(storage, flush), 3, revision).close())
        head = resolve(store, RUN)
        (built_on,) = [entry for entry in head.entries if entry.folder == head.revisions[0].folder]
        assert built_on.sealed == head.revisions[0].sealed
        assert verify(store).ok
        assert read(store) == line(range(3)) and read(store, 1) in (line(range(4)), line(range(5)))
        return taken

    for number in range(run(None)):
        run(number)


def test_a_restored_revision_is_sealed_as_it_was(memory: MemoryStorage) -> None:
    for cut in (2, 3):
        writer = opened(memory)
        log(writer, range(writer.next_step, 6))
        end(writer)
        rewound(memory, cut).close()
    for revision in (1, 2, 3):
        rewound(memory, None, revision).close()
        assert verify(memory).ok


def test_what_an_opening_is_given_late_hides_no_row_that_a_rewind_cuts(
    memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found by random lives: the newest folder of a stream had rows of the opening alone, and those before none."""
    monkeypatch.setattr(names, "GROUP_SIZE", 1)
    writer = opened(memory)
    for clock in (0, -1, -1):
        writer.append("events", {"summary": str(clock)}, clock)
        writer.flush()
    end(writer)
    again = rewound(memory, 0)
    assert again.opened is not None
    assert again.opened.revision == 2
    assert [row.clock for row in reader.read_rows(memory, resolve(memory, RUN), "events")] == [-1, -1]
    assert [row.clock for row in reader.read_rows(memory, resolve(memory, RUN, 1), "events")] == [0, -1, -1]
    again.close()
