"""Short ways to read what was logged, for tests."""

from __future__ import annotations

from typing import Any

from rewind_logger import open_store
from rewind_logger.types import Scalar


def rows(url: str, name: str, **options: Any) -> list[dict[str, Scalar]]:
    """The rows of a run without their times, missing values left out."""
    table = open_store(url).run(name).history(**options).to_arrow().drop_columns("_timestamp")
    return [{key: value for key, value in row.items() if value is not None} for row in table.to_pylist()]


def column(url: str, name: str, key: str) -> dict[int, Scalar]:
    """The values of one metric by step."""
    return {int(row["_step"]): row[key] for row in rows(url, name) if key in row}
