"""What was printed, read back: one row a line, as it stood last."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import pyarrow as pa

from rewind_logger.errors import ConfigError
from rewind_logger.sdk.frames import to_pandas, to_polars

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

SOURCES = ("stdout", "stderr")


class _Line(NamedTuple):
    """A line as it stood last."""

    clock: int
    time_ms: int
    source: str
    text: str


class ConsoleHistory:
    """What was printed: one row a line, in the order in which the lines began.

    The columns are `_step`, the training step at which the line was last written to; `_timestamp`, likewise, in seconds
    since 1970-01-01 UTC; `source`, "stdout" or "stderr"; and `text`, with its colours. A progress bar is one line, as
    it stood last. One that was erased is left out.
    """

    def __init__(self, points: pa.Table, sources: Collection[str] | None = None) -> None:
        """Take the points as `history.reader.read` returns them.

        Args:
            points: Of the stream `console`.
            sources: "stdout", "stderr" or both; None for both.

        Raises:
            ConfigError: If there is no such source.
        """
        for source in sources or ():
            if source not in SOURCES:
                raise ConfigError(f"There is no source {source!r}: use 'stdout' or 'stderr'.")
        self._points = points
        self._sources = SOURCES if sources is None else tuple(sources)

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self._lines)

    def __str__(self) -> str:
        """Return the text, all lines of it."""
        return self.text()

    def __repr__(self) -> str:
        return f"ConsoleHistory({len(self):,} lines)"

    def text(self) -> str:
        """Return the lines as one text."""
        return "".join(f"{line.text}\n" for line in self._lines)

    def to_arrow(self) -> pa.Table:
        """Return the lines as an Arrow table."""
        lines = self._lines
        return pa.table(
            {
                "_step": pa.array([line.clock for line in lines], pa.int64()),
                "_timestamp": pa.array([line.time_ms / 1000 for line in lines], pa.float64()),
                "source": pa.array([line.source for line in lines], pa.string()),
                "text": pa.array([line.text for line in lines], pa.string()),
            }
        )

    def to_polars(self) -> pl.DataFrame:
        """Return the lines as a polars frame.

        Raises:
            ConfigError: If polars is not installed.
        """
        return to_polars(self.to_arrow())

    def to_pandas(self) -> pd.DataFrame:
        """Return the lines as a pandas frame.

        Raises:
            ConfigError: If pandas is not installed.
        """
        return to_pandas(self.to_arrow())

    def to_long(self, kind: str = "pandas") -> NoReturn:
        """Refuse: a line has one text, and so the one form.

        Raises:
            ConfigError: Always.
        """
        raise ConfigError("What was printed has no long form, one row a line is all there is: use to_pandas().")

    @cached_property
    def _lines(self) -> list[_Line]:
        """Each line where its first state stands, as its last state says."""
        columns = [self._points[name].to_pylist() for name in ("entry", "row", "key", "clock", "time", "value", "text")]
        texts: dict[tuple[int, int], _Line] = {}
        numbers: dict[tuple[int, int], int] = {}
        for entry, row, key, clock, time_ms, value, text in zip(*columns, strict=True):
            if key == "line" and value is not None and math.isfinite(value):
                numbers[entry, row] = int(value)
            elif key in self._sources and text is not None:
                texts[entry, row] = _Line(clock, time_ms, key, text)
        lines: dict[object, _Line] = {}
        erased: set[object] = set()
        for at, line in texts.items():
            # A line without a number has this state only.
            number: object = (line.source, numbers[at]) if at in numbers else at
            before = lines.get(number)
            lines[number] = line
            if line.text:
                erased.discard(number)
            elif before is not None and before.text:
                erased.add(number)
        return [line for number, line in lines.items() if number not in erased]
