"""What a table takes, and what is read back."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import polars as pl
import pyarrow as pa
import pytest
import torch

from rewind_logger import ConfigError, Image, Table, Text, init, open_store
from tests.sdk.media.logged import GREY, RGB, kept, refused


class TestTable:
    def test_rows_and_columns(self, memory_url: str) -> None:
        table = Table(columns=["text", "score"], data=[["good", 0.9], ["bad", None]])
        table.add_data("ugly", 0.1)
        table.add_column("n", np.arange(3))
        found = kept(memory_url, table)
        assert (found.metadata["rows"], found.metadata["columns"], found.metadata["format"]) == (3, 3, "parquet")
        back = found.to_table()
        assert back.columns == ["text", "score", "n"]
        assert back.data == [["good", 0.9, 0], ["bad", None, 1], ["ugly", 0.1, 2]]

    def test_any_engine_reads_it(self, memory_url: str, tmp_path: Path) -> None:
        file = kept(memory_url, Table(columns=["a"], data=[[1], [2]])).save(tmp_path)
        assert file.name == "x_0_0.parquet"
        assert pl.read_parquet(file)["a"].to_list() == [1, 2]

    def test_frames_of_pandas_polars_and_arrow(self, memory_url: str) -> None:
        data: dict[str, Any] = {"a": [1, 2], "b": ["x", "y"], "when": [datetime(2026, 1, 1), datetime(2026, 1, 2)]}
        for frame in (pd.DataFrame(data), pl.DataFrame(data), pa.table(data)):
            for argument in ("data", "dataframe"):
                arguments: dict[str, Any] = {argument: frame}
                back = kept(memory_url, Table(**arguments)).to_table()
                assert back.to_pandas().to_dict("list") == pd.DataFrame(data).to_dict("list")
                assert back.to_polars().to_dict(as_series=False) == data

    def test_some_columns_of_a_frame(self) -> None:
        frame = pd.DataFrame({"a": [1], "b": [2]})
        assert Table(columns=["b"], dataframe=frame).columns == ["b"]
        with pytest.raises(ConfigError, match="no column 'c': it has a, b"):
            Table(columns=["c"], dataframe=frame)

    @pytest.mark.parametrize("library", [pd, pl])
    def test_a_frame_also_without_a_table_around_it(self, library: Any, memory_url: str) -> None:
        found = kept(memory_url, library.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
        assert found.kind == "table" and found.to_table().to_arrow().to_pydict() == {"a": [1, 2], "b": ["x", "y"]}

    def test_a_frame_can_be_added_to(self) -> None:
        table = Table(dataframe=pd.DataFrame({"a": [1]}))
        table.add_data(2)
        assert table.data == [[1], [2]] and len(table) == 2

    def test_dicts_and_arrays(self) -> None:
        assert Table(data=[{"a": 1, "b": 2}, {"b": 3}]).to_arrow().to_pylist() == [
            {"a": 1, "b": 2},
            {"a": None, "b": 3},
        ]
        assert Table(columns=["x", "y"], data=np.eye(2)).data == [[1.0, 0.0], [0.0, 1.0]]

    def test_cells_of_several_kinds_become_texts(self, memory_url: str) -> None:
        table = Table(columns=["a", "b"], data=[[1, "x"], ["two", object], [None, 3.5]])
        assert [row[0] for row in kept(memory_url, table).to_table().data] == ["1", "two", None]
        mixed = Table(dataframe=pd.DataFrame({"a": [1, "two"]}))
        assert kept(memory_url, mixed).to_table().data == [["1"], ["two"]]

    def test_cells_of_arrays_and_tensors(self, memory_url: str) -> None:
        table = Table(columns=["a", "b"], data=[[np.float32(0.5), torch.tensor([1, 2])]])
        assert kept(memory_url, table).to_table().data == [[0.5, [1, 2]]]

    def test_a_table_is_kept_as_it_was_when_it_was_logged(self, memory_url: str) -> None:
        table = Table(columns=["a"])
        with init(dir=memory_url, project="p", id="grows") as run:
            for step in range(3):
                table.add_data(step)
                run.log({"t": table})
        found = open_store(memory_url).run("p/grows").media("t")
        assert [len(item.to_table()) for item in found] == [1, 2, 3]

    def test_what_does_not_fit_is_refused(self) -> None:
        table = Table(columns=["a", "b"])
        with pytest.raises(ConfigError, match="a row of 1 cells, for the 2 columns a, b"):
            table.add_data(1)
        table.add_data(1, 2)
        with pytest.raises(ConfigError, match="a column of 2 cells, for 1 rows"):
            table.add_column("c", [1, 2])
        with pytest.raises(ConfigError, match="there is a column 'a'"):
            table.add_column("a", [1])
        with pytest.raises(ConfigError, match="two columns 'a'"):
            Table(columns=["a", "a"])
        with pytest.raises(ConfigError, match="one of data, rows and dataframe"):
            Table(data=[[1]], rows=[[1]])

    def test_cells_may_be_media(self, memory_url: str) -> None:
        table = Table(columns=["picture", "guess"])
        for number in range(3):
            table.add_data(Image(GREY + number, caption=f"{number}"), number)
        table.add_data(None, 7)
        table.add_data([PIL.Image.fromarray(RGB), Text("a note")], 8)
        found = kept(memory_url, table)
        assert [row[1] for row in found.to_table().data] == [0, 1, 2, 7, 8]
        pictures = found.media("picture")
        assert [(item.index, item.kind, item.caption) for item in pictures] == [
            (0, "image", "0"),
            (1, "image", "1"),
            (2, "image", "2"),
            (4, "image", None),
            (4, "text", None),
        ]
        assert all(np.array_equal(pictures[number].to_numpy(), GREY + number) for number in range(3))
        assert (pictures[0].key, pictures[0].step) == ("x/picture", 0)
        with pytest.raises(ConfigError, match="is no table with media in a column 'guess'"):
            found.media("guess")

    def test_pictures_in_a_column_of_pandas(self, memory_url: str) -> None:
        frame = pd.DataFrame({"picture": [PIL.Image.fromarray(RGB)] * 2, "guess": [1, 2]})
        found = kept(memory_url, Table(dataframe=frame))
        assert [item.index for item in found.media("picture")] == [0, 1]
        assert [row[1] for row in found.to_table().data] == [1, 2]

    def test_a_table_in_a_cell_is_reported(self, memory_url: str, caplog: pytest.LogCaptureFixture) -> None:
        said = refused(memory_url, Table(columns=["a"], data=[[Table(columns=["b"])]]), caplog)
        assert said == "'x' is a table with a table in a cell: log that under a key of its own."

    def test_a_cell_that_cannot_be_converted_is_reported(
        self, memory_url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        said = refused(memory_url, Table(columns=["a"], data=[[Image(np.zeros((2, 3, 5)))]]), caplog)
        assert said.startswith("'x' is an array of shape (2, 3, 5)")
