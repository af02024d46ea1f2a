"""Artifacts on their way to a store that is not on this machine."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rewind_logger import Artifact, StoredRun
from rewind_logger.history.opening import OpenRequest
from rewind_logger.sdk.run import Run
from rewind_logger.sdk.run_spec import RunSpec
from rewind_logger.storage.base import Storage
from rewind_logger.storage.wrapper import WrapperStorage
from rewind_logger.types import Position, RunRef

REF = RunRef("p", "r1")


class Far(WrapperStorage):
    """A store that is not on this machine, as far as the SDK can tell; what happens to a file on its way is chosen."""

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner)
        self.url = f"far://{secrets.token_hex(8)}"
        self.on_file: Callable[[], None] = lambda: None

    def put_file(self, path: str, source: Path, *, sha256: str | None = None) -> None:
        self.on_file()
        self.inner.put_file(path, source, sha256=sha256)


class Gate:
    """Where an upload waits until it is let through."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.open.wait(60)


def opened(storage: Storage, at: int | None = None) -> Run:
    run = Run(RunSpec(storage=storage, run=REF))
    run._open(OpenRequest(at=None if at is None else Position(REF, None, at)))
    return run


def stored(storage: Storage, next_step: int | None = None) -> StoredRun:
    return StoredRun(storage, Position(REF, None, next_step))


def of_file(path: Path, text: str, **options: Any) -> Artifact:
    path.write_text(text)
    artifact = Artifact("m", "text")
    artifact.add_file(path, name="content.txt", **options)
    return artifact


def staged(spool: Path) -> list[str]:
    """The files that wait for an upload."""
    return sorted(path.name for path in spool.rglob("staged-*/*/*"))


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def to_open(where: dict[str, Any]) -> dict[str, Any]:
    """Return what `open_store` takes of what `init` takes."""
    return {"url": where["dir"], "storage_options": where["storage_options"]}
