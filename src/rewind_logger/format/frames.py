"""Journal frames: what a writer's journal is made of.

A frame is the length of its payload (u32, little-endian), the crc32 of its payload (u32, little-endian) and the
payload, one msgpack value: a map is a header, an array of two says the keys of the rows that follow, and an array of
six is a row, its values first. msgpack and not JSON, which turns NaN into null and takes longer.
"""

from __future__ import annotations

import itertools
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import msgspec

from rewind_logger.errors import CorruptError, LogValueError
from rewind_logger.format.values import PLAIN_TYPES
from rewind_logger.types import Row, Scalar

MAX_PAYLOAD = 2**30
"""Bytes that a payload may have (inclusive); a length beyond it is no length."""

_HEAD = struct.Struct("<II")
_pack_head = _HEAD.pack
_crc32 = zlib.crc32
_encode = msgspec.msgpack.Encoder().encode

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Natural = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_decode_row = msgspec.msgpack.Decoder(
    tuple[dict[str, Scalar] | list[Scalar], _Natural, _Natural, _Int64 | None, _Int64 | None, _Int64]
).decode
_decode_keys = msgspec.msgpack.Decoder(tuple[_Natural, list[str]]).decode
_decode_header = msgspec.msgpack.Decoder(dict[str, Any]).decode

_SOUGHT = re.compile(
    # The first byte of a payload; the six before it are the upper half of a length below 1 MiB, and a checksum.
    rb"(?s)[\x80-\x8f\x92\x96\xde\xdf](?<=[\x00-\x0f]\x00.{4}.)"
    rb"(?:(?<=\x96)(?=[\x80-\x9f\xdc-\xdf])"  # a row: an array of six, of which the first is a map or an array
    rb"|(?<=\x92)(?=[\x00-\x7f][\x90-\x9f\xdc\xdd])"  # keys: an array of two, a small number and an array
    rb"|(?<=[\x80-\x8f\xde\xdf])(?=\xa5flush))"  # a header: a map that begins with the flushes
)
"""Finds where the payloads of frames of ours may begin."""

_SOUGHT_WITHIN = 1 << 26
"""Through so many bytes they are looked for."""

_CHECKED_AT_MOST = 1 << 30
"""So many bytes of what may be payloads are checked."""

_HEADS_AT_MOST = 1 << 20
"""So many of them are."""

_DECODE_ERRORS = (msgspec.MsgspecError, ValueError, ArithmeticError, TypeError, RecursionError)


class Keys(NamedTuple):
    """The keys of the rows that follow it and give their values alone.

    Most rows of a stream have the keys of the row before: to write them once makes a row a third as long.
    """

    stream_index: int
    keys: list[str]


class JournalRow(NamedTuple):
    """A row as it stands in a journal: a `Row` whose clock may not be known yet.

    What is logged before a run is open (hyperparameters often are) belongs to the term that is opened next, and gets
    its clock from it.
    """

    row: int
    """Number of this row in its stream and journal, from 0."""
    clock: int | None
    """The training step at which it was logged; None: not known until the run is opened."""
    step: int | None
    """The step that the caller gave, where it differs from the clock."""
    time_ms: int
    """Wall time in milliseconds since 1970-01-01 UTC."""
    values: Mapping[str, Scalar] | Sequence[Scalar]
    """By key; or alone, in the order of the `Keys` of its stream that stand last before it."""

    def at(self, clock: int, keys: Sequence[str] = ()) -> Row:
        """Return the row with its own clock, or with `clock` where it has none.

        Raises:
            CorruptError: If it gives values alone, and not as many as there are `keys`.
        """
        values = self.values
        if not isinstance(values, Mapping):
            if len(values) != len(keys):
                raise CorruptError(f"Row {self.row} of a journal has {len(values)} values for {len(keys)} keys.")
            values = dict(zip(keys, values, strict=True))
        return Row(self.row, clock if self.clock is None else self.clock, self.step, self.time_ms, values)


def frame(payload: bytes) -> bytes:
    """Return the frame of a payload.

    Raises:
        LogValueError: If the payload is larger than 1 GiB.
    """
    if len(payload) > MAX_PAYLOAD:
        raise LogValueError(f"A row of {len(payload):,} bytes was logged, the limit is 1 GiB: log it in several calls.")
    return _pack_head(len(payload), _crc32(payload)) + payload


def read_frames(data: bytes) -> tuple[list[bytes], int]:
    """Return the payloads of all whole frames from the start of `data`, and how many bytes they take.

    A process can be killed within a write, and a machine within a page: the first frame that is torn or damaged ends
    the journal, and nothing is looked for behind it.

    Args:
        data: The content of a journal file, from its start.

    Returns:
        The payloads, and the number of bytes up to the end of the last whole frame.
    """
    payloads = []
    view = memoryview(data)
    at = 0
    while at + _HEAD.size <= len(view):
        length, crc = _HEAD.unpack_from(view, at)
        start, stop = at + _HEAD.size, at + _HEAD.size + length
        # No payload is empty, but the crc32 of nothing is 0: zeros, with which some file systems fill the end of a
        # file after a power cut, would else read as frames.
        if not 0 < length <= MAX_PAYLOAD or stop > len(view) or _crc32(view[start:stop]) != crc:
            break
        payloads.append(bytes(view[start:stop]))
        at = stop
    return payloads, at


def is_damaged(data: bytes, size: int) -> bool:
    """Say whether what follows the last whole frame of a journal was more than the torn tail of a write.

    A torn tail is the beginning of one frame, so its length goes beyond the end of the file. A wrong length may do so
    too: it is told by what lies behind it. Of one wrong bit in a frame that was written whole that is certain; of a
    length that is wrong in several bits, if its frame is the last one, or a whole one below 1 MiB follows. A torn tail
    is taken for damage if a checksum is right by chance, or if a text in it holds a frame: then a file is kept in vain.

    Args:
        data: The content of a journal file.
        size: What `read_frames` returned for it: the bytes up to the end of its last whole frame.
    """
    rest = len(data) - size - _HEAD.size
    if rest < 0:
        return False
    length: int = _HEAD.unpack_from(data, size)[0]
    if length == 0:
        return any(data[size:])  # not only the zeros with which a file system fills up
    return length > MAX_PAYLOAD or length <= rest or _has_payload(data, size) or _has_frame(data, size + 1)


def _has_payload(data: bytes, at: int) -> bool:
    """Say whether the payload of a frame is there, though its length says that it ends beyond the data.

    It is looked for up to the end of the data, and up to where it ends if one bit of the length is wrong: in all one
    checksum of the data, which takes as long as that of a frame that is whole.
    """
    length, crc = _HEAD.unpack_from(data, at)
    payload = memoryview(data)[at + _HEAD.size :]
    checked = found = 0
    for stop in sorted({len(payload), *(length ^ (1 << bit) for bit in range(32))}):
        if not 0 < stop <= len(payload):
            continue
        found = _crc32(payload[checked:stop], found)
        if found == crc:
            return True
        checked = stop
    return False


def _has_frame(data: bytes, start: int) -> bool:
    """Say whether a whole frame of less than 1 MiB begins at some place from `start` on.

    Nothing says where it would begin. One pass of a regular expression finds what looks like the head of one, which is
    next to nothing among floats and texts: a torn row of 64 MiB takes about a second. Where somebody has put many
    such heads, the search is given up before it takes many.
    """
    view = memoryview(data)
    left = _CHECKED_AT_MOST
    places = _SOUGHT.finditer(data, start + _HEAD.size, start + _SOUGHT_WITHIN)
    for match in itertools.islice(places, _HEADS_AT_MOST):
        begin = match.start()
        length, crc = _HEAD.unpack_from(data, begin - _HEAD.size)
        if not 0 < length <= min(left, len(data) - begin):
            continue
        if _crc32(view[begin : begin + length]) == crc:
            return True
        left -= length
    return False


def encode_keys(stream_index: int, keys: Sequence[str]) -> bytes:
    """Return the payload that says the keys of the rows of a stream that follow it with their values alone."""
    return _encode((stream_index, keys))


def encode_row(
    stream_index: int,
    row: int,
    clock: int | None,
    step: int | None,
    time_ms: int,
    values: Mapping[str, Scalar] | Sequence[Scalar],
) -> bytes:
    """Return the payload of a row.

    Args:
        stream_index: Which stream it belongs to; the journal's header names them.
        row: Number of the row in its stream and journal.
        clock: The training step; None: not known until the run is opened.
        step: The step that the caller gave, where it differs from the clock.
        time_ms: Wall time in milliseconds since 1970-01-01 UTC.
        values: Flat keys and plain scalars; or the scalars alone, in the order of the keys said last.

    Raises:
        OverflowError: If an int has more than 64 bits; `values.flatten` tells which.
        UnicodeEncodeError: If a text holds half of a surrogate pair; likewise.
    """
    return _encode((values, stream_index, row, clock, step, time_ms))


def frame_values(
    values: Sequence[Scalar], stream_index: int, row: int, clock: int | None, step: int | None, time_ms: int
) -> bytes:
    """Return the frame of a row that gives its values alone: `frame(encode_row(…))`, checked and in less time.

    Nearly all rows hold floats only, and their bytes tell that at once: they come first in the payload, so that each
    begins at a known place, with the mark of a float, if all before it are floats.

    Raises:
        TypeError: If a value is of none of `PLAIN_TYPES`.
        OverflowError: As `encode_row` does, and UnicodeEncodeError.
        LogValueError: As `frame` does.
    """
    payload = _encode((values, stream_index, row, clock, step, time_ms))
    count = len(values)
    start = 2 if count < 16 else 4 if count < 1 << 16 else 6
    if payload[start : start + 9 * count : 9] != b"\xcb" * count and not PLAIN_TYPES.issuperset(map(type, values)):
        raise TypeError("A value is not a plain scalar.")
    size = len(payload)
    return frame(payload) if size > MAX_PAYLOAD else _pack_head(size, _crc32(payload)) + payload


def decode_row(payload: bytes) -> tuple[int, JournalRow]:
    """Return the stream index and the row of a row's payload.

    Raises:
        CorruptError: If the payload is not one that `encode_row` writes.
    """
    try:
        values, stream_index, row, clock, step, time_ms = _decode_row(payload)
    except _DECODE_ERRORS as error:
        raise CorruptError(f"A row of a journal does not decode ({error}): the journal is not one of ours.") from error
    return stream_index, JournalRow(row, clock, step, time_ms, values)


def encode_header(header: Mapping[str, Any]) -> bytes:
    """Return the payload of a header: a map of text to plain values."""
    return _encode(header)


def decode(payload: bytes) -> dict[str, Any] | Keys | tuple[int, JournalRow]:
    """Return what a payload holds: a dict is a header, `Keys` are keys, a tuple is the stream index and the row.

    Raises:
        CorruptError: If it is neither.
    """
    if payload[:1] and (payload[0] & 0xF0 == 0x80 or payload[0] in (0xDE, 0xDF)):  # msgpack's maps
        try:
            return _decode_header(payload)
        except _DECODE_ERRORS as error:
            raise CorruptError(f"A header of a journal does not decode ({error}): it is not one of ours.") from error
    if payload[:1] == b"\x92":  # an array of two
        try:
            return Keys(*_decode_keys(payload))
        except _DECODE_ERRORS as error:
            raise CorruptError(f"Keys in a journal do not decode ({error}): it is not one of ours.") from error
    return decode_row(payload)
