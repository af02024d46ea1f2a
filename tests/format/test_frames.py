from __future__ import annotations

import struct
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind_logger.errors import CorruptError
from rewind_logger.format.frames import (
    MAX_PAYLOAD,
    JournalRow,
    Keys,
    decode,
    decode_row,
    encode_header,
    encode_keys,
    encode_row,
    frame,
    frame_values,
    is_damaged,
    read_frames,
)
from rewind_logger.types import Row, Scalar
from tests.figures import count
from tests.format.strategies import INT64, VALUES, exact_rows

PAYLOADS = st.lists(st.binary(min_size=1, max_size=30), max_size=6)
NATURAL = st.integers(0, 2**63 - 1)
PLAIN = st.none() | INT64 | st.text(max_size=5) | st.booleans()
# Up to 20 fields: msgpack writes a map of more than 15 in another way.
HEADERS: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.text(max_size=2), PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(st.text(max_size=2), PLAIN), max_size=20
)


def test_a_frame_is_length_checksum_and_payload() -> None:
    payload = b"\x96payload"
    assert frame(payload) == struct.pack("<II", 8, zlib.crc32(payload)) + payload


@given(PAYLOADS)
def test_whole_frames_are_read_back(payloads: list[bytes]) -> None:
    data = b"".join(map(frame, payloads))
    assert read_frames(data) == (payloads, len(data))


@given(PAYLOADS)
def test_a_journal_torn_at_any_byte_gives_the_frames_before(payloads: list[bytes]) -> None:
    frames = [frame(payload) for payload in payloads]
    data = b"".join(frames)
    ends = [sum(map(len, frames[: i + 1])) for i in range(len(frames))]
    for cut in range(len(data)):
        whole = sum(end <= cut for end in ends)
        assert read_frames(data[:cut]) == (payloads[:whole], ends[whole - 1] if whole else 0)


@given(PAYLOADS.filter(bool), st.data())
def test_a_damaged_bit_anywhere_ends_the_journal_before_its_frame(payloads: list[bytes], data: st.DataObject) -> None:
    frames = [frame(payload) for payload in payloads]
    hit = data.draw(st.integers(0, len(frames) - 1))
    damaged = bytearray(frames[hit])
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    found, size = read_frames(b"".join([*frames[:hit], bytes(damaged), *frames[hit + 1 :]]))
    assert found == payloads[:hit]
    assert size == sum(map(len, frames[:hit]))


@given(PAYLOADS, st.binary(min_size=1, max_size=30))
def test_a_torn_frame_is_no_damage(payloads: list[bytes], torn: bytes) -> None:
    whole = b"".join(map(frame, payloads))
    for cut in range(len(torn) + 8):
        assert not is_damaged(whole + frame(torn)[:cut], len(whole))


@given(PAYLOADS.filter(bool), st.data())
def test_a_wrong_bit_is_damage_whatever_follows(payloads: list[bytes], data: st.DataObject) -> None:
    """In a length too, which then may go beyond the data as that of a torn frame does."""
    frames = [frame(payload) for payload in payloads]
    hit = data.draw(st.integers(0, len(frames) - 1))
    at, bit = data.draw(st.integers(0, len(frames[hit]) - 1) | st.integers(0, 3)), data.draw(st.integers(0, 7))
    damaged = bytearray(frames[hit])
    damaged[at] ^= 1 << bit
    behind = data.draw(st.sampled_from([b"", bytes(50), frame(b"torn")[:-1], frame(b"torn")[:9]]))
    content = b"".join([*frames[:hit], bytes(damaged), *frames[hit + 1 :], behind])
    count("bytes flipped")
    assert is_damaged(content, read_frames(content)[1])


ROWS = st.lists(
    st.builds(encode_row, NATURAL, NATURAL, st.none() | INT64, st.none() | INT64, INT64, VALUES | st.lists(st.floats()))
    | st.builds(encode_keys, st.integers(0, 6), st.lists(st.text(max_size=3)))
    | st.just(encode_header({"flush": {"metrics": 0}})),
    min_size=1,
    max_size=4,
)


@given(ROWS, st.integers(0, 3), st.binary(max_size=12))
def test_a_length_that_is_wrong_in_any_way_is_damage_if_frames_of_ours_follow(
    payloads: list[bytes], hit: int, behind: bytes
) -> None:
    """Or if its frame is the last; of others nothing tells that they were not torn."""
    frames = [frame(payload) for payload in payloads]
    hit %= len(frames)
    behind = behind if hit < len(frames) - 1 else b""
    for length in (len(frames[hit]) ^ 0x0F0F0F, 1 << 20, MAX_PAYLOAD, 2**32 - 1):
        damaged = struct.pack("<I", length) + frames[hit][4:]
        content = b"".join([*frames[:hit], damaged, *frames[hit + 1 :], behind])
        count("bytes flipped")
        assert is_damaged(content, read_frames(content)[1])


def test_a_frame_of_ours_is_found_at_any_place_behind() -> None:
    head = struct.pack("<II", MAX_PAYLOAD, 7)
    row, keys = encode_row(0, 0, 0, None, 0, {"a": 1.0}), encode_keys(0, ["a"])
    for payload in (row, keys, encode_header({"flush": {}}), encode_row(0, 0, 0, None, 0, [1.0])):
        for fill in (b"\x00", b"\x96", b"\x92", b"\x81\xa5flush", b"\xcb"):
            for distance in range(30):
                assert is_damaged(head + (fill * 30)[:distance] + frame(payload), 0)
                assert not is_damaged(head + (fill * 30)[:distance] + frame(payload)[:-1], 0)


def test_what_is_made_of_heads_alone_is_not_checked_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them could be a frame of half a MiB: checked against all that, some megabytes would take minutes."""
    checked = 0

    def crc32(data: memoryview, value: int = 0) -> int:
        nonlocal checked
        checked += len(data)
        return 1

    monkeypatch.setattr("rewind_logger.format.frames._crc32", crc32)
    content = struct.pack("<II", MAX_PAYLOAD, 7) + (struct.pack("<II", 1 << 19, 7) + b"\x96\x80") * (1 << 18)
    assert not is_damaged(content, 0)
    assert (1 << 30) - (1 << 19) <= checked <= (1 << 30) + len(content)


def test_zeros_at_the_end_are_no_frames() -> None:
    whole = frame(b"row")
    assert read_frames(whole + bytes(4096)) == ([b"row"], len(whole))


def test_a_length_that_no_frame_has_ends_the_journal() -> None:
    absurd = struct.pack("<II", MAX_PAYLOAD + 1, 0)
    assert read_frames(frame(b"row") + absurd + b"x" * 100) == ([b"row"], len(frame(b"row")))
    assert read_frames(struct.pack("<II", 2**32 - 1, 0)) == ([], 0)


@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_read_to_their_last_whole_frame(data: bytes) -> None:
    payloads, size = read_frames(data)
    assert b"".join(map(frame, payloads)) == data[:size]


@given(NATURAL, NATURAL, st.none() | INT64, st.none() | INT64, INT64, VALUES)
def test_a_row_comes_back_bit_for_bit(
    index: int, number: int, clock: int | None, step: int | None, time_ms: int, values: dict[str, Scalar]
) -> None:
    payload = encode_row(index, number, clock, step, time_ms, values)
    assert decode(payload) == decode_row(payload) or any(value != value for value in values.values())
    found_index, row = decode_row(payload)
    assert (found_index, row.clock) == (index, clock)
    assert exact_rows([row.at(5)]) == exact_rows([Row(number, 5 if clock is None else clock, step, time_ms, values)])


def test_a_row_without_a_clock_gets_that_of_its_run() -> None:
    _, row = decode_row(encode_row(1, 0, None, None, 7, {"lr": 0.1}))
    assert row == JournalRow(0, None, None, 7, {"lr": 0.1})
    assert row.at(30) == Row(0, 30, None, 7, {"lr": 0.1})
    assert decode_row(encode_row(1, 0, 4, None, 7, {}))[1].at(30).clock == 4


@given(HEADERS)
def test_a_header_comes_back_and_is_no_row(header: dict[str, Any]) -> None:
    assert decode(encode_header(header)) == header
    with pytest.raises(CorruptError):
        decode_row(encode_header(header))


@given(st.binary(max_size=60) | VALUES.map(lambda values: encode_row(0, 1, 2, None, 3, values)[:-1]))
def test_a_payload_that_is_not_ours_is_corrupt_and_nothing_else(payload: bytes) -> None:
    try:
        decode(payload)
    except CorruptError as error:
        assert "journal" in str(error)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [0, 0, 0, None, 0],
        [0, 0, 0, None, 0, {}, 1],
        [-1, 0, 0, None, 0, {}],
        [0, -1, 0, None, 0, {}],
        [0, 0, 2**63, None, 0, {}],
        [0, 0, 0, 2**63, 0, {}],
        [0, 0, 0, None, None, {}],
        [0, 0, 0.5, None, 0, {}],
        [0, 0, 0, None, 0, {"a": None}],
        [0, 0, 0, None, 0, {"a": [1]}],
        [0, 0, 0, None, 0, {1: 1}],
        7,
        "row",
    ],
)
def test_a_row_of_another_make_is_corrupt(fields: object) -> None:
    with pytest.raises(CorruptError, match="A row of a journal does not decode"):
        decode(msgspec.msgpack.encode(fields))


def test_what_no_frame_can_hold_is_an_error_when_it_is_encoded() -> None:
    with pytest.raises(OverflowError):
        encode_row(0, 0, 0, None, 0, {"x": 2**64})
    with pytest.raises(UnicodeEncodeError):
        encode_row(0, 0, 0, None, 0, {"x": "\ud800"})


def test_rows_that_repeat_their_keys_give_their_values_alone() -> None:
    keys = ["loss", "nan"]
    assert decode(encode_keys(2, keys)) == Keys(2, keys)
    decoded = decode(encode_row(2, 7, None, 3, 11, [0.5, 4]))
    assert isinstance(decoded, tuple)
    _, row = decoded
    assert isinstance(row, JournalRow)
    assert row.at(9, keys) == Row(7, 9, 3, 11, {"loss": 0.5, "nan": 4})
    with pytest.raises(CorruptError, match="2 values for 1 keys"):
        row.at(9, keys[:1])


# What looks like floats, if one looks at the wrong place: 0xCB is the mark of a float.
MARKS: st.SearchStrategy[Any] = st.sampled_from(
    [b"\xcb" * 7, b"\xcb" * 8, (0.5,), "\xcb" * 4, 0xCBCBCBCB, None, {}, 1.5, float("nan")]
)


@given(st.lists(st.floats() | INT64 | st.booleans() | st.text() | MARKS, max_size=20), st.none() | NATURAL)
def test_the_quick_way_frames_plain_values_alike_and_refuses_others(values: list[Any], clock: int | None) -> None:
    if all(type(value) in (float, int, bool, str) for value in values):
        assert frame_values(values, 2, 7, clock, None, 11) == frame(encode_row(2, 7, clock, None, 11, values))
    else:
        with pytest.raises(TypeError):
            frame_values(values, 2, 7, clock, None, 11)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536])
def test_the_quick_way_knows_where_floats_begin(count: int) -> None:
    floats = [0.5] * count
    assert frame_values(floats, 0, 0, 0, None, 0) == frame(encode_row(0, 0, 0, None, 0, floats))
    with pytest.raises(TypeError):
        frame_values([*floats, b"bytes"], 0, 0, 0, None, 0)  # type: ignore[list-item]


def test_a_row_of_many_keys_is_a_third_as_long_without_them() -> None:
    values = {f"layer.{i}/weight_norm": float(i) for i in range(1000)}
    whole, alone = encode_row(0, 0, 0, None, 0, values), encode_row(0, 0, 0, None, 0, list(values.values()))
    assert len(alone) < len(whole) / 3
