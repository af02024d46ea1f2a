"""Every decoder of what somebody else may have written, as a function of bytes that may raise nothing but our errors.

What has a checksum is tried as it is, and with its checksum made right.
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from rewind_logger.errors import RewindError
from rewind_logger.format import documents, frames, manifest, names, run_names, segment, snapshot, thrift
from rewind_logger.format.aggregates import of_points
from rewind_logger.format.columns import check_points
from rewind_logger.format.names import RunPaths, SegmentName, SnapshotName
from rewind_logger.history.journals.part import parse_part
from rewind_logger.lightning import mark
from rewind_logger.lightning.checkpoint import Loaded, read_index
from rewind_logger.lightning.position import position_of_checkpoint
from rewind_logger.sdk import checkpoints, config_changes, metadata, moment
from rewind_logger.sdk.artifacts import lookup, rows
from rewind_logger.sdk.console.lines import ConsoleHistory
from rewind_logger.sdk.frames import History
from rewind_logger.sdk.media.stored import MediaList
from rewind_logger.sdk.provenance import environment, openings
from rewind_logger.sdk.summary import explicit, metric
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import OPENING_CLOCK, Row, RunRef
from tests.hostile.resealing import document, reseal

RUN = RunRef("p", "a")
NONCE, FOLDER = "9f86d081884c7d65", "p/a/t/00000000-9f86d081884c7d65"
EVALUATION = names.about(RunPaths(RUN).evaluation(NONCE))

Target = Callable[[bytes], object]


def quiet(*calls: Callable[[], object]) -> None:
    """Make calls; our own errors are what is asked for."""
    for call in calls:
        try:
            call()
        except RewindError:
            continue


def fields_of(data: bytes) -> Mapping[str, Any]:
    """Return the JSON object in some bytes, or one that holds nothing."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {"held": found}


def with_checksum(data: bytes) -> bytes:
    """Return a document with its checksum made right, where it is JSON."""
    try:
        return document(fields_of(data))
    except (ValueError, RecursionError):
        return data


def documents_target(decode: Callable[[bytes], object]) -> Target:
    """Return a target for a kind of document."""
    return lambda data: quiet(lambda: decode(data), lambda: decode(with_checksum(data)))


def segments_target(data: bytes) -> None:
    """A segment, read in every way, and what is made of its rows."""
    quiet(*_ways_to_read(data), *_ways_to_read(reseal(data)))


def _ways_to_read(data: bytes) -> list[Callable[[], object]]:
    return [
        lambda: segment.to_rows(segment.decode(data)),
        lambda: of_points(segment.decode(data)).last_values(),
        lambda: segment.decode(io.BytesIO(data), keys=["loss", "phase"], encoded_keys=True),
        lambda: segment.info(data),
    ]


def snapshots_target(data: bytes) -> None:
    """A snapshot, and what is made of it."""

    def look(body: bytes) -> None:
        look_at_aggregates(snapshot.decode(body).aggregates)

    quiet(lambda: look(data), lambda: look(reseal(data)))


def look_at_aggregates(found: Any) -> None:
    """Read all that aggregates hold."""
    keys = found.last_values()
    found.get(list(keys))


def journals_target(data: bytes) -> None:
    """A part of a journal, as it is; and as payloads, each with its length before it, put into whole frames."""
    quiet(lambda: parse_part(0, data))
    header = frames.frame(frames.encode_header({"flush": {"metrics": 0, "events": 0}}))
    whole, at = b"", 0
    while at + 2 <= len(data):
        (size,) = struct.unpack_from("<H", data, at)
        payload = data[at + 2 : at + 2 + size]
        whole += frames.frame(payload) if payload else b""
        at += 2 + size
    quiet(lambda: parse_part(0, header + whole), lambda: parse_part(0, whole))


def names_target(data: bytes) -> None:
    """Names that a listing gives, and paths in documents."""
    text = data.decode("utf-8", "surrogateescape")
    for parsed in (SegmentName.parse(text), SnapshotName.parse(text)):
        assert parsed is None or str(parsed) == text
    n = RunPaths(RUN).parse_claim(text)
    assert n is None or RunPaths(RUN).claim(n).endswith(f"/{text}")
    names.writer(text)
    quiet(
        lambda: names.absolute(text, RUN),
        lambda: run_names.parse_run(text),
        lambda: moment.parse(text),
        lambda: lookup.split(text),
    )
    run_names.is_name(text)
    manifest.what_is_wrong_with(text)


def events_target(data: bytes) -> None:
    """Rows of small streams: each value is text under a name that the byte before it chooses."""
    text = data[1:].decode("utf-8", "replace")
    stream_keys = [*NAMES_IN_ROWS]
    key = stream_keys[data[0] % len(stream_keys)] if data else "config"
    told = [Row(0, OPENING_CLOCK, None, 0, {key: text}), Row(1, 5, None, 0, {key: text})]
    storage = MemoryStorage("memory://fuzz")
    quiet(
        lambda: metadata.fold(told),
        lambda: metric.fold(told).of("loss"),
        lambda: explicit.fold(told),
        lambda: [one.started for one in openings.openings(told)],
        lambda: config_changes.config_changes(told),
        lambda: environment.environment_of(storage, told, None),
        lambda: checkpoints.checkpoints(told, "memory://fuzz"),
        lambda: look_at_artifacts(rows.fold(told)),
    )


NAMES_IN_ROWS = (
    "config",
    "name",
    "tags",
    "notes",
    "group",
    "job_type",
    "opened",
    "environment",
    "metric",
    "summary",
    "mark",
    "path",
    "logged",
    "aliases",
    "used",
)


def look_at_artifacts(found: rows.Versions) -> None:
    """Ask for all that is known of artifacts."""
    for version in (*found.logged, *found.used):
        assert version.label and version.size >= 0
        found.aliases(version)
        found.find(version.name, "v0")


def points_of(values: list[Row]) -> pa.Table:
    """Return rows as a reader gives them."""
    points = [
        (key, row, value if isinstance(value, str) else None, None if isinstance(value, str) else float(value))
        for row in values
        for key, value in row.values.items()
    ]
    count = len(points)
    table = pa.table(
        {
            "key": pa.array([key for key, *_ in points], pa.string()),
            "clock": pa.array([row.clock for _, row, *_ in points], pa.int64()),
            "time": pa.array([row.time_ms for _, row, *_ in points], pa.int64()),
            "row": pa.array([row.row for _, row, *_ in points], pa.int64()),
            "step": pa.nulls(count, pa.int64()),
            "kind": pa.array([0 if text is None else 3 for _, _, text, _ in points], pa.int8()),
            "value": pa.array([number for *_, number in points], pa.float64()),
            "text": pa.array([text for _, _, text, _ in points], pa.string()),
        },
        segment.SCHEMA,
    )
    check_points(table)
    return table.append_column("entry", pa.array([0] * count, pa.int32()))


def media_target(data: bytes) -> None:
    """A row of media, and all that can be asked of what it tells."""
    text = data.decode("utf-8", "replace")
    storage = MemoryStorage("memory://fuzz")
    points = points_of([Row(0, 0, None, 0, {"picture": text})])

    def look() -> None:
        for item in MediaList.of_points(storage, "p/a", points):
            look_at_medium(item)

    quiet(look)


def look_at_medium(item: Any) -> None:
    """Ask a medium for all that it has."""
    repr(item)
    quiet(item.read, item.to_numpy, item.to_pil, item.to_table, item.to_text, lambda: item.media("picture"))


def console_target(data: bytes) -> None:
    """Rows of the console."""
    text = data.decode("utf-8", "replace")
    number = struct.unpack("<d", (data + bytes(8))[:8])[0]
    values: list[Row] = [Row(0, 0, None, 0, {"stdout": text, "line": number}), Row(1, 0, None, 0, {"line": text})]
    quiet(lambda: ConsoleHistory(points_of(values)).text(), lambda: History(points_of(values)).to_arrow())


def marks_target(data: bytes) -> None:
    """What a checkpoint says of its run."""
    fields = fields_of(data)
    quiet(
        lambda: mark.read(fields),
        lambda: mark.read({mark.KEY: fields}),
        lambda: position_of_checkpoint(fields),
    )


def indexes_target(data: bytes) -> None:
    """The index of a checkpoint file: a pickle, of which nothing is run."""

    def look() -> None:
        index = read_index(data, "x")
        if isinstance(index, Mapping):
            str(Loaded.of(index))

    quiet(look)


def footer_target(data: bytes) -> None:
    """A footer; Thrift has two errors of its own, which `footer.check_columns` makes ours."""
    try:
        thrift.read_struct(data)
    except (ValueError, IndexError):
        return


TARGETS: dict[str, Target] = {
    "claim": documents_target(lambda data: documents.decode_claim(data, "x")),
    "base": documents_target(lambda data: documents.decode_base(data, RUN, "x")),
    "merge": documents_target(lambda data: documents.decode_merge(data, RUN, names.merge(FOLDER))),
    "end": documents_target(lambda data: documents.decode_end(data, names.end(FOLDER))),
    "alive": documents_target(lambda data: documents.decode_alive(data, names.alive(FOLDER))),
    "removal": documents_target(lambda data: documents.decode_removal(data, RunPaths(RUN).removed)),
    "trim": documents_target(lambda data: documents.decode_trim(data, names.trimmed(FOLDER))),
    "pin": documents_target(lambda data: documents.decode_pin(data, RunPaths(RUN).pin(NONCE))),
    "evaluation": documents_target(lambda data: documents.decode_evaluation(data, EVALUATION)),
    "segment": segments_target,
    "snapshot": snapshots_target,
    "footer": footer_target,
    "journal": journals_target,
    "names": names_target,
    "manifest": lambda data: quiet(lambda: manifest.decode(data, "x")),
    "events": events_target,
    "media": media_target,
    "console": console_target,
    "environment": lambda data: quiet(lambda: environment.decode(data)),
    "mark": marks_target,
    "index": indexes_target,
}
"""By name, which is also that of the folder with its first examples."""
