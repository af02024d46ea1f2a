"""What hypothesis draws rows and values from, and how rows are compared."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from hypothesis import strategies as st

from rewind_logger.types import Row, Scalar

INT64 = st.integers(-(2**63), 2**63 - 1)

KEYS = st.one_of(st.sampled_from(["loss", "acc", "val/loss", "ключ", "a b"]), st.text(min_size=1, max_size=20))

FLOATS = st.one_of(
    st.floats(),
    # Every bit pattern, so NaNs of all kinds.
    st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack("<d", struct.pack("<Q", bits))[0]),
)

SCALARS: st.SearchStrategy[Scalar] = st.one_of(FLOATS, st.integers(-(2**63), 2**64 - 1), st.booleans(), st.text())

VALUES: st.SearchStrategy[dict[str, Scalar]] = st.one_of(
    st.dictionaries(KEYS, SCALARS, min_size=1, max_size=6),
    st.fixed_dictionaries({"loss": FLOATS, "acc": FLOATS}),
)


@st.composite
def rows(draw: st.DrawFn, first: int = 0) -> list[Row]:
    """Draw rows with numbers from `first` on; clocks, as everything else, may be anything."""
    clocks = st.one_of(st.integers(-1, 5), INT64)
    row = st.tuples(clocks, st.one_of(st.none(), INT64), INT64, VALUES)
    return [Row(first + i, *fields) for i, fields in enumerate(draw(st.lists(row, max_size=12)))]


def exactly(value: Scalar) -> tuple[type, object]:
    """Return what is equal only for the same value of the same type: NaNs and zeros bit for bit."""
    return type(value), struct.pack("<d", value) if isinstance(value, float) else value


def exact_rows(found: Iterable[Row]) -> list[object]:
    """Return what is equal only for the same rows."""
    return [(*row[:4], {key: exactly(value) for key, value in row.values.items()}) for row in found]
