"""The life of some runs, and a witness who outlives it: what was under way, and what had come to its end."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import rewind_logger
from rewind_logger import Artifact, Text
from rewind_logger.history.opening import OpenRequest
from rewind_logger.sdk.run import Run
from rewind_logger.sdk.run_spec import RunSpec
from rewind_logger.sdk.store import Store
from rewind_logger.storage.base import Storage
from rewind_logger.types import Position, RunRef, Stream
from tests.crash.points import die

OTHER = "other:"
"""Before the names of runs in another store."""

_write = os.write  # before anything watches it


class Fact(NamedTuple):
    """What the witness saw: something began, or was done. Both tell of the same by the same words."""

    done: bool
    what: str
    run: str
    about: dict[str, Any]


class Witness:
    """A file to which facts are added: one that was told outlives the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def tell(self, done: bool, what: str, run: str, **about: Any) -> None:
        """Add a fact."""
        _write(self._descriptor, (json.dumps([done, what, run, about]) + "\n").encode())

    def facts(self) -> list[Fact]:
        """Everything that was told."""
        return [Fact(*json.loads(line)) for line in self.path.read_text().splitlines()]


class Life:
    """What a process does with its runs; every word is told to the witness before and after it."""

    def __init__(
        self,
        storage: Storage,
        witness: Witness,
        serial: int = 0,
        other: Storage | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin a life; its rows are numbered from `serial` on. Runs of the `other` store are named `other:`."""
        self.storage = storage
        self.runs: dict[str, Run] = {}
        self._witness = witness
        self._serial = serial
        self._other = other
        self._options = options

    def open(self, name: str = "a", at: tuple[str, int | None, int | None] | None = None) -> None:
        """Open a run, at its end or at a run, revision and next_step: a rewind, a restore or a fork."""
        self._witness.tell(False, "open", name, at=at)
        run = self._run(name)
        position, source = None, None
        if at is not None:
            position = Position(RunRef("p", at[0].removeprefix(OTHER)), at[1], at[2])
            source = self._other if at[0].startswith(OTHER) and not name.startswith(OTHER) else None
        opened = run._open(OpenRequest(at=position, source=source), say=False)
        self._witness.tell(True, "open", name, at=at, revision=opened.revision, start=opened.start)

    def start(self, name: str = "a", **options: Any) -> None:
        """Open a run as a script does, with all that accompanies it."""
        self._witness.tell(False, "open", name, at=None)
        self.runs[name] = run = rewind_logger.init(
            dir=self.storage.url, project="p", id=name, storage_options=self._options, **options
        )
        self._witness.tell(True, "open", name, at=None, revision=run.revision, start=run.starting_step)

    def early(self, name: str = "a") -> None:
        """Log a row before the run is opened: it belongs to the opening that is to come."""
        run, serial = self._run(name), self._begin("events", name, None)
        run._append("events", {"id": serial}, None)
        self._end("events", name, None, serial)

    def rewind(self, next_step: int, name: str = "a", revision: int | None = None) -> None:
        """Go back to a position."""
        self.open(name, (name, revision, next_step))

    def restore(self, revision: int, name: str = "a") -> None:
        """Make an archived revision the present one."""
        self.open(name, (name, revision, None))

    def fork(self, child: str, next_step: int | None, revision: int | None = None, of: str = "a") -> None:
        """Branch off; the child is not closed."""
        self.open(child, (of, revision, next_step))

    def log(self, count: int = 1, name: str = "a") -> None:
        """Log metrics, a row a step."""
        run = self.runs[name]
        for _ in range(count):
            clock, serial = run.step, self._begin("metrics", name, run.step)
            run.log({"id": serial})
            self._end("metrics", name, clock, serial)

    def note(self, stream: Stream, name: str = "a") -> None:
        """Log a row of another stream at the present step."""
        run = self.runs[name]
        clock, serial = run.step, self._begin(stream, name, run.step)
        run._append(stream, {"id": serial}, clock)
        self._end(stream, name, clock, serial)

    def show(self, name: str = "a", size: int = 5000) -> None:
        """Log a medium, whose content is a file of the store."""
        run = self.runs[name]
        clock, serial = run.step, self._begin("media", name, run.step)
        run.log({f"{serial}": Text(f"{serial} " + "x" * size)}, commit=False)
        self._end("media", name, clock, serial)

    def everything(self, name: str = "a") -> None:
        """Log a row of each kind, and a step. Of a remote store, where kills take long, of the main ones."""
        self.note("events", name)
        self.show(name)
        self.log(1, name)
        if self.storage.local_path is not None:
            self.note("console", name)
            self.note("system", name)
            self.note("checkpoints", name)

    def keep(self, folder: Path, sizes: tuple[int, ...] = (2000, 3000), name: str = "a") -> None:
        """Log an artifact of some files, and wait for it: on a remote store it is promised only then."""
        run = self.runs[name]
        clock, serial = run.step, self._begin("artifacts", name, run.step)
        artifact = Artifact(f"model{serial}", type="model")
        for number, size in enumerate(sizes):
            path = folder / f"{serial}-{number}"
            path.write_bytes(f"{serial}-{number} ".encode() * (size // 8))
            artifact.add_file(str(path), name=f"file{number}")
        run.log_artifact(artifact)
        artifact.wait()
        self._end("artifacts", name, clock, serial)

    def flush(self, name: str = "a") -> None:
        """Bring everything into the store."""
        self._witness.tell(False, "flush", name)
        assert self.runs[name].flush()
        self._witness.tell(True, "flush", name)

    def finish(self, name: str = "a") -> None:
        """End a run."""
        self._witness.tell(False, "flush", name)
        self.runs.pop(name).finish()
        self._witness.tell(True, "flush", name)

    def collect(self) -> None:
        """Remove what nobody needs."""
        Store(self.storage).collect(dry_run=False, grace=timedelta(0), exclusive=True)

    def remove(self, name: str, revision: int | None = None) -> None:
        """Remove a run or a revision."""
        self._witness.tell(False, "remove", name, revision=revision)
        Store(self.storage).remove(f"p/{name}" if revision is None else f"p/{name}@{revision}", dry_run=False)
        self._witness.tell(True, "remove", name, revision=revision)

    def child(self) -> Life:
        """Live on in a forked process, which is to be killed: `killed` waits for that."""
        return Life(self.storage, self._witness, self._serial + 10_000, self._other)

    def killed(self, live: Any) -> None:
        """Let another process live, and be killed at the end of it; what follows here comes after it."""
        pid = os.fork()
        if pid == 0:
            try:
                live(self.child())
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
            die()
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status), "it came to another end"
        self._witness.tell(True, "killed", "")
        self._serial += 20_000

    def _run(self, name: str) -> Run:
        if name not in self.runs:
            storage = self._other if name.startswith(OTHER) else self.storage
            assert storage is not None
            self.runs[name] = Run(RunSpec(storage=storage, run=RunRef("p", name.removeprefix(OTHER))))
        return self.runs[name]

    def _begin(self, stream: str, name: str, clock: int | None) -> int:
        self._serial += 1
        self._witness.tell(False, "row", name, stream=stream, clock=clock, serial=self._serial)
        return self._serial

    def _end(self, stream: str, name: str, clock: int | None, serial: int) -> None:
        self._witness.tell(True, "row", name, stream=stream, clock=clock, serial=serial)
