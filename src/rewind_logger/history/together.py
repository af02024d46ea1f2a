"""What is read, sent or removed at the same time: as much as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

T = TypeVar("T")


def together(items: Iterable[T], size_of: Callable[[T], int], limit: int) -> Iterator[list[T]]:
    """Split items, in their order, into groups of a bounded size.

    Args:
        items: Taken one at a time, when the group before was dealt with.
        size_of: Returns what one adds, such as its bytes.
        limit: Of what the items of a group add (inclusive); one that alone is larger is a group of its own.

    Example:
        >>> list(together([3, 1, 4, 1, 5, 9, 2], int, 5))
        [[3, 1], [4, 1], [5], [9], [2]]
    """
    group: list[T] = []
    total = 0
    for item in items:
        size = size_of(item)
        if group and total + size > limit:
            yield group
            group, total = [], 0
        group.append(item)
        total += size
    if group:
        yield group


def batches(items: Iterable[T], limit: int) -> Iterator[list[T]]:
    """Split items, in their order, into lists of at most `limit`; they are taken as `together` does."""
    left = iter(items)
    while batch := list(islice(left, limit)):
        yield batch
