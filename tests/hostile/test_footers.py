"""A segment that was made to do harm ends no process: its footer is looked at before pyarrow sees it.

Each change is tried in a process of its own kind, for what it may do is to end that.
"""

from __future__ import annotations

import io
import random
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rewind_logger.errors import RewindError
from rewind_logger.format import segment
from rewind_logger.types import Row
from tests.figures import count
from tests.hostile.resealing import footer_start, reseal

ROWS = [
    Row(i, i, None if i % 2 else 3 * i, 1_000 + i, {"loss": 1 / (i + 1), "phase": "train", "n": i}) for i in range(20)
]
EVIL_BYTES = bytes.fromhex("00010203 7f80ff15 25161819 1c2c3cfe 881040")


def single_bits(step: int) -> Iterator[bytes]:
    """Every `step`-th bit of the footer, turned."""
    data = segment.encode(ROWS, stream="metrics", first=0, last=0, term="a" * 16)
    for bit in range(8 * footer_start(data), 8 * (len(data) - 8), step):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def several_bytes(number: int) -> Iterator[bytes]:
    """Some bytes replaced, of the footer or of the pages."""
    data = segment.encode(ROWS, stream="metrics", first=0, last=0, term="a" * 16)
    chance = random.Random(number)
    at = footer_start(data)
    for _ in range(number):
        changed = bytearray(data)
        low, high = (4, at - 12) if chance.random() < 0.2 else (at, len(data) - 8)
        for _ in range(chance.choice([1, 1, 2, 3, 5, 8])):
            changed[chance.randrange(low, high)] = (
                chance.choice(EVIL_BYTES) if chance.random() < 0.5 else chance.randrange(256)
            )
        yield bytes(changed)


def try_all(kind: str, number: int) -> None:
    """Decode every change, in each of the ways there are."""
    tried = 0
    for changed in single_bits(number) if kind == "bits" else several_bytes(number):
        data = reseal(changed)
        for read in (
            lambda data=data: segment.to_rows(segment.decode(data)),
            lambda data=data: segment.decode(io.BytesIO(data), keys=["loss", "phase"], encoded_keys=True),
        ):
            tried += 1
            try:
                read()
            except RewindError:
                continue
    print(tried)


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("bits", 11),
        ("bytes", 500),
        pytest.param("bits", 1, marks=pytest.mark.exhaustive),
        pytest.param("bytes", 20_000, marks=pytest.mark.exhaustive),
    ],
)
def test_no_footer_ends_the_process_that_reads_it(kind: str, number: int) -> None:
    code = f"from tests.hostile.test_footers import try_all; try_all({kind!r}, {number})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2_000:]
    count("fuzz executions", int(done.stdout))
