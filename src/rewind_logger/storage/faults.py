"""Storages that count and storages that fail: for tests and measurements."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from rewind_logger.errors import TransientStorageError
from rewind_logger.storage.base import Listing, Object, ObjectInfo, Storage, outcome_of
from rewind_logger.storage.wrapper import WrapperStorage

T = TypeVar("T")

Verb = Literal["create", "put", "put_file", "read", "read_range", "size", "info", "touch", "delete", "list"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went through a `CountingStorage`."""

    requests: Mapping[str, int] = field(default_factory=dict)
    """How many of each verb; a verb that did not occur is missing. A `read_many` of n objects is n reads."""
    bytes_read: int = 0
    bytes_written: int = 0

    @property
    def total(self) -> int:
        """How many requests, of all verbs."""
        return sum(self.requests.values())

    def __sub__(self, earlier: Traffic) -> Traffic:
        requests = Counter(self.requests)
        requests.subtract(earlier.requests)
        return Traffic(
            {verb: n for verb, n in requests.items() if n},
            self.bytes_read - earlier.bytes_read,
            self.bytes_written - earlier.bytes_written,
        )


class CountingStorage(WrapperStorage):
    """Count requests and bytes, also of requests that fail.

    Example:
        >>> from rewind_logger.storage.memory import MemoryStorage
        >>> storage = CountingStorage(MemoryStorage("memory://counting-example"))
        >>> storage.put("a", b"12345")
        >>> before = storage.traffic
        >>> storage.read_many(["a", "a"])
        [b'12345', b'12345']
        >>> storage.traffic - before
        Traffic(requests={'read': 2}, bytes_read=10, bytes_written=0)
    """

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self._lock = threading.Lock()
        self._traffic = Traffic()

    @property
    def traffic(self) -> Traffic:
        """All that went through until now."""
        return self._traffic

    def create(self, path: str, data: bytes) -> bool:
        """See `Storage.create`."""
        self._count("create", written=len(data))
        return self.inner.create(path, data)

    def put(self, path: str, data: bytes) -> None:
        """See `Storage.put`."""
        self._count("put", written=len(data))
        self.inner.put(path, data)

    def put_file(self, path: str, source: Path, *, sha256: str | None = None) -> None:
        """See `Storage.put_file`."""
        self._count("put_file", written=source.stat().st_size)
        self.inner.put_file(path, source, sha256=sha256)

    def read(self, path: str) -> bytes:
        """See `Storage.read`."""
        self._count("read")
        return self._received(self.inner.read(path))

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """See `Storage.read_range`."""
        self._count("read_range")
        return self._received(self.inner.read_range(path, start, stop))

    def size(self, path: str) -> int:
        """See `Storage.size`."""
        self._count("size")
        return self.inner.size(path)

    def info(self, path: str) -> ObjectInfo:
        """See `Storage.info`."""
        self._count("info")
        return self.inner.info(path)

    def touch(self, path: str) -> bool:
        """See `Storage.touch`."""
        self._count("touch")
        return self.inner.touch(path)

    def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        self._count("delete")
        self.inner.delete(path)

    def delete_each(self, paths: Iterable[str]) -> list[Exception | None]:
        """See `Storage.delete_each`."""
        todo = list(paths)
        self._count("delete", len(todo))
        return self.inner.delete_each(todo)

    def read_each(self, paths: Iterable[str]) -> list[bytes | Exception]:
        """See `Storage.read_each`."""
        todo = list(paths)
        self._count("read", len(todo))
        outcomes = self.inner.read_each(todo)
        self._count("read", 0, read=sum(len(outcome) for outcome in outcomes if isinstance(outcome, bytes)))
        return outcomes

    def list_each(self, folders: Iterable[str]) -> list[Listing | Exception]:
        """See `Storage.list_each`."""
        todo = list(folders)
        self._count("list", len(todo))
        return self.inner.list_each(todo)

    def put_each(self, objects: Iterable[Object]) -> list[Exception | None]:
        """See `Storage.put_each`."""
        todo = list(objects)
        self._count("put", len(todo), written=sum(len(data) for _, data in todo))
        return self.inner.put_each(todo)

    def list(self, folder: str) -> Listing:
        """See `Storage.list`."""
        self._count("list")
        return self.inner.list(folder)

    def _received(self, data: bytes) -> bytes:
        """Count bytes that were read."""
        self._count("read", 0, read=len(data))
        return data

    def _count(self, verb: Verb, times: int = 1, *, read: int = 0, written: int = 0) -> None:
        """Add to what went through."""
        with self._lock:
            requests = Counter(self._traffic.requests)
            requests[verb] += times
            self._traffic = Traffic(+requests, self._traffic.bytes_read + read, self._traffic.bytes_written + written)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


@dataclass(frozen=True, slots=True)
class Request:
    """A request that is about to be made."""

    number: int
    """How many came before it through the same `FaultyStorage`, of all verbs."""
    verb: Verb
    path: str


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with a request."""

    when: Literal["before", "after"]
    """Before it has any effect, or after it had its effect, so that only the reply is lost."""
    error: BaseException
    """What the caller is given: a `TransientStorageError`, or for a crash an exception that nobody handles."""


Plan = Callable[[Request], "Fault | None"]
"""Decides what goes wrong. It is called once a request, in the order of their numbers, by one thread at a time."""


class FaultyStorage(WrapperStorage):
    """Let requests fail before or after their effect, or take time, as a plan says.

    Args:
        inner: The storage to ask.
        plan: What goes wrong; nothing by default.
        latency: Seconds that each request takes, waited for before its effect.
        sleep: Waits for a number of seconds.

    Example:
        >>> from rewind_logger.storage.memory import MemoryStorage
        >>> lost_reply = script({0: Fault("after", TransientStorageError("The reply was lost."))})
        >>> storage = FaultyStorage(MemoryStorage("memory://faulty-example"), lost_reply)
        >>> storage.create("a", b"mine")
        Traceback (most recent call last):
            ...
        rewind_logger.errors.TransientStorageError: The reply was lost.
        >>> storage.create("a", b"mine"), storage.read("a")
        (False, b'mine')
    """

    def __init__(
        self,
        inner: Storage,
        plan: Plan | None = None,
        *,
        latency: float = 0.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(inner)
        self.plan = plan
        self.latency = latency
        self._sleep = sleep
        self._number = 0
        self._lock = threading.Lock()

    def create(self, path: str, data: bytes) -> bool:
        """See `Storage.create`."""
        with self._faults("create", path):
            return self.inner.create(path, data)

    def put(self, path: str, data: bytes) -> None:
        """See `Storage.put`."""
        with self._faults("put", path):
            self.inner.put(path, data)

    def put_file(self, path: str, source: Path, *, sha256: str | None = None) -> None:
        """See `Storage.put_file`."""
        with self._faults("put_file", path):
            self.inner.put_file(path, source, sha256=sha256)

    def read(self, path: str) -> bytes:
        """See `Storage.read`."""
        with self._faults("read", path):
            return self.inner.read(path)

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """See `Storage.read_range`."""
        with self._faults("read_range", path):
            return self.inner.read_range(path, start, stop)

    def size(self, path: str) -> int:
        """See `Storage.size`."""
        with self._faults("size", path):
            return self.inner.size(path)

    def info(self, path: str) -> ObjectInfo:
        """See `Storage.info`."""
        with self._faults("info", path):
            return self.inner.info(path)

    def touch(self, path: str) -> bool:
        """See `Storage.touch`."""
        with self._faults("touch", path):
            return self.inner.touch(path)

    def delete_each(self, paths: Iterable[str]) -> list[Exception | None]:
        """See `Storage.delete_each`; one after the other, so that a plan meets them in order."""
        return [outcome_of(self.delete, path) for path in paths]

    def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        with self._faults("delete", path):
            self.inner.delete(path)

    def read_each(self, paths: Iterable[str]) -> list[bytes | Exception]:
        """See `Storage.read_each`; one after the other, so that a plan meets them in order."""
        return [outcome_of(self.read, path) for path in paths]

    def list_each(self, folders: Iterable[str]) -> list[Listing | Exception]:
        """See `Storage.list_each`; one after the other, so that a plan meets them in order."""
        return [outcome_of(self.list, folder) for folder in folders]

    def put_each(self, objects: Iterable[Object]) -> list[Exception | None]:
        """See `Storage.put_each`; one after the other, so that a plan meets them in order."""
        return [outcome_of(self._put_object, one) for one in objects]

    def list(self, folder: str) -> Listing:
        """See `Storage.list`."""
        with self._faults("list", folder):
            return self.inner.list(folder)

    @contextmanager
    def _faults(self, verb: Verb, path: str) -> Iterator[None]:
        """Make one request as the plan says."""
        with self._lock:
            request = Request(self._number, verb, path)
            self._number += 1
            fault = self.plan(request) if self.plan is not None else None
        if self.latency:
            self._sleep(self.latency)
        try:
            if fault is not None and fault.when == "before":
                raise fault.error
            yield
            if fault is not None:
                raise fault.error
        finally:
            del fault  # whose error refers to this frame

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


def script(faults: Mapping[int, Fault]) -> Plan:
    """Plan faults by the number of the request, from 0."""
    return lambda request: faults.get(request.number)


def every(verb: Verb, fault: Fault) -> Plan:
    """Plan the same fault for every request of one verb."""
    return lambda request: fault if request.verb == verb else None


def by_chance(seed: int, *, before: float, after: float) -> Plan:
    """Plan transient faults by chance, the same ones for the same seed and requests.

    Args:
        seed: Seeds the random numbers.
        before: How likely a request fails before its effect, from 0 to 1.
        after: How likely its reply is lost, from 0 to 1; with `before` at most 1.
    """
    generator = random.Random(seed)

    def plan(request: Request) -> Fault | None:
        drawn = generator.random()
        if drawn < before:
            return Fault("before", TransientStorageError(f"Request {request.number} was lost."))
        if drawn < before + after:
            return Fault("after", TransientStorageError(f"The reply to request {request.number} was lost."))
        return None

    return plan
