"""Secrets that are told apart: each says where it was put, wherever it is found."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from rewind_logger.history.journals.part import parse_part
from rewind_logger.storage import Storage

PREFIX = "tweet"
"""Before each of them."""


def canary(place: str) -> str:
    """Return the secret that is put in a place."""
    return f"{PREFIX}{place}{PREFIX[::-1]}"


def found_in(text: str) -> list[str]:
    """Return what of a text holds a secret, with something around it."""
    found, at = [], text.find(PREFIX)
    while at >= 0:
        found.append(text[max(0, at - 120) : at + 60])
        at = text.find(PREFIX, at + 1)
    return found


def texts_of(path: str, data: bytes) -> Iterable[str]:
    """Return all texts that a file of a store holds: its name, its bytes, and what is compressed in them."""
    yield path
    yield data.decode("utf-8", "replace")
    if data.startswith(b"PAR1"):
        table = pq.read_table(io.BytesIO(data))
        yield json.dumps([table.to_pylist(), repr(table.schema.metadata)], default=repr)
    if path.endswith(".part"):
        yield repr(parse_part(0, data).rows)


def files_below(folder: Path) -> Iterable[tuple[str, bytes]]:
    """Yield each file below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()


def files_in(storage: Storage, folder: str = "") -> Iterator[tuple[str, bytes]]:
    """Yield every object of a store."""
    for line in storage.list(folder):
        path = f"{folder}/{line.name}" if folder else line.name
        if line.size is None:
            yield from files_in(storage, path)
        else:
            yield path, storage.read(path)


def assert_nothing_leaks(said: str, storage: Storage, folder: Path) -> int:
    """See that there is nothing of a secret: in what was said, in the stores, and in the spool.

    Returns:
        How many rows of journals were looked at, which lie in the spool.
    """
    found = found_in(said)
    rows = 0
    for place in ("other store", "spool"):
        for name, data in files_below(folder / place):
            found += [f"{place}/{name}: {leak}" for text in texts_of(name, data) for leak in found_in(text)]
            if place == "spool" and name.endswith(".part"):
                rows += sum(map(len, parse_part(0, data).rows.values()))
    objects = list(files_in(storage))
    assert any(name.endswith(".parquet") for name, _ in objects), "there is no store"
    for name, data in objects:
        found += [f"{name}: {leak}" for text in texts_of(name, data) for leak in found_in(text)]
    assert not found, f"{len(found)} leaks, such as\n" + "\n\n".join(found[:40])
    return rows


def endpoint(url: str) -> dict[str, Any]:
    """Options for an S3 store at an endpoint, with secrets wherever there is room for one."""
    secrets = {name: canary(name.title()) for name in ("key", "secret", "token")}
    user = f"{canary('EndpointUser')}:{canary('EndpointPassword')}"
    return {**secrets, "client_kwargs": {"endpoint_url": url.replace("//", f"//{user}@")}}
