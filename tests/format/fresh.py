"""Aggregates by the plain rule: from all values of a metric, one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction

from rewind_logger.format.aggregates import Aggregate, Aggregates
from rewind_logger.types import Scalar
from tests.format.strategies import exactly


def fresh(rows: Iterable[Mapping[str, Scalar]]) -> dict[str, Aggregate]:
    """Return the aggregates of rows, from nothing but the rows."""
    values: dict[str, list[Scalar]] = {}
    for row in rows:
        for key, value in row.items():
            values.setdefault(key, []).append(value)
    return {key: _of(found) for key, found in values.items()}


def _of(values: list[Scalar]) -> Aggregate:
    numbers = [value for value in values if not isinstance(value, str) and not math.isnan(value)]
    return Aggregate(
        count=len(numbers),
        mean=_mean(numbers),
        min=min(numbers, default=None),
        max=max(numbers, default=None),
        first=values[0],
        last=values[-1],
    )


def _mean(numbers: list[float]) -> float | None:
    if not numbers:
        return None
    if any(math.isinf(number) for number in numbers):
        return sum(number for number in numbers if math.isinf(number))
    return float(sum(map(Fraction, numbers)) / len(numbers))


def check(found: Aggregates, rows: Iterable[Mapping[str, Scalar]]) -> None:
    """See that aggregates are those of these rows: everything exactly, the mean up to roundings of the sum."""
    rows = list(rows)
    expected = fresh(rows)
    known = found.get(expected.keys())
    assert {key: _exact(one) for key, one in known.items()} == {key: _exact(one) for key, one in expected.items()}
    assert len(found) == len(expected)
    for key, one in expected.items():
        magnitudes = [abs(value) for row in rows if key in row and not isinstance(value := row[key], str)]
        _check_mean(known[key].mean, one.mean, [value for value in magnitudes if math.isfinite(value)])


def _check_mean(found: float | None, expected: float | None, magnitudes: list[float]) -> None:
    if found is None or expected is None or not math.isfinite(expected):
        assert str(found) == str(expected)
        return
    size = sum(map(Fraction, magnitudes)) / len(magnitudes)
    # Half a unit of the last place for each int that no float holds, another for the result; and what is too small.
    allowed = abs(Fraction(expected)) * 2 / 2**53 + size / 2**52 * any(m >= 2**53 for m in magnitudes)
    assert abs(Fraction(found) - Fraction(expected)) <= allowed + size / 2**80 + Fraction(1, 10**300)


def _exact(one: Aggregate) -> tuple[object, ...]:
    ends = (one.min, one.max, one.first, one.last)
    return (one.count, *(None if value is None else exactly(value) for value in ends))
