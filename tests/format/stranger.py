"""A reader that knows nothing but `docs/format.md`: neither this package nor a msgpack library."""

from __future__ import annotations

import json
import os
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pyarrow.parquet as pq

SEGMENT = re.compile(r"([0-9]{9,})-([0-9]{9,})_(-?[0-9]+)_(-?[0-9]+)\.parquet")
STREAMS = ("metrics", "events", "checkpoints", "console", "system", "artifacts", "media")

Document = dict[str, Any]
Point = tuple[str, int, int, int | None, int, float | None, str | None]
"""key, clock, time, step, kind, value, text."""


class Stranger:
    """Reads one run of a store in a folder.

    Args:
        store: The folder.
        run: `project/id`.
        shortcuts: Whether to use the plans and `merge.json`.
    """

    def __init__(self, store: str, run: str, *, shortcuts: bool) -> None:
        self.store = store
        self.root = f"{store}/{run}"
        self.shortcuts = shortcuts
        self.folder, self.base = self._head()

    def points(self, stream: str = "metrics", revision: int | None = None, step: int | None = None) -> list[Point]:
        """Return the points of the head or of a revision, up to a step (inclusive), in the order they were logged."""
        folder, base, sealed = self.folder, self.base, None
        if revision is not None and revision != base["revision"]:
            record = base["revisions"][revision - 1]
            folder, sealed = record["folder"], record["sealed"]
            found = document(f"{self._where(folder)}/base.json")
            assert found is not None
            base = found
        lineage, plan = self._lineage(folder, base)
        points = []
        for entry in [*lineage, {"folder": folder, "sealed": sealed, "cut": None}]:
            cut = min((c for c in (entry["cut"], None if step is None else step + 1) if c is not None), default=None)
            for path in self._segments(entry, stream, plan):
                points += [point for point in segment(path) if cut is None or point[1] < cut]
        return points

    def evaluations(self) -> list[tuple[Document, list[Point]]]:
        """Return every evaluation of the run."""
        found = []
        for nonce in listed(f"{self.root}/v"):
            about = document(f"{self.root}/v/{nonce}/evaluation.json")
            if about is not None:
                entry = {"folder": f"./v/{nonce}", "sealed": None, "cut": None}
                found.append((about, [p for path in self._segments(entry, "metrics", {}) for p in segment(path)]))
        return found

    def waiting(self) -> list[tuple[int, dict[str, Any]]]:
        """Return the rows of metrics, clock and values, that wait in the journal of the head's term."""
        journal = f"{self.root}/j/{self.base['nonce']}"
        entry = {"folder": self.folder, "sealed": None, "cut": None}
        stored = sum(1 + b - a for a, b, _ in self._chosen(entry, "metrics"))  # flushes 0, 1, 2, …
        rows = []
        for name in listed(journal):
            if name.endswith(".part"):
                flush, part = journal_part(f"{journal}/{name}", self.base["start"])
                rows += part if flush >= stored else []
        return rows

    def _head(self) -> tuple[str, Document]:
        for name in sorted(listed(f"{self.root}/m"), reverse=True):
            empty = os.path.getsize(f"{self.root}/m/{name}") == 0
            claim = {"nonce": "torn"} if empty else document(f"{self.root}/m/{name}")
            assert claim is not None
            folder = f"./t/{name.removesuffix('.json')}-{claim['nonce']}"
            base = document(f"{self._where(folder)}/base.json")
            if base is not None:
                return folder, base
        raise LookupError(self.root)

    def _where(self, folder: str) -> str:
        return f"{self.root}/{folder[2:]}" if folder.startswith("./") else f"{self.store}/{folder}"

    def _lineage(self, folder: str, base: Document) -> tuple[list[Document], Document]:
        merge = document(f"{self._where(folder)}/merge.json") if self.shortcuts else None
        chosen = base if merge is None else merge
        return chosen["lineage"], chosen["plan"] if self.shortcuts else {}

    def _segments(self, entry: Document, stream: str, plan: Document) -> list[str]:
        if entry["folder"] in plan and entry["sealed"] is not None and stream in entry["sealed"]:
            names = [name for name, _ in plan[entry["folder"]].get(stream, ())]
            group = [f"{int(name.partition('-')[0]) // 1000:06d}" for name in names]
            return [
                f"{self._where(entry['folder'])}/s/{stream}/{g}/{name}" for g, name in zip(group, names, strict=True)
            ]
        return [path for _, _, path in self._chosen(entry, stream)]

    def _chosen(self, entry: Document, stream: str) -> list[tuple[int, int, str]]:
        sealed = entry["sealed"]
        if sealed is not None and stream not in sealed:
            return []
        folder = f"{self._where(entry['folder'])}/s/{stream}"
        found = []
        for group in listed(folder):
            for name in listed(f"{folder}/{group}"):
                match = SEGMENT.fullmatch(name)
                if match is not None and (sealed is None or int(match[2]) <= sealed[stream]):
                    found.append((int(match[1]), int(match[2]), f"{folder}/{group}/{name}"))
        chosen: list[tuple[int, int, str]] = []
        for a, b, path in sorted(found, key=lambda one: (one[0], -one[1])):
            if not chosen or a > chosen[-1][1]:
                chosen.append((a, b, path))
        return chosen


def listed(folder: str) -> list[str]:
    """Return the names in a folder, sorted, hidden ones left out."""
    return sorted(name for name in os.listdir(folder) if name[0] != ".") if os.path.isdir(folder) else []


def document(path: str) -> Document | None:
    """Return the fields of a document, None if there is none."""
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        text = file.read()
    fields: Document = json.loads(text)
    assert fields["format"] == 1
    assert text == json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii")
    crc = fields.pop("crc32")
    assert crc == zlib.crc32(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode("ascii"))
    return fields


def segment(path: str) -> list[Point]:
    """Return the points of a segment in the order in which they were logged."""
    with open(path, "rb") as file:
        data = file.read()
    at = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    assert data[at - 12 : at - 8] == b"RWND"
    assert int.from_bytes(data[at - 8 : at - 4], "little") == zlib.crc32(data[: at - 12])
    assert int.from_bytes(data[at - 4 : at], "little") == zlib.crc32(data[at:])
    table = pq.read_table(path).sort_by([("row", "ascending"), ("key", "ascending")])
    about = json.loads((pq.read_metadata(path).metadata or {})[b"rewind_logger"])
    assert (about["format"], about["stream"]) == (1, path.split("/")[-3])
    name = SEGMENT.fullmatch(os.path.basename(path))
    assert name is not None
    assert (about["first"], about["last"]) == (int(name[1]), int(name[2]))
    clocks: list[Any] = table.column("clock").to_pylist()
    assert (min(clocks), max(clocks)) == (int(name[3]), int(name[4]))
    names = ("key", "clock", "time", "step", "kind", "value", "text")
    return list(zip(*(table.column(name).to_pylist() for name in names), strict=True))


def journal_part(path: str, start: int) -> tuple[int, list[tuple[int, dict[str, Any]]]]:
    """Return the flush that the rows of metrics of a part become, and these rows."""
    with open(path, "rb") as file:
        data = file.read()
    flush, at = -1, 0
    keys: list[str] = []
    rows: list[tuple[int, dict[str, Any]]] = []
    while at + 8 <= len(data):
        length, crc = struct.unpack_from("<II", data, at)
        payload = data[at + 8 : at + 8 + length]
        if not length or len(payload) < length or zlib.crc32(payload) != crc:
            break
        at += 8 + length
        value = msgpack(iter(payload))
        if isinstance(value, dict):
            flush = value["flush"]["metrics"]
        elif len(value) == 2:
            keys = value[1] if STREAMS[value[0]] == "metrics" else keys
        elif STREAMS[value[1]] == "metrics":
            values, _, _, clock, _, _ = value
            values = values if isinstance(values, dict) else dict(zip(keys, values, strict=True))
            rows.append((start if clock is None else clock, values))
    return flush, rows


def msgpack(data: Iterator[int]) -> Any:
    """Return the next value of msgpack."""
    kind = next(data)

    def take(count: int) -> bytes:
        return bytes(next(data) for _ in range(count))

    def number(form: str) -> Any:
        return struct.unpack(f">{form}", take(struct.calcsize(form)))[0]

    def several(count: int) -> list[Any]:
        return [msgpack(data) for _ in range(count)]

    if kind < 0x80 or kind >= 0xE0:
        return kind if kind < 0x80 else kind - 0x100
    if kind < 0x90:
        return {msgpack(data): msgpack(data) for _ in range(kind - 0x80)}
    if kind < 0xA0:
        return several(kind - 0x90)
    if kind < 0xC0:
        return take(kind - 0xA0).decode()
    simple = {0xC0: None, 0xC2: False, 0xC3: True}
    if kind in simple:
        return simple[kind]
    if 0xCA <= kind <= 0xD3:
        return number("fdBHIQbhiq"[kind - 0xCA])
    count = number({0xD9: "B", 0xDA: "H", 0xDB: "I", 0xDC: "H", 0xDD: "I", 0xDE: "H", 0xDF: "I"}[kind])
    if kind <= 0xDB:
        return take(count).decode()
    return several(count) if kind <= 0xDD else {msgpack(data): msgpack(data) for _ in range(count)}
