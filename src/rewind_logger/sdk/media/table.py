"""Tables."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import numpy as np

from rewind_logger.errors import ConfigError, CorruptError, LogValueError, RewindError
from rewind_logger.sdk import frames
from rewind_logger.sdk.media.arrays import is_array, to_array
from rewind_logger.sdk.media.media import Attach, Encoded, Media, check_size
from rewind_logger.sdk.media.recognise import media_of

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

    ArrowTable = pa.Table
else:
    ArrowTable = Any


class Table(Media):
    """A table: named columns, a row at a time or whole. It is kept as Parquet.

    A column has one type: numbers, bools, texts, times, lists and dicts of such, with None where there is nothing. One
    whose values are of several kinds, or of none of these, is kept as text. Cells may be media, other than tables, or
    lists of them: they are files of their own.

    Args:
        columns: Names of the columns; of data that has names of its own, which of them.
        data: Rows, each a sequence of cells or a dict; or an array of two dimensions; or a frame of pandas or polars,
            an Arrow table or the like.
        rows: Rows, as another name of `data`.
        dataframe: A frame, likewise.
        caption: A text to show with it.

    Raises:
        ConfigError: If rows and columns do not fit, or a name comes twice.

    Example:
        >>> table = Table(columns=["text", "score"], data=[["good", 0.9]])
        >>> table.add_data("bad", 0.2)
        >>> table.to_arrow().to_pylist()
        [{'text': 'good', 'score': 0.9}, {'text': 'bad', 'score': 0.2}]
    """

    kind: ClassVar[str] = "table"

    def __init__(
        self,
        columns: Sequence[str] | None = None,
        data: Any = None,
        rows: Any = None,
        dataframe: Any = None,
        *,
        caption: str | None = None,
    ) -> None:
        super().__init__(caption)
        given = [one for one in (data, rows, dataframe) if one is not None]
        if len(given) > 1:
            raise ConfigError("Table: give one of data, rows and dataframe.")
        found = given[0] if given else []
        self._frame: ArrowTable | None = None
        self._cells: dict[str, list[Any]] = {}
        if hasattr(type(found), "__arrow_c_stream__") or hasattr(type(found), "to_arrow"):
            self._take_frame(found, columns)
        else:
            self._take_rows(found, columns)

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        return list(self._cells) if self._frame is None else list(self._frame.column_names)

    @property
    def data(self) -> list[list[Any]]:
        """The rows."""
        cells = self._as_cells()
        return [list(row) for row in zip(*cells.values(), strict=True)]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self._cells.values()), ())) if self._frame is None else self._frame.num_rows

    def __repr__(self) -> str:
        return f"Table({len(self):,} rows, columns {', '.join(self.columns)})"

    def add_data(self, *cells: Any) -> None:
        """Add a row.

        Args:
            *cells: One a column.

        Raises:
            ConfigError: If there are more or fewer.
        """
        names = self.columns
        if len(cells) != len(names):
            raise ConfigError(f"Table: a row of {len(cells)} cells, for the {len(names)} columns {', '.join(names)}.")
        for column, cell in zip(self._as_cells().values(), cells, strict=True):
            column.append(cell)

    def add_column(self, name: str, data: Iterable[Any]) -> None:
        """Add a column.

        Args:
            name: Its name.
            data: A cell a row.

        Raises:
            ConfigError: If there are more or fewer than rows, or there is a column of that name.
        """
        column = list(to_array(data)) if is_array(data) else list(data)
        if self.columns and len(column) != len(self):
            raise ConfigError(f"Table: a column of {len(column)} cells, for {len(self)} rows.")
        if name in self.columns:
            raise ConfigError(f"Table: there is a column {name!r}.")
        self._as_cells()[str(name)] = column

    def to_arrow(self) -> ArrowTable:
        """Return it as an Arrow table."""
        return self._with({})

    def to_pandas(self) -> pd.DataFrame:
        """Return it as a pandas frame; ints and bools with missing values have pandas' nullable types.

        Raises:
            ConfigError: If pandas is not installed.
        """
        return frames.to_pandas(self.to_arrow())

    def to_polars(self) -> pl.DataFrame:
        """Return it as a polars frame.

        Raises:
            ConfigError: If polars is not installed.
        """
        return frames.to_polars(self.to_arrow())

    @classmethod
    def from_parquet(cls, data: bytes) -> Table:
        """Read one back.

        Raises:
            CorruptError: If the bytes are no Parquet file.
        """
        arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
        from rewind_logger.format.footer import check_file

        try:
            check_file(data)
            _check_texts(data)
            table = parquet.ParquetFile(arrow.BufferReader(data)).read(use_threads=False)
            table.validate(full=True)
            return cls(data=table)
        except RewindError:
            raise
        except Exception as error:  # the many that pyarrow has for damaged bytes
            shown = f"{type(error).__name__}: {str(error)[:200]}"
            raise CorruptError(f"The table is no Parquet file ({shown}).") from error

    def _encode(self, attach: Attach) -> Encoded:
        shown: dict[str, list[Any]] = {}
        found: list[dict[str, Any]] = []
        for name, cells in self._cells.items():
            if any(media_of(cell) is not None for cell in cells):
                shown[name] = [_told(cell, attach, found) for cell in cells]
        table = self._with(shown)
        check_size(table.nbytes // 16)  # before the work of writing one that is certainly too large
        buffer = io.BytesIO()
        try:
            importlib.import_module("pyarrow.parquet").write_table(table, buffer, compression="zstd")
        except importlib.import_module("pyarrow").ArrowException as error:
            raise LogValueError(f"is a table that Parquet cannot hold: {error}") from error
        data = buffer.getvalue()
        check_size(len(data))
        fields: dict[str, Any] = {"format": "parquet", "rows": table.num_rows, "columns": table.num_columns}
        if shown:  # the files are named beside the table too, so that nobody has to look into it for them
            fields["media_columns"] = list(shown)
            fields["files"] = [{"sha256": one["sha256"], "size": one["size"]} for one in found if "sha256" in one]
        return Encoded(fields, data)

    def _with(self, shown: dict[str, list[Any]]) -> ArrowTable:
        """Return it as an Arrow table, with other cells in some columns."""
        if self._frame is not None:
            return self._frame
        columns = {name: _column(cells) for name, cells in {**self._cells, **shown}.items()}
        table: ArrowTable = importlib.import_module("pyarrow").table(columns)
        return table

    def _take_frame(self, frame: Any, columns: Sequence[str] | None) -> None:
        arrow = importlib.import_module("pyarrow")
        names = [str(name) for name in getattr(frame, "column_names", getattr(frame, "columns", ()))]
        _check_names(names)
        wanted = names if columns is None else [str(name) for name in columns]
        if missing := [name for name in wanted if name not in names]:
            raise ConfigError(f"Table: there is no column {missing[0]!r}: it has {', '.join(names)}.")
        try:
            self._frame = (frame if isinstance(frame, arrow.Table) else _to_arrow(frame)).select(wanted)
        except arrow.ArrowException:  # a column of pandas with values of several kinds, or with pictures
            cells = {str(name): list(frame[name]) for name in frame.columns}
            self._cells = {name: cells[name] for name in wanted}

    def _take_rows(self, data: Any, columns: Sequence[str] | None) -> None:
        if is_array(data):
            data = to_array(data)
            if data.ndim != 2:
                raise ConfigError(f"Table: an array of shape {data.shape}; give rows × columns.")
        rows = [row if isinstance(row, dict) else list(row) for row in data]
        if columns is None:
            first = rows[0] if rows else []
            columns = list(first) if isinstance(first, dict) else [str(index) for index in range(len(first))]
        names = [str(name) for name in columns]
        _check_names(names)
        self._cells = {name: [] for name in names}
        for row in rows:
            self.add_data(*([row.get(name) for name in columns] if isinstance(row, dict) else row))

    def _as_cells(self) -> dict[str, list[Any]]:
        """Return the columns as lists, from now on."""
        if self._frame is not None:
            self._cells, self._frame = self._frame.to_pydict(), None
        return self._cells


def _check_names(names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"Table: there are two columns {name!r}: rename one.")


def _check_texts(data: bytes) -> None:
    """Refuse texts and bytes that are few as they are, each of them once, and very many as each cell has its own.

    Raises:
        CorruptError: If they are more than any table has that can be logged.
    """
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    from rewind_logger.format.columns import MAX_TEXT_BYTES, text_bytes

    file = parquet.ParquetFile(arrow.BufferReader(data))
    kept = {field.name for field in file.schema_arrow if arrow.types.is_dictionary(field.type)}
    leaves = [file.schema.column(i) for i in range(len(file.schema))]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and leaf.path not in kept]
    if not texts:
        return
    file = parquet.ParquetFile(arrow.BufferReader(data), read_dictionary=texts)
    total = 0
    for i in range(file.num_row_groups):  # one by one: pyarrow does not read lists of several otherwise
        columns = file.read_row_group(i, texts, use_threads=False).columns
        total += sum(text_bytes(one) for column in columns for chunk in column.chunks for one in _texts(chunk))
        if total >= MAX_TEXT_BYTES:
            raise CorruptError(f"Its cells have {total:,} bytes of text and more, and no table has {MAX_TEXT_BYTES:,}.")


def _texts(array: Any) -> Iterator[Any]:
    """Yield what an array has of texts and bytes, within lists and dicts too, where each is there once."""
    types = importlib.import_module("pyarrow").types
    if types.is_dictionary(array.type):
        yield array
    elif types.is_struct(array.type):
        for i in range(array.type.num_fields):
            yield from _texts(array.field(i))
    elif types.is_map(array.type):
        yield from (*_texts(array.keys), *_texts(array.items))
    elif types.is_nested(array.type):
        yield from _texts(array.values)


def _to_arrow(frame: Any) -> ArrowTable:
    """Return a frame of pandas, polars or the like; the index of pandas is left out."""
    arrow = importlib.import_module("pyarrow")
    if hasattr(frame, "iloc"):
        frame = arrow.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    elif hasattr(frame, "to_arrow"):
        frame = frame.to_arrow()
    table: ArrowTable = arrow.table(frame)
    return table


def _column(cells: list[Any]) -> Any:
    """Return the cells of a column as an array of Arrow."""
    arrow = importlib.import_module("pyarrow")
    plain = list(_plain(cells))
    try:
        return arrow.array(plain)
    except (arrow.ArrowException, OverflowError):
        return arrow.array([None if cell is None else str(cell) for cell in plain], arrow.string())


def _told(cell: Any, attach: Attach, found: list[dict[str, Any]]) -> str | None:
    """Return a cell of a column that has media as JSON text, None where it is empty; add its items to `found`."""
    if cell is None:
        return None
    media = media_of(cell)
    if media is None:
        return str(cell)
    items = [media] if isinstance(media, Media) else media
    if any(isinstance(item, Table) for item in items):
        raise LogValueError("is a table with a table in a cell: log that under a key of its own")
    records = [item._record(attach) for item in items]
    found += records
    return msgspec.json.encode(records[0] if isinstance(media, Media) else records).decode()


def _plain(cells: list[Any]) -> Iterator[Any]:
    """Yield cells as Arrow knows them."""
    for cell in cells:
        if isinstance(cell, np.generic):
            yield cell.item()
        elif is_array(cell):
            yield to_array(cell).tolist()
        else:
            yield cell
