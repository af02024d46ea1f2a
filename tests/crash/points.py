"""Crash points: every operation by which a process can leave a trace outside itself, numbered, and a kill at one.

On disk these are the calls of the system that change the watched folders, in the journal, the locks, what is staged and
a local store alike: a temporary file is created, written, synced, linked and removed in five of them. To a server they
are the pieces that go into a socket. A kill comes before one, in the middle of one that is not atomic (half of what was
to be written is written), or after it. Nothing else has an effect that outlives the process, so a kill at any other
moment leaves what one of these does.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import pathlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, NoReturn

How = Literal["before", "half", "after"]


class Kill(NamedTuple):
    """Where a process is killed."""

    number: int
    """Of the operation, from 0."""
    how: How


def die() -> NoReturn:
    """Kill this process, as nothing but the kernel does."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


_PATHS = {"mkdir": 0, "rmdir": 0, "unlink": 0, "remove": 0, "rename": 0, "replace": 0, "link": 1, "utime": 0}
"""Calls of `os` that change a folder, and which of their arguments says which one."""

_AUDITED = {"os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.utime", "os.truncate", "os.symlink"}


class Points:
    """Numbers the operations of this process, and kills it at one of them."""

    def __init__(self, watched: Sequence[str], kill: Kill | None, pause: Callable[[], None] | None = None) -> None:
        """Begin to count.

        Args:
            watched: The folders in which operations count.
            kill: Where to kill; None: only count.
            pause: Called in place of the kill.
        """
        self.seen: list[str] = []
        """What was done, in order; with a `/` at the end where it has a middle."""
        self.unseen: list[str] = []
        """What the interpreter was about to do in a watched folder without passing through here; must stay empty."""
        self._watched = tuple(os.path.join(os.path.realpath(folder), "") for folder in watched)
        self._kill = kill
        self._pause = pause
        self._lock = threading.Lock()
        self._within = threading.local()
        self._files: dict[int, str] = {}

    def at(self, what: str, do: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        """Do an operation, which is a point."""
        with self._lock:
            number = len(self.seen)
            self.seen.append(what + ("/" if half is not None else ""))
        here = self._kill is not None and self._kill.number == number
        if here and self._kill is not None and self._kill.how != "after":
            if self._kill.how == "half" and half is not None:
                half()
            die()
        self._within.operation = True
        try:
            return do()
        finally:
            self._within.operation = False
            if here:
                die()

    def watches(self, path: object) -> bool:
        """Whether a path lies in one of the watched folders."""
        if not isinstance(path, (str, os.PathLike)):
            return False
        return os.path.join(os.path.abspath(path), "").startswith(self._watched)

    @contextlib.contextmanager
    def installed(self) -> Iterator[Points]:
        """Have the operations of this process pass through here. It is not to be undone: the process is a child."""
        self._watch_calls()
        self._watch_descriptors()
        self._watch_files()
        self._watch_sockets()
        sys.addaudithook(self._audit)
        yield self

    def _watch_calls(self) -> None:
        for name, index in _PATHS.items():
            real = getattr(os, name)

            def call(
                *args: Any, _name: str = name, _index: int = index, _real: Callable[..., Any] = real, **options: Any
            ) -> Any:
                if not self.watches(args[_index]):
                    return _real(*args, **options)
                return self.at(f"{_name} {_last(args[_index])}", lambda: _real(*args, **options))

            _replace(name, call)

    def _watch_descriptors(self) -> None:
        real_open, real_write, real_sync, real_close = os.open, os.write, os.fsync, os.close

        def open_(path: Any, flags: int, *args: Any, **options: Any) -> int:
            makes = flags & (os.O_CREAT | os.O_TRUNC) and self.watches(path)

            def do() -> int:
                return real_open(path, flags, *args, **options)

            descriptor = int(self.at(f"open {_last(path)}", do)) if makes else self._silently(do)
            if self.watches(path):
                self._files[descriptor] = _last(path)
            return descriptor

        def write(descriptor: int, data: Any) -> int:
            if descriptor not in self._files:
                return real_write(descriptor, data)
            body = bytes(data)
            return int(
                self.at(
                    f"write {self._files[descriptor]}",
                    lambda: real_write(descriptor, body),
                    lambda: real_write(descriptor, body[: len(body) // 2]),
                )
            )

        def sync(descriptor: Any) -> None:
            if descriptor in self._files:
                self.at(f"fsync {self._files[descriptor]}", lambda: real_sync(descriptor))
            else:
                real_sync(descriptor)

        def close(descriptor: int) -> None:
            self._files.pop(descriptor, None)
            real_close(descriptor)

        for name, call in (("open", open_), ("write", write), ("fsync", sync), ("close", close)):
            _replace(name, call)

    def _watch_files(self) -> None:
        """Watch what is written through file objects, down to the pieces that reach the system."""
        points, real = self, io.open

        class Watched(io.FileIO):
            """A file that reaches the system in pieces."""

            label: str

            def write(self, data: Any) -> int:
                body = bytes(data)
                return int(
                    points.at(
                        f"write {self.label}",
                        lambda: io.FileIO.write(self, body),
                        lambda: io.FileIO.write(self, body[: len(body) // 2]),
                    )
                )

        def open_(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **options: Any) -> Any:
            known = file in points._files if isinstance(file, int) else points.watches(file)
            if not known or not set(mode) & set("wax+"):
                return real(file, mode, buffering, *args, **options)
            opened = points._silently if isinstance(file, int) else (lambda do: points.at(f"open {_last(file)}", do))
            raw = opened(lambda: Watched(file, mode.replace("b", "").replace("t", "")))
            raw.label = points._files.pop(file) if isinstance(file, int) else _last(file)
            if "b" in mode:
                return raw if buffering == 0 else io.BufferedWriter(raw)
            encoding = args[0] if args else options.get("encoding")
            return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding)

        io.open = builtins.open = open_

    def _watch_sockets(self) -> None:
        points = self

        def watched(name: str, join: Callable[[Any], bytes]) -> None:
            real, send = getattr(socket.socket, name), socket.socket.send

            def call(self: socket.socket, data: Any, *args: Any) -> Any:
                if self.family not in (socket.AF_INET, socket.AF_INET6):  # an event loop that wakes itself
                    return real(self, data, *args)
                body = join(data)
                line = body.split(b"\r\n", 1)[0] if b" HTTP/1" in body[:2000] else b"the rest"
                what = f"send {line[:100].decode('ascii', 'replace')}"
                return points.at(what, lambda: real(self, data, *args), lambda: send(self, body[: len(body) // 2]))

            setattr(socket.socket, name, call)

        watched("sendmsg", b"".join)
        watched("sendall", bytes)
        watched("send", bytes)

    def _silently(self, do: Callable[[], Any]) -> Any:
        self._within.operation = True
        try:
            return do()
        finally:
            self._within.operation = False

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        """Notice what escapes: the interpreter says what it is about to do, whoever asks for it."""
        if getattr(self._within, "operation", False):
            return
        if event == "open" and isinstance(args[2], int) and args[2] & (os.O_CREAT | os.O_TRUNC):
            watched = self.watches(args[0])
        else:
            watched = event in _AUDITED and any(self.watches(argument) for argument in args)
        if watched:
            self.unseen.append(f"{event} {args}")


def _last(path: Any) -> str:
    """Name a file in few words."""
    return "/".join(os.fspath(path).split(os.sep)[-2:]) if isinstance(path, (str, os.PathLike)) else str(path)


def _replace(name: str, call: Callable[..., Any]) -> None:
    """Replace a function of `os`, also where `pathlib` holds it."""
    setattr(os, name, call)
    accessor = getattr(pathlib, "_NormalAccessor", None)  # up to Python 3.10
    if accessor is not None and hasattr(accessor, name):
        setattr(accessor, name, staticmethod(call))
