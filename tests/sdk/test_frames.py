"""History as tables: which calls are one row, which columns there are, and of what type."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewind_logger.errors import ConfigError
from rewind_logger.format import segment
from rewind_logger.sdk.frames import History
from rewind_logger.types import Row, Scalar

Call = tuple[int, "int | None", dict[str, Scalar]]
"""Clock, given step, values."""


def history(*calls: Call) -> History:
    """The history of these calls, their times 1 s apart."""
    rows = [Row(i, clock, step, 1000 * i, values) for i, (clock, step, values) in enumerate(calls)]
    points = segment.decode(segment.encode(rows, stream="metrics", first=0, last=0)).sort_by("row")
    return History(points.append_column("entry", pa.array(np.zeros(len(points), np.int32))))


def test_a_row_a_step() -> None:
    read = history((0, None, {"loss": 1.0}), (1, None, {"loss": 0.5, "acc": 0.25}), (3, None, {"loss": 0.125}))
    assert read.to_arrow().to_pydict() == {
        "_step": [0, 1, 3],
        "_timestamp": [0.0, 1.0, 2.0],
        "loss": [1.0, 0.5, 0.125],
        "acc": [None, 0.25, None],
    }
    assert len(read) == 3
    assert read.keys == ["loss", "acc"]
    assert repr(read) == "History(3 rows, 2 keys, steps 0 to 3)"


def test_calls_at_one_step_are_one_row_with_the_time_of_the_last() -> None:
    read = history((0, None, {"a": 1.0}), (0, None, {"b": 2.0}), (1, None, {"a": 3.0}))
    assert read.to_arrow().to_pydict() == {
        "_step": [0, 1],
        "_timestamp": [1.0, 2.0],
        "a": [1.0, 3.0],
        "b": [2.0, None],
    }


def test_a_call_that_repeats_a_key_begins_a_row() -> None:
    read = history((0, None, {"a": 1.0}), (0, None, {"b": 2.0}), (0, None, {"a": 3.0}), (0, None, {"b": 4.0}))
    assert read.to_arrow().select(["_step", "a", "b"]).to_pylist() == [
        {"_step": 0, "a": 1.0, "b": 2.0},
        {"_step": 0, "a": 3.0, "b": 4.0},
    ]


def test_a_step_of_its_own_is_a_row_and_a_column_of_its_own() -> None:
    read = history((5, None, {"a": 1.0}), (5, 2, {"v": 2.0}), (5, None, {"b": 3.0}), (5, 2, {"w": 4.0}))
    assert read.to_arrow().drop_columns("_timestamp").to_pylist() == [
        {"_step": 5, "step": None, "a": 1.0, "v": None, "b": 3.0, "w": None},
        {"_step": 5, "step": 2, "a": None, "v": 2.0, "b": None, "w": 4.0},
    ]


def test_a_metric_called_step_keeps_its_name() -> None:
    read = history((5, None, {"step": 1.0}), (5, 2, {"v": 2.0}))
    assert read.to_arrow().column_names == ["_step", "_timestamp", "_given_step", "step", "v"]


def reference(calls: list[Call]) -> list[tuple[int, int | None, dict[str, Scalar]]]:
    """The rule, one call at a time: what `History` must give, however it finds it."""
    rows: list[tuple[int, int | None, dict[str, Scalar]]] = []
    filling: dict[tuple[int, int | None], dict[str, Scalar]] = {}
    for clock, step, values in calls:
        row = filling.get((clock, step))
        if row is None or row.keys() & values.keys():
            row = filling[clock, step] = {}
            rows.append((clock, step, row))
        row.update(values)
    return rows


CALLS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from([None, None, 0, 1]),
        st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1), min_size=1, max_size=3),
    ),
    max_size=24,
)


@given(CALLS, st.booleans())
def test_rows_are_those_of_the_rule(calls: list[tuple[int, int | None, dict[str, float]]], ordered: bool) -> None:
    given_calls: list[Call] = [(clock, step, dict(values)) for clock, step, values in calls]
    if ordered:
        given_calls.sort(key=lambda call: call[0])
    found = [
        (row.pop("_step"), row.pop("step", None), {key: value for key, value in row.items() if value is not None})
        for row in history(*given_calls).to_arrow().drop_columns("_timestamp").to_pylist()
    ]
    assert found == reference(given_calls)


def test_types() -> None:
    read = history(
        (0, None, {"int": 3, "bool": True, "text": "x", "mixed": 1, "any": 2, "flags": True}),
        (1, None, {"int": -4, "bool": False, "text": "", "mixed": 0.5, "any": "two", "flags": 7}),
        (2, None, {"any": 0.5}),
        (3, None, {"any": False}),
    )
    table = read.to_arrow().drop_columns(["_step", "_timestamp"])
    assert {field.name: str(field.type) for field in table.schema} == {
        "any": "string",
        "bool": "bool",
        "flags": "double",
        "int": "int64",
        "mixed": "double",
        "text": "string",
    }
    columns = table.to_pydict()
    assert columns["any"] == ["2", "two", "0.5", "False"]
    assert columns["int"] == [3, -4, None, None]
    assert columns["flags"] == [1.0, 7.0, None, None]
    assert columns["text"] == ["x", "", None, None]


@pytest.mark.parametrize(
    "values",
    [[2**53 + 1, 3], [2**63 - 1, -(2**63)], [2**64 - 1, 0], [2**60 + 1], [-(2**63), 2**62 + 1]],
)
def test_ints_keep_all_their_digits(values: list[int]) -> None:
    calls: list[Call] = [(i, None, {"n": value}) for i, value in enumerate(values)]
    read = history(*calls)
    assert read.to_arrow()["n"].to_pylist() == values
    assert read.to_pandas()["n"].tolist() == values
    assert read.to_polars()["n"].to_list() == values


def test_ints_that_no_column_holds_become_floats() -> None:
    read = history((0, None, {"n": -1}), (1, None, {"n": 2**64 - 1}))
    assert read.to_arrow()["n"].to_pylist() == [-1.0, 2.0**64]


def test_a_logged_nan_is_not_a_missing_value() -> None:
    read = history((0, None, {"x": math.nan, "y": 1.0}), (1, None, {"y": math.inf}))
    assert str(read.to_arrow()["x"].to_pylist()) == "[nan, None]"
    frame = read.to_polars()
    assert frame["x"].is_null().to_list() == [False, True]
    assert frame["x"].is_nan().to_list() == [True, None]
    assert read.to_pandas()["x"].isna().tolist() == [True, True]
    assert frame["y"].to_list() == [1.0, math.inf]


def test_pandas_keeps_ints_and_bools_where_some_are_missing() -> None:
    frame = history((0, None, {"n": 1, "b": True, "f": 1.0}), (1, None, {"f": 2.0})).to_pandas()
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "_step": "int64",
        "_timestamp": "float64",
        "b": "boolean",
        "f": "float64",
        "n": "Int64",
    }
    assert frame["n"].tolist() == [1, pd.NA]


def test_long() -> None:
    read = history((0, None, {"a": 1.0, "b": 2}), (0, None, {"a": math.nan}), (1, None, {"b": True}))
    frame = read.to_long()
    assert frame.columns.tolist() == ["key", "_step", "_timestamp", "value"]
    assert frame["key"].tolist() == ["a", "b", "a", "b"]
    assert frame["_step"].tolist() == [0, 0, 0, 1]
    assert frame["_timestamp"].tolist() == [0.0, 0.0, 1.0, 2.0]
    assert frame["value"].tolist()[:2] == [1.0, 2.0]
    assert math.isnan(frame["value"].tolist()[2])
    assert isinstance(read.to_long("polars"), pl.DataFrame)
    with pytest.raises(ConfigError, match="no form 'wide'"):
        read.to_long("wide")  # type: ignore[call-overload]


def test_long_has_text_and_step_where_there_are_any() -> None:
    table = history((4, 1, {"note": "x", "n": 2**53 + 1}), (5, None, {"f": 1.0})).to_long("arrow")
    assert table.column_names == ["key", "_step", "_timestamp", "value", "text", "step"]
    rows = {row["key"]: (row["value"], row["text"], row["step"]) for row in table.to_pylist()}
    assert rows == {"note": (None, "x", 1), "n": (2.0**53, None, 1), "f": (1.0, None, None)}


def test_nothing_logged() -> None:
    read = history()
    assert (len(read), read.keys, repr(read)) == (0, [], "History(0 rows, 0 keys)")
    assert read.to_arrow().column_names == ["_step", "_timestamp"]
    assert read.to_pandas().empty
    assert read.to_long("arrow").num_rows == 0


def test_a_hundred_thousand_keys_and_a_million_points() -> None:
    keys = [f"layer{i}/norm" for i in range(100_000)]
    count = 10 * len(keys)
    row = np.repeat(np.arange(10), len(keys))
    columns: dict[str, Any] = {
        "key": pa.array(keys * 10),
        "clock": row,
        "time": row,
        "row": row,
        "step": pa.nulls(count, pa.int64()),
        "kind": np.zeros(count, np.int8),
        "value": np.arange(count, dtype=np.float64),
        "text": pa.nulls(count, pa.string()),
        "entry": np.zeros(count, np.int32),
    }
    points = pa.table(columns)
    wide = History(points).to_arrow()
    assert wide.shape == (10, 100_002)
    assert wide["layer7/norm"].to_pylist() == [7.0 + 100_000 * i for i in range(10)]


@pytest.mark.parametrize(("library", "method"), [("pandas", "to_pandas"), ("polars", "to_polars")])
def test_a_library_that_is_not_there_is_named_with_its_extra(
    library: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = history((0, None, {"a": 1.0}))
    monkeypatch.setitem(sys.modules, library, None)  # what `import` takes for "not installed"
    with pytest.raises(ConfigError, match=rf"pip install 'rewind-logger\[{library}\]'"):
        getattr(read, method)()


def test_reading_a_table_twice_gives_the_same() -> None:
    read = history((0, None, {"a": 1.0}), (0, None, {"a": 2.0}))
    assert read.to_arrow().equals(read.to_arrow())


def by_key(table: pa.Table) -> dict[str, list[Any]]:
    """The values of each key of a long table."""
    found: dict[str, list[Any]] = defaultdict(list)
    for row in table.to_pylist():
        found[row["key"]].append(row["value"])
    return found


def test_long_and_wide_have_the_same_values() -> None:
    read = history((0, None, {"a": 1.0}), (0, None, {"a": 2.0}), (1, None, {"b": 3.0}))
    long, wide = by_key(read.to_long("arrow")), read.to_arrow().to_pydict()
    assert {key: [value for value in wide[key] if value is not None] for key in read.keys} == long
