"""From rows to columns of points: numpy does the laying out, Python touches each value once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rewind_logger.errors import CorruptError, LogValueError
from rewind_logger.format.values import INT_MAX, INT_MIN
from rewind_logger.types import Row, Scalar

FLOAT, INT, BOOL, STR = range(4)
"""What a point's `kind` says of its value."""

_KINDS: dict[type, int] = {float: FLOAT, int: INT, bool: BOOL, str: STR}

_DIGITS = re.compile("-?[0-9]{1,20}")
"""Of an int that no double holds."""

MAX_TEXT_BYTES = 2**31
"""What the texts of a segment may have together (exclusive); so the keys of its points."""

KeyIds = npt.NDArray[np.unsignedinteger[Any]]
"""For each point, the number of its key in a sorted list of keys."""


def number_keys(rows: Sequence[Row]) -> tuple[list[str], KeyIds, npt.NDArray[np.int64]]:
    """Return all keys in order, for each point of each row the number of its key, and for each row how many it has."""
    shapes: dict[tuple[str, ...], int] = {}
    # Rows repeat the same few sets of keys: look at each set once, and let numpy lay out the points.
    shape_of_row = np.fromiter((shapes.setdefault(tuple(row.values), len(shapes)) for row in rows), np.int64, len(rows))
    keys = sorted(set(chain.from_iterable(shapes)))
    rank = {key: i for i, key in enumerate(keys)}
    flat = np.fromiter((rank[key] for shape in shapes for key in shape), narrowest(len(keys)))
    shape_sizes = np.fromiter(map(len, shapes), np.int64, len(shapes))
    shape_starts = np.cumsum(shape_sizes) - shape_sizes
    sizes = shape_sizes[shape_of_row]
    starts = np.cumsum(sizes) - sizes
    return keys, flat[np.repeat(shape_starts[shape_of_row] - starts, sizes) + np.arange(sizes.sum())], sizes


def narrowest(count: int) -> type[np.unsignedinteger[Any]]:
    """Return the type for numbers below `count`: numpy sorts 16 bits by radix, up to ten times as fast as 64."""
    return np.uint16 if count <= 2**16 else np.uint32


def split_values(
    values: list[Scalar],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float64], list[str | None] | None]:
    """Return kind, value (0 for a str) and text of each point; None for the texts if there is none.

    Raises:
        LogValueError: If a value is not exactly a float, an int of at most 64 bits, a bool or a str.
    """
    types = set(map(type, values))
    if types <= {float}:
        return np.zeros(len(values), np.int8), np.fromiter(values, np.float64, len(values)), None
    if not types <= _KINDS.keys():
        odd = ", ".join(sorted(found.__name__ for found in types - _KINDS.keys()))
        raise LogValueError(f"A segment keeps float, int, bool and str, not {odd}: give it what `flatten` returns.")
    kind = np.fromiter(map(_KINDS.__getitem__, map(type, values)), np.int8, len(values))
    numbers = np.fromiter((0.0 if type(value) is str else value for value in values), np.float64, len(values))
    texts: list[str | None] = [None] * len(values)
    for i in np.flatnonzero(kind == STR).tolist():
        texts[i] = str(values[i])
    # Below 2**53 every int is a double; above, those that are not keep their digits.
    for i in np.flatnonzero((kind == INT) & (np.abs(numbers) >= 2.0**53)).tolist():
        exact = int(values[i])
        if not INT_MIN <= exact <= INT_MAX:
            raise LogValueError(f"A segment keeps ints of at most 64 bits, not {exact}.")
        if int(numbers[i]) != exact:
            texts[i] = str(exact)
    return kind, numbers, texts


def check_text(column: pa.ChunkedArray[Any]) -> None:
    """Refuse texts that are few bytes as they are, each of them once, and very many as each point has its own.

    Args:
        column: Of Arrow's dictionary type.

    Raises:
        CorruptError: If they are more than a segment can hold.
    """
    chunks = cast("list[Any]", column.chunks)
    if sum(len(chunk) * int(_sizes(chunk).max(initial=0)) for chunk in chunks) < MAX_TEXT_BYTES:
        return
    if (exact := sum(map(text_bytes, chunks))) >= MAX_TEXT_BYTES:
        raise CorruptError(f"Its points have {exact:,} bytes of text, and no segment has {MAX_TEXT_BYTES:,}.")


def text_bytes(texts: Any) -> int:
    """Return how many bytes the texts of an array of Arrow's dictionary type are, as each point has its own."""
    sizes = _sizes(texts)
    return int(np.bincount(numbers(texts.indices.drop_null()), minlength=len(sizes)) @ sizes)


def _sizes(texts: Any) -> npt.NDArray[np.int64]:
    """Return the sizes of the texts that are different."""
    return numbers(pc.binary_length(texts.dictionary)).astype(np.int64)


def check_points(points: pa.Table) -> None:
    """Refuse points whose kind, value and text contradict each other.

    Args:
        points: A table with the columns `kind`, `value` and `text` of a segment.

    Raises:
        CorruptError: If some do.
    """
    for batch in points.select(["kind", "value", "text"]).to_batches():
        kind, value, text = batch.columns
        kinds = numbers(kind)
        if not kinds.any():  # floats alone
            if value.null_count:
                raise CorruptError("Points that are floats have no value.")
            continue
        has_value, has_text = is_valid(value), is_valid(text)
        number, is_text = numbers(value), kinds == STR
        whole = (kinds == INT) | (kinds == BOOL)
        limit = np.where(kinds == BOOL, 1.0, 2.0**64)
        with np.errstate(invalid="ignore"):
            wrong = (
                (kinds < FLOAT)
                | (kinds > STR)
                | np.where(is_text, ~has_text, ~has_value)
                | (whole & ~(np.abs(number) <= limit))
            )
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise CorruptError(
                f"A point has kind {kinds[at]}, value {value[at]} and text {str(text[at])[:40]!r}: that is no value."
            )
        for index in np.flatnonzero((kinds == INT) & has_text).tolist():
            digits = text[index].as_py()
            if not _DIGITS.fullmatch(digits) or not INT_MIN <= int(digits) <= INT_MAX:
                raise CorruptError(f"A point that is an int has the text {digits[:40]!r}, which is none.")


def is_valid(values: pa.Array[Any]) -> npt.NDArray[np.bool_]:
    """Return for each value of an Arrow array whether there is one."""
    return np.asarray(numbers(values.is_valid().cast(pa.int8())) != 0)


def to_scalar(key: str, kind: int, value: float | None, text: str | None) -> Scalar:
    """Return the value of one point.

    Raises:
        CorruptError: If kind, value and text contradict each other.
    """
    try:
        if kind == STR and text is not None:
            return text
        if kind == INT and text is not None:
            return int(text)
        if kind == INT and value is not None:
            return int(value)
        if kind == FLOAT and value is not None:
            return value
        if kind == BOOL and value is not None:
            return value != 0
    except (ValueError, OverflowError):
        pass
    raise CorruptError(f"A point of {key!r} has kind {kind}, value {value!r} and text {text!r}: that is no value.")


# Neither pa.array nor to_numpy below, nor where rows are written and put together: they import pandas, where it is
# installed, to ask whether it is involved. That takes 0.7 s; and a process that is forked while a thread of its parent
# is in the midst of it waits for ever once it asks too.


def numbers(values: pa.Array[Any]) -> npt.NDArray[Any]:
    """Return the memory of an Arrow array of numbers, without regard for nulls, as a numpy array."""
    memory = values.buffers()[1]
    kind = np.dtype(str(values.type))
    return np.frombuffer(memoryview(memory or b""), kind, len(values), values.offset * kind.itemsize)


def array(values: npt.NDArray[Any], null: npt.NDArray[np.bool_] | None = None) -> pa.Array[Any]:
    """Return an Arrow array on the memory of a numpy array, null where `null` is True."""
    valid = None if null is None else pa.py_buffer(np.packbits(~null, bitorder="little").data)
    data = pa.py_buffer(np.ascontiguousarray(values).data)
    return cast("pa.Array[Any]", pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [valid, data]))


def column_of(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """Return a column of numbers, without regard for nulls, as a numpy array."""
    chunks = [numbers(chunk) for chunk in table[name].chunks]
    return chunks[0] if len(chunks) == 1 else np.concatenate([*chunks, numbers(pa.nulls(0, table[name].type))])


def mask(values: npt.NDArray[np.bool_]) -> pa.Array[Any]:
    """Return an Arrow array of booleans, such as a table is filtered with."""
    data = pa.py_buffer(np.packbits(values, bitorder="little").data)
    return cast("pa.Array[Any]", pa.Array.from_buffers(pa.bool_(), len(values), [None, data]))


def empty(schema: pa.Schema) -> pa.Table:
    """Return a table without lines."""
    return pa.Table.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def strings(texts: Sequence[str | None]) -> pa.Array[Any]:
    """Return an Arrow array of texts, null where one is None."""
    encoded = [b"" if text is None else text.encode() for text in texts]
    sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    if offsets[-1] >= MAX_TEXT_BYTES:
        raise LogValueError(f"One segment keeps at most 2 GiB of text, not {offsets[-1]:,} bytes: flush earlier.")
    valid = np.packbits(np.fromiter((text is not None for text in texts), np.bool_, len(texts)), bitorder="little")
    buffers = [pa.py_buffer(memory) for memory in (valid.data, offsets.astype(np.int32).data, b"".join(encoded))]
    return cast("pa.Array[Any]", pa.Array.from_buffers(pa.string(), len(texts), [*buffers]))
