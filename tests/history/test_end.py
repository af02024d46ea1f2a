"""The end of a run whose rows are in is waited for no longer than it may take, and told of truly."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest

from rewind_logger.errors import FencedError, StorageError
from rewind_logger.format import names
from rewind_logger.history import writer as writing
from rewind_logger.history.delivery import Delivery
from rewind_logger.history.ending import UnendedError
from rewind_logger.history.view import resolve
from rewind_logger.history.writer import Writer
from rewind_logger.sdk.state import state
from rewind_logger.storage.base import Storage
from rewind_logger.storage.faults import Fault, FaultyStorage, Request
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.storage.wrapper import WrapperStorage
from tests.history.lines import RUN, end, line, log, opened, read


class Hanging(WrapperStorage):
    """A store that does not answer when some object is put, until it is let."""

    def __init__(self, inner: Storage, name: str) -> None:
        super().__init__(inner)
        self.name = name
        self.reached, self.released = threading.Event(), threading.Event()

    def put(self, path: str, data: bytes) -> None:
        if path.endswith(self.name):
            self.reached.set()
            self.released.wait()
        super().put(path, data)


def end_of(writer: Writer) -> str:
    """Return where the closing mark of a writer's term lies."""
    assert writer.opened is not None
    return names.end(writer.opened.folder)


@pytest.fixture
def hanging(memory: MemoryStorage) -> Hanging:
    return Hanging(memory, names.end(""))


@pytest.mark.timeout(120)
def test_the_end_of_a_run_is_not_waited_for_longer_than_its_rows_may_take(
    hanging: Hanging, memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "CLOSE_S", 0.01)
    writer = opened(hanging, background=True)
    log(writer, range(3))
    assert writer.flush(60)
    flush = writer.flush
    monkeypatch.setattr(writer, "flush", lambda timeout, waiting: flush(60, waiting))  # however busy this machine is
    try:
        with pytest.raises(UnendedError, match=r"Every row is in .*, but that the run has ended could not be noted"):
            writer.finish("finished", 0.5)
        writer.close()
        assert writer.kept is None
        assert read(memory) == line(range(3))
        assert state(memory, resolve(memory, RUN)) == "running"
    finally:
        hanging.released.set()


@pytest.mark.timeout(120)
def test_an_end_that_comes_after_the_run_went_on_does_not_end_it(hanging: Hanging, memory: MemoryStorage) -> None:
    """As a trainer goes on with it that fits once more."""
    writer = opened(hanging, background=True)
    log(writer, range(3))
    assert writer.flush(60)
    try:
        while not hanging.reached.is_set():
            with contextlib.suppress(UnendedError):
                writer.finish("finished", 0.5)
        writer.go_on()
    finally:
        hanging.released.set()
    assert writer.flush(60)
    assert writer._flusher is not None
    assert writer._flusher.do(lambda: None, 60)  # so it has given a sign of life
    assert memory.read(end_of(writer))
    assert state(memory, resolve(memory, RUN)) == "running"
    assert writer.finish("finished", 60)
    assert state(memory, resolve(memory, RUN)) == "finished"
    writer.close()


@pytest.mark.timeout(120)
def test_an_end_whose_time_ran_out_before_it_was_begun_is_not_made_any_more(
    hanging: Hanging, memory: MemoryStorage
) -> None:
    writer = opened(hanging, background=True)
    assert writer._flusher is not None
    free, busy = threading.Event(), threading.Event()

    def work() -> None:
        busy.set()
        assert free.wait(60)

    occupied = threading.Thread(target=writer._flusher.do, args=(work, 60))
    occupied.start()
    assert busy.wait(60)
    done: list[bool] = []
    assert not writer._flusher.do(lambda: done.append(True), 0.01)
    free.set()
    occupied.join(60)
    assert writer._flusher.do(lambda: None, 60)
    assert done == []
    writer.close()


@pytest.mark.timeout(120)
def test_an_end_is_noted_though_there_is_no_time_to_tidy(
    memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "CLOSE_S", 0.01)
    released = threading.Event()
    tidy = Delivery.tidy

    def tidy_late(delivery: Delivery, *, closing: bool = False) -> None:
        if closing:
            released.wait()
        tidy(delivery, closing=closing)

    monkeypatch.setattr(Delivery, "tidy", tidy_late)
    writer = opened(memory, background=True)
    log(writer, range(3))
    try:
        assert writer.flush(60)
        assert writer.finish("finished", 1.0)
        writer.close()
        assert state(memory, resolve(memory, RUN)) == "finished"
    finally:
        released.set()


@pytest.mark.timeout(120)
def test_an_end_that_another_writer_prevents_says_so(memory: MemoryStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = opened(memory, background=True)
    flush = writer.flush

    def flush_and_be_fenced(*arguments: Any) -> bool:
        assert flush(*arguments)
        end(opened(memory))
        log(writer, [0])
        with pytest.raises(FencedError):  # as another thread's flush is
            flush(60)
        return True

    monkeypatch.setattr(writer, "flush", flush_and_be_fenced)
    with pytest.raises(FencedError):
        writer.finish("finished", 60)
    writer.close()


@pytest.mark.parametrize("background", [False, True])
def test_an_end_that_the_store_refuses_is_told_of_and_can_be_noted_later(
    background: bool, memory: MemoryStorage
) -> None:
    def refuse(request: Request) -> Fault | None:
        return Fault("before", StorageError("Access denied.")) if request.path.endswith(names.end("")) else None

    faulty = FaultyStorage(memory, refuse)
    writer = opened(faulty, background=background)
    log(writer, range(3))
    with pytest.raises(UnendedError, match=r"could not be noted there\. Access denied\."):
        writer.finish("finished")
    assert read(memory) == line(range(3))
    faulty.plan = None
    assert writer.finish("finished")
    assert state(memory, resolve(memory, RUN)) == "finished"
    end(writer)
