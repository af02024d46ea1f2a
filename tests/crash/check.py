"""The look at what a kill has left: as it was found, and after the run was opened again."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field

from rewind_logger.errors import RunNotFoundError
from rewind_logger.format import manifest
from rewind_logger.format.names import RunPaths
from rewind_logger.history import blobs, claims, reader, snapshots
from rewind_logger.history.carrying import named_in
from rewind_logger.history.journals.part import parse_part
from rewind_logger.history.journals.place import PART
from rewind_logger.history.journals.roots import journal_root
from rewind_logger.history.opening import OpenRequest
from rewind_logger.history.verify import verify
from rewind_logger.history.view import View, resolve
from rewind_logger.sdk.run import Run
from rewind_logger.sdk.run_spec import RunSpec
from rewind_logger.storage.base import Storage
from rewind_logger.types import STREAMS, Position, RunRef, Stream
from tests.crash.expected import Rows, World, worlds
from tests.crash.life import OTHER, Fact

SENTINEL = 10**9
"""The row that is logged after the kill."""


@dataclass
class Findings:
    """What the look came to."""

    rows: int = 0
    """How many had to be there."""
    lost: int = 0
    trouble: list[str] = field(default_factory=list)


def check(storage: Storage, facts: list[Fact], other: Storage) -> Findings:
    """Look at a store that a killed process has left; go on with each of its runs, and look again."""
    findings = Findings()
    log = _Listener(findings)
    logging.getLogger("rewind_logger").addHandler(log)
    possible = worlds(facts)
    names = sorted({name for world in possible for name in world.runs if not name.startswith(OTHER)})
    found = {name: _revisions(storage, RunRef("p", name)) for name in names}
    _compare_as_found(possible, found, findings)
    findings.trouble += [str(problem) for problem in verify(storage).problems]
    for world in possible:
        for name in list(world.early):
            world.place_early(name)  # they come in when the run is opened again
    for name in names:
        _go_on(storage, RunRef("p", name), other, findings)
    after = {name: _revisions(storage, RunRef("p", name)) for name in names}
    for name in names:
        before, now = found[name], after[name]
        for number, rows in enumerate(before[:-1]):
            if rows != now[number]:
                findings.trouble.append(f"{name}@{number + 1} changed: {rows} became {now[number]}")
    _compare(possible, after, findings)
    for name in names:
        _look_at_files(storage, RunRef("p", name), findings)
    return findings


def _revisions(storage: Storage, run: RunRef) -> list[Rows | None]:
    """Return the rows of each revision of a run, None for one that was removed; nothing if there is no run."""
    try:
        head = resolve(storage, run)
    except RunNotFoundError:
        return []
    found: list[Rows | None] = []
    for number in range(1, head.revision + 1):
        try:
            view = head if number == head.revision else resolve(storage, run, number)
        except RunNotFoundError:
            found.append(None)
        else:
            found.append({stream: _serials(storage, view, stream) for stream in STREAMS})
    return found


def _serials(storage: Storage, view: View, stream: Stream) -> list[int]:
    """Return the serial numbers of rows in their order; what the package adds on its own has none."""
    serials = []
    for row in reader.read_rows(storage, view, stream):
        if stream == "media":
            serials += [int(key) for key in row.values]
        elif stream == "artifacts":
            serials += [int(name.removeprefix("model")) for name in _names(row.values)]
        elif "id" in row.values:
            serials.append(int(row.values["id"]))
    return serials


def _names(values: object) -> list[str]:
    assert isinstance(values, dict)
    return [json.loads(text)["name"] for text in values.values()]


def _go_on(storage: Storage, run: RunRef, other: Storage, findings: Findings) -> None:
    """Open a run as the next job does; all that was left comes in, and nothing is put aside."""
    first = claims.read(storage, RunPaths(run), 0)
    if first is None:
        return
    request, source = OpenRequest(), first.source
    if source is not None and source.store is not None:  # to complete a copy, it has to be said from where
        at = Position(RunRef(*source.run.split("/")), source.revision, source.cut)
        request = OpenRequest(at=at, source=other)
    again = Run(RunSpec(storage=storage, run=run))
    opened = again._open(request, say=False)
    if kept := [note for note in opened.notes if "went on without" in note]:
        findings.trouble.append(f"{run}: {kept}")
    again.log({"id": SENTINEL})
    assert again.flush()
    summary = snapshots.aggregates(storage, resolve(storage, run))
    if list(summary.last_values().values()) != [SENTINEL]:
        findings.trouble.append(f"{run}: the summary has {summary.last_values()}")
    again.finish()


def _compare_as_found(possible: list[World], found: dict[str, list[Rows | None]], findings: Findings) -> None:
    """See that no half of anything is visible: archived revisions are whole, of a head all that was flushed."""
    troubles = []
    for world in possible:
        trouble = []
        for name, revisions in found.items():
            lines = world.lines(name)
            if not revisions and not any(any(rows.values()) for rows in lines if rows is not None):
                continue
            if len(revisions) != len(lines):
                trouble.append(f"{name} has {len(revisions)} revisions, not {len(lines)}")
                continue
            if revisions[:-1] != lines[:-1]:
                trouble.append(f"{name}: archived are {revisions[:-1]}, not {lines[:-1]}")
            flushed = world.flushed.get(name, set())
            for stream in STREAMS:
                seen, whole = (revisions[-1] or {})[stream], (lines[-1] or {})[stream]
                if seen != whole[: len(seen)] or not flushed.intersection(whole) <= {*whole[: len(seen)]}:
                    trouble.append(f"{name}: of the {stream} {whole}, {seen} are seen")
        if not trouble:
            return
        troubles.append(trouble)
    findings.trouble.append(f"as it was found: {' or '.join(map(str, troubles))}")


def _compare(possible: list[World], found: dict[str, list[Rows | None]], findings: Findings) -> None:
    """Every row that was logged is there, once and in order; what was under way is there or not."""
    outcomes = []
    for world in possible:
        one = Findings()
        for name, revisions in found.items():
            lines = world.lines(name)
            if revisions:
                head = (lines.pop() if lines else None) or {stream: [] for stream in STREAMS}
                lines.append({**head, "metrics": [*head["metrics"], SENTINEL]})
            for number, rows in enumerate(lines):
                seen = revisions[number] if number < len(revisions) else None
                if rows is None:
                    if seen is not None:
                        one.trouble.append(f"{name}@{number + 1} was removed, and is there")
                    continue
                seen = seen or {stream: [] for stream in STREAMS}
                for stream in STREAMS:
                    one.rows += len(rows[stream])
                    one.lost += len({*rows[stream]} - {*seen[stream]})
                    if rows[stream] != seen[stream]:
                        one.trouble.append(f"{name}@{number + 1}: {stream} {seen[stream]}, not {rows[stream]}")
            if len(revisions) > len(lines):
                one.trouble.append(f"{name} has {len(revisions)} revisions, not {len(lines)}")
        outcomes.append(one)
    best = min(outcomes, key=lambda one: len(one.trouble))
    findings.rows += best.rows
    findings.lost += best.lost
    findings.trouble += best.trouble


def _look_at_files(storage: Storage, run: RunRef, findings: Findings) -> None:
    """What rows refer to is there, and nothing waits in a journal any more."""
    try:
        view = resolve(storage, run)
    except RunNotFoundError:
        return
    for stream in ("media", "artifacts"):
        for digest in named_in(storage, view, stream):
            data = blobs.read(storage, digest)  # which compares it with its name
            if stream == "artifacts":
                for entry in manifest.decode(data, digest).values():
                    assert entry.sha256 is not None
                    blobs.read(storage, entry.sha256)
    root = journal_root(storage, run)
    for path in [] if root is None or not root.is_dir() else root.rglob("*"):
        if PART.fullmatch(path.name) and parse_part(0, path.read_bytes()).rows:
            findings.trouble.append(f"{path} still waits")


class _Listener(logging.Handler):
    """Whatever is reported as an error is trouble."""

    def __init__(self, findings: Findings) -> None:
        super().__init__(logging.WARNING)
        self._findings = findings

    def emit(self, record: logging.LogRecord) -> None:
        self._findings.trouble.append(record.getMessage())
