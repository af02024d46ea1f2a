"""What processes are doing when they are killed. A scenario is a function of a `Life`: to add one, write it here.

The first part of some, `before`, is lived without being killed; its rows count as well.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.crash.life import Life


class Scenario(NamedTuple):
    """What is done up to the kill."""

    live: Callable[[Life, Path], None]
    """Gets a folder for files that are no part of the store."""
    before: Callable[[Life], None] = lambda life: None
    threads: bool = False
    """Whether the package's own threads work as well: then operations come in no certain order."""


SCENARIOS: dict[str, Scenario] = {}


def scenario(
    before: Callable[[Life], None] = lambda life: None, *, threads: bool = False
) -> Callable[[Callable[[Life, Path], None]], None]:
    """Make a function a scenario, by its name."""

    def add(live: Callable[[Life, Path], None]) -> None:
        SCENARIOS[live.__name__] = Scenario(live, before, threads)

    return add


def some_rows(life: Life) -> None:
    """A run that was finished."""
    life.open()
    life.log(4)
    life.flush()
    life.everything()
    life.finish()


def two_revisions(life: Life) -> None:
    """One that was rewound."""
    some_rows(life)
    life.rewind(2)
    life.log(2)
    life.finish()


def left_in_a_journal(life: Life) -> None:
    """Rows of a killed process: some in the store, some in two parts of its journal."""

    def live(killed: Life) -> None:
        killed.open()
        killed.log(2)
        killed.flush()
        killed.everything()
        outbox = killed.runs["a"]._writer._outbox
        assert outbox is not None
        outbox.close_batch()
        killed.everything()
        killed.log(1)

    life.killed(live)


def a_long_line(life: Life) -> None:
    """Five terms, which is more than the tests' limit for one to be merged."""
    for _ in range(5):
        life.open()
        life.everything()
        life.finish()


@scenario()
def new(life: Life, files: Path) -> None:
    """Open a run, log rows of every stream, flush, and finish."""
    life.open()
    life.everything()
    life.log(2)
    life.flush()
    life.everything()
    life.finish()


@scenario()
def flush(life: Life, files: Path) -> None:
    """Several flushes, which are compacted at the second, and at the end; a snapshot of the summary is put."""
    life.open()
    for _ in range(3):
        life.log(2)
        life.flush()
    life.finish()


@scenario(some_rows)
def resume(life: Life, files: Path) -> None:
    """Go on, and come to rest and go on again in the same term."""
    life.open()
    life.log(1)
    life.flush()
    life.runs["a"]._settle("finished", 10.0)
    life.log(1)
    life.finish()


@scenario(some_rows)
def rewind(life: Life, files: Path) -> None:
    """Go back, and once more from the same process, with rows in the journal."""
    life.rewind(3)
    life.everything()
    life.rewind(2)
    life.everything()
    life.finish()


@scenario(two_revisions)
def restore(life: Life, files: Path) -> None:
    """Make an archived revision the present one again."""
    life.restore(1)
    life.log(1)
    life.finish()


@scenario(two_revisions)
def fork(life: Life, files: Path) -> None:
    """Branch off the present revision, and an archived one."""
    life.fork("b", 3)
    life.everything("b")
    life.finish("b")
    life.fork("c", 4, 1)
    life.finish("c")


@scenario(left_in_a_journal)
def recover_and_resume(life: Life, files: Path) -> None:
    """Bring in what a killed process left."""
    life.open()
    life.log(1)
    life.finish()


@scenario(left_in_a_journal)
def recover_and_rewind(life: Life, files: Path) -> None:
    """Bring it in before it is archived."""
    life.rewind(3)
    life.log(1)
    life.finish()


@scenario(left_in_a_journal)
def recover_and_fork(life: Life, files: Path) -> None:
    """Bring it in to branch off it."""
    life.fork("b", 3)
    life.log(1, "b")
    life.finish("b")


@scenario(a_long_line)
def merge(life: Life, files: Path) -> None:
    """Merge ancestors."""
    life.open()
    life.everything()
    life.flush()
    life.finish()


@scenario()
def artifact(life: Life, files: Path) -> None:
    """Log artifacts."""
    life.open()
    life.log(1)
    life.keep(files)
    life.log(1)
    life.keep(files)
    life.finish()


@scenario()
def large_artifact(life: Life, files: Path) -> None:
    """Log one that is sent in parts, where the store takes such."""
    life.open()
    life.keep(files, (20 << 20,))
    life.finish()


@scenario(some_rows)
def early_rows(life: Life, files: Path) -> None:
    """Log before the run is opened, as hyperparameters often are; and open it at another place."""
    life.early()
    life.early()
    life.rewind(3)
    life.log(1)
    life.finish()


def in_another_store(life: Life) -> None:
    """A run of another store."""
    life.open("other:a")
    life.log(3, "other:a")
    life.everything("other:a")
    life.flush("other:a")
    life.everything("other:a")
    life.finish("other:a")


@scenario(in_another_store)
def copy(life: Life, files: Path) -> None:
    """Branch off a run of another store, whose rows and files are copied."""
    life.fork("b", 4, of="other:a")
    life.log(1, "b")
    life.finish("b")


def with_garbage(life: Life) -> None:
    """Two revisions, a fork of the first one, another run that is removed, and segments that were put together."""
    two_revisions(life)
    life.fork("b", 3, 1)
    life.everything("b")
    life.finish("b")
    life.open("c")
    life.everything("c")
    life.finish("c")
    life.remove("c")
    life.open()
    life.everything()
    life.flush()
    life.everything()
    life.finish()


@scenario(with_garbage)
def collect(life: Life, files: Path) -> None:
    """Remove what nobody needs."""
    life.collect()


@scenario(with_garbage)
def remove_revision(life: Life, files: Path) -> None:
    """Remove an archived revision that no fork needs, and collect."""
    life.rewind(1)
    life.log(1)
    life.finish()
    life.remove("a", 2)
    life.collect()


@scenario(with_garbage)
def remove_run(life: Life, files: Path) -> None:
    """Remove a run, and begin another of that name."""
    life.remove("b")
    life.open("b")
    life.log(1, "b")
    life.finish("b")


@scenario(threads=True)
def script(life: Life, files: Path) -> None:
    """What a script does, with all that goes on beside it."""
    life.start(config={"lr": 0.1})
    for _ in range(3):
        life.everything()
        print("a line")
    life.flush()
    life.keep(files)
    life.everything()
    life.finish()
