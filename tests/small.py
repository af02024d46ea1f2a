"""Thresholds made small: what takes thousands of rows, flushes or openings happens after a few."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from rewind_logger.format import names
from rewind_logger.history import compact, cumulative, opening, view


def make_small(
    replace: Callable[[ModuleType, str, object], None] = setattr,
    *,
    fan_in: int = 2,
    lineage: int = 3,
    planned_files: int = 1,
    group_size: int = 3,
) -> None:
    """Compact and merge, write snapshots, look beyond a plan and begin another folder after a few.

    Args:
        replace: `setattr`, or that of a `monkeypatch`, which takes it back at the end of its test.
        fan_in: Segments of a level that become one.
        lineage: Ancestors that are not merged yet.
        planned_files: That a base names.
        group_size: Flushes whose segments lie in one folder.
    """
    for module, name, value in (
        (compact, "FAN_IN", fan_in),
        (compact, "CLOSING_PARTS", 2),
        (view, "LONG_LINEAGE", lineage),
        (cumulative, "DUE_SEGMENTS", 2),
        (cumulative, "CLOSING_SEGMENTS", 1),
        (cumulative, "DUE_SHARE", 0.0),
        (opening, "PLANNED_FILES", planned_files),
        (names, "GROUP_SIZE", group_size),
    ):
        replace(module, name, value)
