"""Verification: every object of a store against its checksum, and all together against the protocol.

Nothing is written to the store, and a writer may be at work meanwhile: what it does is looked at in an order in which
nothing that is under way looks wrong (`design/004-protocol.md` has the invariants).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from rewind_logger.errors import CorruptError, FormatVersionError
from rewind_logger.format import names, snapshot
from rewind_logger.format.names import RunPaths, SnapshotName
from rewind_logger.history import catalog, claims
from rewind_logger.history.verifying import documents, invariants
from rewind_logger.history.verifying.documents import Run, Term
from rewind_logger.history.verifying.files import Files
from rewind_logger.history.verifying.folder import check_folder
from rewind_logger.history.verifying.journals import check_journals
from rewind_logger.history.verifying.look import Look, unreadable
from rewind_logger.history.verifying.report import Problem, VerifyReport
from rewind_logger.history.verifying.state import State
from rewind_logger.storage.base import Storage
from rewind_logger.types import Progress, RunRef


def verify(
    storage: Storage,
    run: RunRef | None = None,
    *,
    progress: Progress | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> VerifyReport:
    """Check every object of a run, or of the whole store.

    Memory is bounded but for some 100 bytes a blob and a segment.

    Args:
        storage: The store; nothing is written to it.
        run: The run, with what it needs of the runs it was forked from; None for all runs, and for the blobs that no
            run refers to.
        progress: Called with what is being checked, how much of it is done, and how much there is.
        resume: A file of this machine that says how far a verification came: one that was interrupted goes on there. It
            is removed when all is done.

    Raises:
        RunNotFoundError: If there is no such run.
        ConfigError: If `resume` is the state of something else.
        TransientStorageError: If the store fails in a way that may pass: go on later.
        OSError: If `resume` cannot be read or written.
    """
    # A run whose claims are all gone is none to anybody else.
    notes: list[str] = []
    refs = [run] if run is not None else catalog.runs(storage, marks=("m", "t"), removed=True, unread=notes.append)
    if run is not None and not claims.count(storage, RunPaths(run)):
        raise catalog.not_found(storage, run)
    state = State(None if resume is None else Path(resume), storage.url, None if run is None else str(run))
    look = Look(storage, progress or (lambda what, count, total: None))
    _check_documents(look, refs, whole=run is None)
    files = Files(look, state)
    folders = sorted(look.folders)
    for i, folder in enumerate(folders):
        look.progress("folders of segments", i, len(folders))
        check_folder(look, state, files, folder)
        _check_snapshots(look, folder)
    look.progress("folders of segments", len(folders), len(folders))
    if run is None:
        _check_blobs(look, state, files)
    state.remove()
    gone = [ref for ref in refs if not storage.list(RunPaths(ref).terms)]
    return VerifyReport(
        url=storage.url,
        name=None if run is None else str(run),
        runs=len(refs),
        objects=dict(look.counts + state.counts),
        rows=state.rows,
        bytes=look.bytes + state.bytes,
        problems=tuple(problem for problem in (*look.problems, *state.problems) if not _of_any(problem, gone)),
        notes=(*notes, *look.notes),
    )


def _check_documents(look: Look, refs: list[RunRef], *, whole: bool) -> None:
    """Check the documents of the runs, and find out which folders of segments their revisions show."""
    known: dict[str, Run] = {}

    def read(ref: RunRef) -> Run:
        """Read the documents of another run, whose own problems are not of interest here."""
        if str(ref) not in known:
            known[str(ref)] = documents.read(Look(look.storage, look.progress), ref)
        return known[str(ref)]

    def elsewhere(folder: str) -> Term | None:
        root, found, _ = folder.rpartition("/t/")
        return read(RunRef.split(root)).at(folder) if found else None

    for i, ref in enumerate(refs):
        look.progress("documents of runs", i, len(refs))
        known[str(ref)] = run = documents.read(look, ref)
        invariants.check(look, run, elsewhere)
        check_journals(look, ref)
    look.progress("documents of runs", len(refs), len(refs))
    if not whole:
        _name_forks(look, refs, read)


def _name_forks(look: Look, refs: list[RunRef], read: Callable[[RunRef], Run]) -> None:
    """Note which forks show the folders of a run too: they share what it loses."""
    waiting, seen = [read(ref) for ref in refs], set(map(str, refs))
    while waiting:
        for child in waiting.pop().children:
            if child in seen:
                continue
            seen.add(child)
            run = read(RunRef.split(child))
            forks = Look(look.storage, look.progress)
            invariants.shown(forks, run)
            for folder in look.folders.keys() & forks.folders.keys():
                look.folder(folder).shown.extend(forks.folder(folder).shown)
            waiting.append(run)


def _check_snapshots(look: Look, folder: str) -> None:
    """Check the snapshots of aggregates of a folder."""
    listed = (SnapshotName.parse(info.name) for info in look.storage.list(names.snapshots(folder)))
    for name in (name for name in listed if name is not None):
        path = names.snapshot(folder, name)
        (outcome,) = look.storage.read_each([path])
        if isinstance(outcome, FileNotFoundError):
            continue  # nothing needs it
        what = unreadable(outcome)
        if isinstance(outcome, bytes):
            look.took("snapshots", len(outcome))
            try:
                found = snapshot.decode(outcome)
                if (found.flush, found.newest_clock) != name:
                    what = f"It says that it covers flush {found.flush} and clock {found.newest_clock}."
            except (CorruptError, FormatVersionError) as error:
                what = str(error)
        if what is not None:
            cost = "time: a summary is made of more rows"
            look.wrong(path, what, cost, "Nothing needs to be done; it may be deleted.", harm="none")


def _check_blobs(look: Look, state: State, files: Files) -> None:
    """Check the blobs to which no row referred."""
    prefixes = files.prefixes()
    for i, prefix in enumerate(prefixes):
        look.progress("folders of blobs", i, len(prefixes))
        if prefix not in state.prefixes:
            files.check_prefix(prefix)
    look.progress("folders of blobs", len(prefixes), len(prefixes))


def _of_any(problem: Problem, gone: list[RunRef]) -> bool:
    """Say whether a problem is of a run that was removed meanwhile."""
    return any(problem.path.startswith(f"{ref}/") for ref in gone)
