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
from rewind_logger.format.documents import Merge, Removal, Trim
from rewind_logger.history import blobs
from rewind_logger.history.view import resolve
from rewind_logger.storage.memory import MemoryStorage
from rewind_logger.types import Entry, RunRef
from tests.figures import count
from tests.history.lines import RUN
from tests.hostile.specimen import fill, objects

Decode = Callable[[bytes, str], Any]


def of_table(table: Any) -> Any:
    """What two tables with the same bits have in common: a NaN is not equal to itself."""
    return [column.to_pylist() for column in table.cast(segment.SCHEMA).columns]


KINDS: dict[str, tuple[str, Decode]] = {
    "claim": ("/m/", documents.decode_claim),
    "base": ("/base.json", lambda data, path: documents.decode_base(data, RUN, path)),
    "merge": ("/merge.json", lambda data, path: documents.decode_merge(data, RUN, path)),
    "end": ("/end.json", documents.decode_end),
    "sign of life": ("/alive.json", documents.decode_alive),
    "pin": ("/pins/", documents.decode_pin),
    "evaluation": ("/evaluation.json", documents.decode_evaluation),
    "trim": ("/trimmed.json", documents.decode_trim),
    "removal": ("p/x/removed.json", documents.decode_removal),
    "segment": ("/s/", lambda data, _: of_table(segment.decode(data))),
    "part of a segment": (
        "/s/",
        lambda data, path: of_table(segment.decode(io.BytesIO(data), keys=["a", "lr", "config"])),
    ),
    "snapshot": ("/summary/", lambda data, path: snapshot.decode(data).aggregates.table.to_pylist()),
}


@pytest.fixture(scope="module")
def contents() -> dict[str, bytes]:
    storage = MemoryStorage(f"memory://bits-{secrets.token_hex(6)}")
    fill(storage)
    folder = resolve(storage, RUN).folder
    entry = Entry("p/a/t/00000000-1f", {"metrics": 3}, 5)
    merge = Merge(nonce=names.writer(folder) or "", lineage=(entry,), plan={})
    storage.put(names.merge(folder), documents.encode_merge(merge, RUN))
    storage.put(names.trimmed(folder), documents.encode_trim(Trim(folder=folder, cut=5)))
    removal = Removal(run=RunRef("p", "x"), at_ms=1_763_888_888_888, host="node7")
    storage.put("p/x/removed.json", documents.encode_removal(removal))
    return {path: storage.read(path) for path in objects(storage)}


def flips(data: bytes, step: int) -> Iterator[bytes]:
    """Every `step`-th bit, turned."""
    for bit in range(0, 8 * len(data), step):
        yield data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exhaustive", [False, pytest.param(True, marks=pytest.mark.exhaustive)])
def test_no_wrong_bit_goes_unnoticed(kind: str, exhaustive: bool, contents: dict[str, bytes]) -> None:
    part, decode = KINDS[kind]
    path, data = next((path, data) for path, data in contents.items() if part in path)
    step = 1 if exhaustive or len(data) < 300 else 1 + 8 * len(data) // 1_000
    expected = decode(data, path)
    tried = unnoticed = 0
    for changed in flips(data, step):
        tried += 1
        try:
            found = decode(changed, path)
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
    path, data = next((path, data) for path, data in contents.items() if part in path)
    for cut in range(0, len(data), 1 if len(data) < 1_000 else 7):
        with pytest.raises(CorruptError):
            decode(data[:cut], path)
    with pytest.raises(CorruptError):
        decode(data + b"\0", path)


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
