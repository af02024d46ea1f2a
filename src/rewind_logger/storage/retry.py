"""A storage that tries again."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rewind_logger.errors import TransientStorageError
from rewind_logger.storage.base import Listing, Object, ObjectInfo, Retries, Storage, Unfinished
from rewind_logger.storage.wrapper import WrapperStorage

A = TypeVar("A")
T = TypeVar("T")


FIRST_WAIT_S = 0.2
"""Upper bound of the wait before a request is made for the second time."""


_lock = threading.RLock()
"""Around the counts of failed requests: one for all, since a forked child is given it anew; and re-entrant, since a
signal's handler may make requests."""


def _enter_child() -> None:
    """Give a forked child a lock of its own: the parent's may have been held by a thread that is not here."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_enter_child)


def _uniform() -> float:
    """Draw a number; a function of the module, so that it can be pickled."""
    return random.random()


class RetryingStorage(WrapperStorage):
    """Try requests again that failed in a way that may pass, a bounded number of times.

    The wait before attempt n + 1 is drawn between 0 and `first_wait` · 2ⁿ⁻¹, at most `longest_wait` seconds ("full
    jitter": writers that failed together do not come back together). With the defaults a request that keeps failing is
    given up after at most 0.2 + 0.4 + 0.8 + 1.6 = 3 s of waiting, and whatever time its attempts took.

    A `create` whose reply was lost is tried again like anything else, and then meets its own object: False does not say
    that another caller was first (`Storage.create`).

    Args:
        inner: The storage to ask.
        attempts: How often a request is made, at most; 1 or more.
        first_wait: Upper bound of the first wait, in seconds; `FIRST_WAIT_S` if it is not given.
        longest_wait: Upper bound of every wait, in seconds.
        sleep: Waits for a number of seconds.
        uniform: Gives a random number from 0 (inclusive) to 1.
    """

    def __init__(
        self,
        inner: Storage,
        attempts: int = 5,
        *,
        first_wait: float | None = None,
        longest_wait: float = 5.0,
        sleep: Callable[[float], None] = time.sleep,
        uniform: Callable[[], float] = _uniform,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts is {attempts}: a request is made once at least.")
        super().__init__(inner)
        self.attempts = attempts
        self._first_wait = FIRST_WAIT_S if first_wait is None else first_wait
        self._longest_wait = longest_wait
        self._sleep = sleep
        self._uniform = uniform
        self._retries = Retries()

    def create(self, path: str, data: bytes) -> bool:
        """See `Storage.create`."""
        return self._retry(lambda: self.inner.create(path, data), len(data))

    def put(self, path: str, data: bytes) -> None:
        """See `Storage.put`."""
        self._retry(lambda: self.inner.put(path, data), len(data))

    def put_file(self, path: str, source: Path, *, sha256: str | None = None) -> None:
        """See `Storage.put_file`; the file is sent from its beginning again."""
        self._retry(lambda: self.inner.put_file(path, source, sha256=sha256), source.stat().st_size)

    def read(self, path: str) -> bytes:
        """See `Storage.read`."""
        return self._retry(lambda: self.inner.read(path))

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """See `Storage.read_range`."""
        return self._retry(lambda: self.inner.read_range(path, start, stop))

    def size(self, path: str) -> int:
        """See `Storage.size`."""
        return self._retry(lambda: self.inner.size(path))

    def info(self, path: str) -> ObjectInfo:
        """See `Storage.info`."""
        return self._retry(lambda: self.inner.info(path))

    def touch(self, path: str) -> bool:
        """See `Storage.touch`."""
        return self._retry(lambda: self.inner.touch(path))

    def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        self._retry(lambda: self.inner.delete(path))

    def read_each(self, paths: Iterable[str]) -> list[bytes | Exception]:
        """See `Storage.read_each`; only what failed is asked for again."""
        return self._retry_each(self.inner.read_each, list(paths))

    def list_each(self, folders: Iterable[str]) -> list[Listing | Exception]:
        """See `Storage.list_each`; only what failed is asked for again."""
        return self._retry_each(self.inner.list_each, list(folders))

    def delete_each(self, paths: Iterable[str]) -> list[Exception | None]:
        """See `Storage.delete_each`; only what failed is removed again."""
        return self._retry_each(self.inner.delete_each, list(paths))

    def unfinished(self, skip: Collection[str] = ()) -> Iterator[Unfinished]:
        """See `Storage.unfinished`."""
        return iter(self._retry(lambda: list(self.inner.unfinished(skip))))

    def discard(self, found: Unfinished) -> None:
        """See `Storage.discard`."""
        self._retry(lambda: self.inner.discard(found))

    def put_each(self, objects: Iterable[Object]) -> list[Exception | None]:
        """See `Storage.put_each`; only what failed is written again."""
        return self._retry_each(self.inner.put_each, list(objects), lambda one: len(one[1]))

    @property
    def retries(self) -> Retries:
        """See `Storage.retries`."""
        return self._retries

    def _retry(self, request: Callable[[], T], size: int = 0) -> T:
        """Make a request, whose body has `size` bytes, until it succeeds, fails for good, or was made often enough."""
        for attempt in range(1, self.attempts + 1):
            try:
                return request()
            except TransientStorageError as error:
                self._count(1, size)
                if attempt == self.attempts:
                    raise self._given_up(error) from error
            self._wait(attempt)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _retry_each(
        self,
        request: Callable[[Sequence[A]], Sequence[T | Exception]],
        arguments: Sequence[A],
        size_of: Callable[[A], int] = lambda argument: 0,
    ) -> list[T | Exception]:
        """Make requests together, and then again those that failed in a way that may pass."""
        outcomes: dict[int, T | Exception] = {}
        failed: Sequence[int] = range(len(arguments))
        for attempt in range(1, self.attempts + 1):
            outcomes.update(zip(failed, request([arguments[i] for i in failed]), strict=True))
            failed = [i for i in failed if isinstance(outcomes[i], TransientStorageError)]
            if not failed:
                break
            self._count(len(failed), sum(size_of(arguments[i]) for i in failed))
            if attempt < self.attempts:
                self._wait(attempt)
        for i in failed:
            error = outcomes[i]
            assert isinstance(error, TransientStorageError)
            outcomes[i] = self._given_up(error)
        return [outcomes[i] for i in range(len(arguments))]

    def _count(self, requests: int, size: int) -> None:
        """Count requests that were made in vain."""
        with _lock:
            self._retries = Retries(self._retries.requests + requests, self._retries.bytes + size)

    def _wait(self, attempt: int) -> None:
        """Wait between attempt number `attempt`, from 1, and the next."""
        self._sleep(self._uniform() * min(self._longest_wait, self._first_wait * 2 ** (attempt - 1)))

    def _given_up(self, error: TransientStorageError) -> TransientStorageError:
        """Say that a request was made in vain as often as it may be."""
        times = "once" if self.attempts == 1 else f"{self.attempts} times"
        given_up = TransientStorageError(f"{error} (It was tried {times}.)")
        given_up.__cause__ = error
        return given_up

    def list(self, folder: str) -> Listing:
        """See `Storage.list`."""
        return self._retry(lambda: self.inner.list(folder))
