"""The error tree: what it promises in `errors.py` is what it is."""

from __future__ import annotations

import builtins
import re

import pytest

from rewind_logger import errors

ERRORS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.RewindError)]
LINE = re.compile(r"^[│ ]*[├└]── (?P<name>\w+)(?: +\((?P<builtin>\w+)\))?", re.MULTILINE)


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn = {line["name"]: line["builtin"] for line in LINE.finditer(errors.__doc__ or "")}
    assert set(drawn) == {error.__name__ for error in ERRORS} - {"RewindError"}
    for name, builtin in drawn.items():
        if builtin is not None:
            assert getattr(builtins, builtin) in getattr(errors, name).__bases__


@pytest.mark.parametrize("error", ERRORS)
def test_each_error_but_the_root_can_be_caught_as_a_builtin_one(error: type[Exception]) -> None:
    first_builtin = next(base for base in error.__mro__ if base.__module__ == "builtins")
    assert (first_builtin is Exception) == (error is errors.RewindError)
