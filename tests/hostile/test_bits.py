"""No wrong bit goes unnoticed: whatever decodes with one decodes to the same."""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rewind_logger import Artifact, init
from rewind_logger.errors import CorruptError
from rewind_logger.format import documents, names, segment, snapshot
from rewind_logger.format.documents import Merge
from rewind_logger.history import blobs
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import Entry
from tests.figures import count
from tests.history.lines import RUN
from tests.hostile.specimen import fill, objects

Decode = Callable[[bytes], Any]


def of_table(table: Any) -> Any:
    """What two tables with the same bits have in common: a NaN is not equal to itself."""
    return [column.to_pylist() for column in table.cast(segment.SCHEMA).columns]


KINDS: dict[str, tuple[str, Decode]] = {
    "claim": ("/m/", lambda data: documents.decode_claim(data, "x")),
    "base": ("/base.json", lambda data: documents.decode_base(data, RUN, "x")),
    "merge": ("/merge.json", lambda data: documents.decode_merge(data, RUN, "x")),
    "end": ("/end.json", lambda data: documents.decode_end(data, "x")),
    "sign of life": ("/alive.json", lambda data: documents.decode_alive(data, "x")),
    "pin": ("/pins/", lambda data: documents.decode_pin(data, "x")),
    "evaluation": ("/evaluation.json", lambda data: documents.decode_evaluation(data, "x")),
    "segment": ("/s/", lambda data: of_table(segment.decode(data))),
    "part of a segment": ("/s/", lambda data: of_table(segment.decode(io.BytesIO(data), keys=["a", "lr", "config"]))),
    "snapshot": ("/summary/", lambda data: snapshot.decode(data).aggregates.table.to_pylist()),
}


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    storage = MemoryStorage(f"memory://bits-{secrets.token_hex(6)}")
    fill(storage)
    merge = Merge(nonce="9f86d081884c7d65", lineage=(Entry("p/a/t/00000000-1f", {"metrics": 3}, 5),), plan={})
    storage.put("p/a/merge.json", documents.encode_merge(merge, RUN))
    return {path: storage.read(path) for path in objects(storage)}


def flips(data: bytes, step: int) -> Iterator[bytes]:
    """Every `step`-th bit, turned."""
    for bit in range(0, 8 * len(data), step):
        yield data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exhaustive", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_no_wrong_bit_goes_unnoticed(kind: str, exhaustive: bool, contents: dict[str, bytes]) -> None:
    part, decode = KINDS[kind]
    data = next(data for path, data in contents.items() if part in path)
    step = 1 if exhaustive or len(data) < 300 else 1 + 8 * len(data) // 1_000
    expected = decode(data)
    tried = unnoticed = 0
    for changed in flips(data, step):
        tried += 1
        try:
            found = decode(changed)
        except CorruptError:
            continue
        unnoticed += 1
        assert found == expected
    count("bytes flipped", tried)
    if kind != "part of a segment":  # of which no more is read than is asked for
        assert unnoticed == 0, "whatever is read whole is checked whole"


@pytest.mark.parametrize("kind", KINDS)
def test_no_object_that_is_cut_off_is_taken_for_whole(kind: str, contents: dict[str, bytes]) -> None:
    part, decode = KINDS[kind]
    data = next(data for path, data in contents.items() if part in path)
    for cut in range(0, len(data), 1 if len(data) < 1_000 else 7):
        with pytest.raises(CorruptError):
            decode(data[:cut])
    with pytest.raises(CorruptError):
        decode(data + b"\0")


def test_no_wrong_bit_of_a_file_of_an_artifact_goes_unnoticed() -> None:
    """Its files are named by their SHA-256, and so is the manifest that lists them."""
    url = f"memory://bits-{secrets.token_hex(6)}"
    with init(dir=url, project="p", id="a", console=False, system_metrics=False) as run:
        artifact = Artifact("model", type="model")
        with artifact.new_file("weights.bin") as file:
            file.write("some weights")
        run.log_artifact(artifact)
    storage = MemoryStorage(url)
    for path in [path for path in objects(storage) if path.startswith("blobs/")]:
        data = storage.read(path)
        digest = path.rpartition("/")[2]
        assert names.blob(digest) == path
        for changed in flips(data, 1 + 8 * len(data) // 100):
            storage.put(path, changed)
            with pytest.raises(CorruptError, match=path):
                blobs.read(storage, digest)
            count("bytes flipped", 1)
