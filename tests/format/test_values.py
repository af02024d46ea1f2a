from __future__ import annotations

import argparse
import datetime
import enum
import math
import subprocess
import sys
from collections import UserDict
from collections.abc import Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from hypothesis import given

from rewind_logger.format.values import INT_MAX, INT_MIN, PLAIN_TYPES, flatten, key_fault
from rewind_logger.types import Scalar
from tests.format.strategies import VALUES, exactly


class Colour(enum.IntEnum):
    RED = 3


class Phase(str, enum.Enum):  # not StrEnum: Python 3.10 has none
    TRAIN = "train"


class Loud(int):
    """An int that must not be asked for anything."""

    def _refuse(self, *_: object) -> int:
        raise AssertionError("code of the user's was run")

    __int__ = __index__ = __float__ = __str__ = __repr__ = __getattr__ = _refuse  # type: ignore[assignment]


def kept(value: object) -> object:
    """The one value that flatten makes of `value`, with its type."""
    good, bad = flatten({"x": value})
    assert not bad
    return exactly(good["x"])


def refused(value: object) -> str:
    """Why flatten refuses `value`; the rest of the row is kept."""
    good, bad = flatten({"before": 1, "x": value, "after": 2})
    assert good == {"before": 1, "after": 2}
    assert list(bad) == ["x"]
    assert bad["x"].startswith("'x' is ")
    return bad["x"]


@given(VALUES)
def test_plain_values_stay_as_they_are(values: dict[str, Scalar]) -> None:
    good, bad = flatten(values)
    assert {key: exactly(value) for key, value in good.items()} == {
        key: exactly(value) for key, value in values.items() if key not in bad
    }
    assert list(good) == [key for key in values if key not in bad]
    assert all(key_fault(key) == fault for key, fault in bad.items())


def test_nested_mappings_are_joined_and_none_is_left_out() -> None:
    values = {
        "a": 1,
        "b": {"c": 2.5, "d": {"e": True, "gone": None}, "empty": {}},
        "gone": None,
        "u": UserDict({"v": "w"}),
    }
    assert flatten(values) == ({"a": 1, "b/c": 2.5, "b/d/e": True, "u/v": "w"}, {})


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, 3),
        (Phase.TRAIN, "train"),
        (Loud(7), 7),
        (np.float64(0.1), 0.1),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float16(0.5), 0.5),
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.array(2.5), 2.5),
        (np.array([[3]]), 3),
        (np.array([False]), False),
        (np.array(4, dtype=object), 4),
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_kinds_of_numbers_and_texts_become_plain(value: object, plain: Scalar) -> None:
    assert kept(value) == exactly(plain)
    assert type(flatten({"x": value})[0]["x"]) in PLAIN_TYPES


def test_every_float_is_kept_to_the_bit() -> None:
    for value in (math.inf, -math.inf, -0.0, 5e-324, float(np.array(0x7FF8DEAD00000001).view(np.float64))):
        assert kept(value) == kept(np.float64(value)) == kept(np.array([value])) == exactly(value)


def test_torch_scalars_of_every_kind_become_plain() -> None:
    torch: Any = pytest.importorskip("torch")
    assert kept(torch.tensor(0.5, requires_grad=True)) == exactly(0.5)
    assert kept(torch.tensor([[0.5]], dtype=torch.bfloat16)) == exactly(0.5)
    assert kept(torch.tensor(3)) == exactly(3)
    assert kept(torch.tensor(True)) == exactly(True)
    assert kept(torch.nn.Parameter(torch.ones(1))) == exactly(1.0)
    assert "of shape (2,): log one number, such as its mean" in refused(torch.zeros(2))
    assert "of shape (0,): log one number" in refused(torch.zeros(0))
    assert "a torch.Tensor that cannot be read (" in refused(torch.zeros(1, device="meta"))
    assert "of dtype torch.complex64, which cannot be kept" in refused(torch.tensor(1j))


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (
            [1, 2],
            "a list, which cannot be kept: log one value a key, or one number, such as its mean, or a Histogram",
        ),
        ((1,), "a tuple, which cannot be kept: log one value a key"),
        (b"x", "a bytes, which cannot be kept: log text, such as value.decode()"),
        (1j, "a complex, which cannot be kept: log its real and imaginary parts under two keys"),
        (Decimal("0.1"), "a decimal.Decimal, which cannot be kept: log a number or a text, such as float(x) or str(x)"),
        (datetime.timedelta(1), "a datetime.timedelta, which cannot be kept"),
        (argparse.Namespace(lr=1), "an argparse.Namespace, which cannot be kept"),
        (print, "cannot be kept: nothing that is logged is called; log what it returns"),
        (float, "a type, which cannot be kept: nothing that is logged is called"),
        (np.zeros(3), "a numpy.ndarray of shape (3,): log one number, such as its mean, or a Histogram or Image"),
        (np.zeros((1, 0)), "a numpy.ndarray of shape (1, 0)"),
        (np.datetime64(1, "ns"), "a numpy.datetime64 of dtype datetime64[ns], which cannot be kept"),
        (np.array(1, "m8[ns]"), "of dtype timedelta64[ns], which cannot be kept"),
        (np.complex64(1), "of dtype complex64, which cannot be kept"),
        (np.array(None), "of dtype object, which cannot be kept"),
        (INT_MAX + 1, "an int of more than 64 bits: log float(x) or str(x)"),
        (INT_MIN - 1, "an int of more than 64 bits"),
        (np.array(2**70, dtype=object), "an int of more than 64 bits"),
        ("a\ud800", "a str with half of a surrogate pair, which no file can keep: remove it"),
        ("x" * (2**24 + 1), "a str of more than 16 MiB: log a shorter one, or a file"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused_with_what_to_do_and_the_rest_is_kept(value: object, why: str) -> None:
    assert why in refused(value)


def test_no_code_of_an_object_is_run_that_merely_looks_like_a_number() -> None:
    calls: list[str] = []

    class Tricky:
        def item(self) -> float:
            calls.append("item")
            return 1.0

        def __float__(self) -> float:
            calls.append("float")
            return 1.0

        def __repr__(self) -> str:
            calls.append("repr")
            return "Tricky"

        def __getattr__(self, name: str) -> object:
            calls.append(name)
            return 1

    class Liar(Tricky):
        @property  # type: ignore[misc]
        def __class__(self) -> type:
            return float

    for value in (Tricky(), Liar(), SimpleNamespace(item=lambda: calls.append("item"), shape=(), dtype="f8")):
        assert "which cannot be kept" in refused(value)
    assert not set(calls) - {"__class__"}
    mock = MagicMock()
    assert "cannot be kept" in refused(mock)
    assert not mock.method_calls


def test_an_array_is_believed_only_if_its_item_is_plain() -> None:
    class Array:
        shape, dtype = (1,), "strange"

        def __init__(self, item: object) -> None:
            self._item = item

        def item(self) -> object:
            if isinstance(self._item, Exception):
                raise self._item
            return self._item

    assert kept(Array(2.5)) == exactly(2.5)
    assert "of dtype strange, which cannot be kept" in refused(Array([1]))
    assert "that cannot be read (RuntimeError: on strike): log float(x)" in refused(Array(RuntimeError("on strike")))


def test_a_key_that_is_no_text_is_refused() -> None:
    good, bad = flatten({"a": 1, 7: 2, "n": {None: 3, (1, Loud(2)): 4}})  # type: ignore[dict-item]
    assert good == {"a": 1}
    assert bad == {
        "7": "'7' has a key that is an int, not a str: use str(key) if that is its name.",
        "n/None": "'n/None' has a key that is a NoneType, not a str: use str(key) if that is its name.",
        "n/<tuple>": "'n/<tuple>' has a key that is a tuple, not a str: use str(key) if that is its name.",
    }


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "is empty"),
        ("_step", "is reserved for a column that every history has: use another name, such as 'step'"),
        ("_timestamp", "such as 'timestamp'"),
        ("_runtime", "such as 'runtime'"),
        ("a\nb", "holds a control character"),
        ("a\x7f", "holds a control character"),
        ("a\udfff", "holds half of a surrogate pair"),
        ("é" * 513, "has 1026 bytes: use at most 1024"),
    ],
)
def test_a_key_that_cannot_be_a_column_is_refused(key: str, why: str) -> None:
    good, bad = flatten({key: 1, "fine": 2})
    assert good == {"fine": 2}
    assert why in bad[key]
    assert key_fault(key) == bad[key]


@pytest.mark.parametrize("key", ["_", "_steps", "a/_step", "step", "日本", "a b", "k" * 1024, "é" * 512])
def test_other_keys_are_fine(key: str) -> None:
    assert flatten({key: 1}) == ({key: 1}, {})


def test_an_empty_key_within_is_refused_and_a_str_subclass_is_a_plain_key() -> None:
    assert flatten({"a": {"": 1}})[1] == {"a/": "'a/' ends with an empty key: give it a name."}
    assert [type(key) for key in flatten({np.str_("k"): 1})[0]] == [str]


def test_a_name_that_two_values_have_is_an_error_and_the_first_is_kept() -> None:
    good, bad = flatten({"a": {"b": 1}, "a/b": 2})
    assert good == {"a/b": 1}
    assert bad == {"a/b": "'a/b' is given twice, once of them nested; the first value is kept: rename one."}


def test_a_dict_that_holds_itself_ends() -> None:
    loop: dict[str, Any] = {"x": 1}
    loop["loop"] = loop
    good, bad = flatten(loop)
    assert good["loop/x"] == 1
    assert next(iter(bad.values())).endswith("is nested more than 64 deep: does the dict hold itself?")


def test_a_mapping_that_breaks_when_it_is_read_costs_only_itself() -> None:
    class Broken(UserDict[str, Any]):
        def __iter__(self) -> Iterator[str]:
            raise RuntimeError("torn")

    good, bad = flatten({"a": 1, "b": Broken(x=1), "c": 2})
    assert good == {"a": 1, "c": 2}
    assert bad == {"b": "'b' is a mapping that cannot be read (RuntimeError: torn): log a dict."}


def test_names_values_and_frames_load_neither_numpy_nor_pyarrow() -> None:
    code = (
        "import sys; from rewind_logger.format import documents, frames, names, values; "
        "print(sorted({'numpy', 'pyarrow', 'torch', 'pandas'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
