"""A store whose requests stop before and after their effect, and can come through long after their sender is gone."""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rewind_logger.errors import RewindError
from rewind_logger.storage.base import Listing, Object, ObjectInfo, Storage
from rewind_logger.storage.wrapper import WrapperStorage


class Network:
    """Requests that are under way although nobody waits for them any more."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._under_way: list[Callable[[], object]] = []
        self.landed = 0

    def left_alone(self, request: Callable[[], object]) -> None:
        """Take over a request that its sender gave up before it had an effect: half of them never have one."""
        if self._chance.random() < 0.5:
            self._under_way.append(request)

    def land_one(self) -> None:
        """Let any of them have its effect now."""
        if self._under_way:
            with contextlib.suppress(FileNotFoundError):  # that is answered to nobody
                self._under_way.pop(self._chance.randrange(len(self._under_way)))()
            self.landed += 1

    def land_all(self) -> None:
        """Let all of them have their effect, in any order."""
        while self._under_way:
            self.land_one()


class SteppingStorage(WrapperStorage):
    """The store as one machine sees it. `stop` may raise: then the request or its reply was lost."""

    def __init__(self, inner: Storage, machine: Path, stop: Callable[[], None], network: Network) -> None:
        super().__init__(inner)
        self.local_path = machine  # where the journals of its writers lie
        self._stop = stop
        self._network = network

    def create(self, path: str, data: bytes) -> bool:
        created = bool(self._write(self.inner.create, path, data))
        for _ in range(4):  # between a claim and its base most can go wrong: stay there for a while
            self._stop()
        return created

    def put(self, path: str, data: bytes) -> None:
        self._write(self.inner.put, path, data)

    def read(self, path: str) -> bytes:
        return bytes(self._request(self.inner.read, path))

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        return bytes(self._request(self.inner.read_range, path, start, stop))

    def size(self, path: str) -> int:
        return int(self._request(self.inner.size, path))

    def info(self, path: str) -> ObjectInfo:
        found: ObjectInfo = self._request(self.inner.info, path)
        return found

    def touch(self, path: str) -> bool:
        return bool(self._write(self.inner.touch, path))

    def delete(self, path: str) -> None:
        self._write(self.inner.delete, path)

    def delete_each(self, paths: Iterable[str]) -> list[Exception | None]:
        return [_outcome(self.delete, path) for path in paths]

    def read_each(self, paths: Iterable[str]) -> list[bytes | Exception]:
        return [_outcome(self.read, path) for path in paths]

    def list_each(self, folders: Iterable[str]) -> list[Listing | Exception]:
        return [_outcome(self.list, folder) for folder in folders]

    def put_each(self, objects: Iterable[Object]) -> list[Exception | None]:
        return [_outcome(self._put_object, one) for one in objects]

    def _write(self, request: Callable[..., object], *args: Any) -> object:
        try:
            self._stop()
        except BaseException:
            self._network.left_alone(functools.partial(request, *args))
            raise
        try:
            return request(*args)
        finally:
            self._stop()

    def _request(self, request: Callable[..., Any], *args: Any) -> Any:
        self._stop()
        try:
            return request(*args)
        finally:
            self._stop()

    def list(self, folder: str) -> Listing:
        return self._request(self.inner.list, folder)  # type: ignore[no-any-return]


def _outcome(request: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return request(argument)
    except (FileNotFoundError, RewindError) as error:
        return error
