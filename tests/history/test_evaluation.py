"""An evaluation whose store is away for a while: what was confirmed stays, and waiting rows take a bounded memory."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from rewind_logger.errors import TransientStorageError
from rewind_logger.history import evaluation
from rewind_logger.history.evaluation import EvaluationWriter, evaluations, move
from rewind_logger.history.verify import verify
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import CountingStorage, Fault, FaultyStorage, Request
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.wrapper import WrapperStorage
from tests.history.lines import RUN, end, log, opened


class Late(WrapperStorage):
    """A store to which what is put comes later than whoever puts it waits for, as long as it is slow."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.slow = True
        self.under_way: list[tuple[str, bytes]] = []

    def put(self, path: str, data: bytes) -> None:
        if self.slow and path.endswith(".parquet"):
            self.under_way.append((path, data))
            raise TransientStorageError("The request timed out.")
        self.inner.put(path, data)


class Now:
    """A clock that goes on when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def store(memory: MemoryStorage) -> MemoryStorage:
    writer = opened(memory)
    log(writer, range(5))
    end(writer)
    return memory


def begin(storage: Storage) -> EvaluationWriter:
    return EvaluationWriter(storage, RUN, kind="test", revision=1, next_step=5, checkpoint=None)


def stored(storage: Storage, column: str = "value") -> list[Any]:
    view = resolve(storage, RUN)
    (one,) = evaluations(storage, view)
    found: list[Any] = evaluation.read(storage, view, one)[column].to_pylist()
    return found


def test_a_request_that_comes_through_late_takes_no_row_with_it(store: MemoryStorage) -> None:
    late = Late(store)
    writer = begin(late)
    writer.append({"acc": 1.0})
    with pytest.raises(TransientStorageError):
        writer.flush()
    late.slow = False
    writer.append({"acc": 2.0})
    writer.flush()
    assert stored(store) == [1.0, 2.0]
    for path, data in late.under_way:
        store.put(path, data)
    assert stored(store) == [1.0, 2.0]
    assert verify(store).ok


def test_a_store_that_is_away_is_asked_ever_more_seldom(store: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Now(monkeypatch)
    faulty = FaultyStorage(CountingStorage(store), lambda _: Fault("before", TransientStorageError("away")))
    writer = begin(faulty)
    attempts = []
    for step in range(600):
        clock.now += 1.0
        try:
            writer.append({"acc": float(step)})
        except TransientStorageError:
            attempts.append(step)
    assert 5 <= len(attempts) <= 16
    gaps = [later - earlier for earlier, later in itertools.pairwise(attempts)]
    assert gaps == sorted(gaps) and gaps[-1] == 60
    faulty.plan = None
    writer.flush()
    assert stored(store) == list(map(float, range(600)))
    assert verify(store).ok


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("effect", ["before", "after"])
@pytest.mark.parametrize("again", ["flush", "move"])
def test_what_waits_for_a_run_becomes_an_evaluations_once(
    number: int, effect: Any, again: str, store: MemoryStorage
) -> None:
    """Whatever fails meanwhile: it stays in the journal until it is there, and goes then."""
    early = Writer(store, RUN, background=False)
    early.append("metrics", {"acc": 0.5}, None)
    early.append("events", {"note": "one"}, None)

    def fail(request: Request) -> Fault | None:
        return Fault(effect, TransientStorageError("away")) if request.number == number else None

    evaluated = begin(FaultyStorage(store, fail))
    outbox = early._begin_outbox()
    try:
        move(outbox, evaluated)
    except TransientStorageError:
        assert early.rows_waiting == 2
        if again == "flush":
            evaluated.flush()
        else:
            move(outbox, evaluated)
    assert stored(store) == [0.5]
    assert not early.waiting
    early.close()


def test_rows_that_wait_take_a_bounded_memory_and_it_is_said_how_many_were_dropped(
    store: MemoryStorage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(evaluation, "HELD_BYTES", 1 << 20)
    monkeypatch.setattr(evaluation, "FLUSH_POINTS", 1000)
    Now(monkeypatch)
    faulty = FaultyStorage(store, lambda _: Fault("before", TransientStorageError("away")))
    writer = begin(faulty)
    kept = 0
    for step in range(100):
        try:
            writer.attach(step.to_bytes(4, "little") * 10_000)
            writer.append({"acc": float(step)})
        except TransientStorageError:
            continue
        kept = step + 1 if "are dropped" not in caplog.text else kept
    held = sum(batch.size for batch in writer._closed)
    assert 1 << 20 <= held < 2 << 20
    assert caplog.text.count("The store takes nothing, and 1 MiB of rows of p/a/v/") == 1
    faulty.plan = None
    writer.flush()
    assert stored(store) == list(map(float, range(kept)))
    assert 20 < kept < 40
    assert f"{100 - kept} rows of p/a/v/" in caplog.text and "were dropped while" in caplog.text
    writer.append({"acc": 1.5})
    writer.flush()
    assert stored(store)[-1] == 1.5
    assert stored(store, "row") == list(range(kept + 1))
    assert verify(store).ok
