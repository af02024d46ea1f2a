"""What each kind of media takes, and what is read back."""

from __future__ import annotations

import io
import pickle
import secrets
import wave
from collections.abc import Callable
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
from matplotlib.figure import Figure

from rewind_logger import Audio, ConfigError, Histogram, Html, Image, Table, Text, Video, init, open_store
from rewind_logger.sdk.media import image, media
from rewind_logger.sdk.media.stored import StoredMedia


def kept(url: str, value: Any) -> StoredMedia:
    """Log one thing and read it back."""
    with init(dir=url, project="p") as run:
        run.log({"x": value})
    [found] = open_store(url).run(f"p/{run.id}").media()
    return found


def refused(url: str, value: Any, caplog: pytest.LogCaptureFixture) -> str:
    """Log one thing that cannot be kept; return what is said of it."""
    with init(dir=url, project="p") as run:
        run.log({"x": value, "loss": 1.0})
    stored = open_store(url).run(f"p/{run.id}")
    assert (len(stored.media()), len(stored.history())) == (0, 1), "the rest of the row is kept"
    [said] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    return said.removeprefix("A value was not logged: ")


@pytest.fixture
def url() -> str:
    return f"memory://test-{secrets.token_hex(6)}"


GREY = np.arange(12, dtype=np.uint8).reshape(3, 4)
RGB = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
RGBA = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)


class TestImage:
    @pytest.mark.parametrize("pixels", [GREY, RGB, RGBA])
    def test_bytes_are_kept_exactly(self, pixels: Any, url: str) -> None:
        found = kept(url, Image(pixels, caption="here"))
        assert (found.kind, found.caption) == ("image", "here")
        assert {name: found.metadata[name] for name in ("format", "width", "height")} == {
            "format": "png",
            "width": 4,
            "height": 3,
        }
        assert np.array_equal(found.to_numpy(), pixels)

    def test_one_channel_is_grey(self, url: str) -> None:
        assert np.array_equal(kept(url, Image(GREY[:, :, None])).to_numpy(), GREY)

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_a_tensor_has_its_channels_first(self, channels: int, url: str) -> None:
        tensor = torch.arange(channels * 12, dtype=torch.uint8).reshape(channels, 3, 4)
        expected = np.moveaxis(tensor.numpy(), 0, 2)
        assert np.array_equal(kept(url, Image(tensor)).to_numpy(), expected[:, :, 0] if channels == 1 else expected)

    def test_channels_that_could_be_at_either_end(self, url: str) -> None:
        pixels = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
        assert np.array_equal(kept(url, Image(pixels)).to_numpy(), pixels)
        assert np.array_equal(kept(url, Image(torch.from_numpy(pixels))).to_numpy(), np.moveaxis(pixels, 0, 2))

    def test_the_other_order_is_taken_where_only_that_fits(self, url: str) -> None:
        first = np.zeros((3, 5, 7), np.uint8)
        assert kept(url, Image(first)).to_numpy().shape == (5, 7, 3)
        assert kept(url, Image(torch.zeros(5, 7, 3, dtype=torch.uint8))).to_numpy().shape == (5, 7, 3)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
    def test_floats_are_from_0_to_1(self, dtype: torch.dtype, url: str) -> None:
        tensor = torch.tensor([[0.0, 0.5, 1.0]], dtype=dtype, requires_grad=True)
        assert kept(url, Image(tensor)).to_numpy().tolist() == [[0, 128, 255]]

    def test_a_little_more_than_1_changes_nothing_else(self, url: str) -> None:
        assert kept(url, Image(np.array([[-1e-6, 0.5, 1.0001]]))).to_numpy().tolist() == [[0, 128, 255]]

    def test_another_range_is_stretched_or_cut_off(self, url: str) -> None:
        values = np.array([[-1.0, 0.5, 3.0]])
        assert kept(url, Image(values)).to_numpy().tolist() == [[0, 96, 255]]
        assert kept(url, Image(values, normalize=False)).to_numpy().tolist() == [[0, 128, 255]]

    def test_values_that_are_no_numbers_are_black_or_white(self, url: str) -> None:
        values = np.array([[np.nan, -np.inf, np.inf, 0.5]])
        assert kept(url, Image(values)).to_numpy().tolist() == [[0, 0, 255, 128]]

    def test_bools_and_other_ints(self, url: str) -> None:
        assert kept(url, Image(np.array([[True, False]]))).to_numpy().tolist() == [[255, 0]]
        assert kept(url, Image(np.array([[0, 7, 255]]))).to_numpy().tolist() == [[0, 7, 255]]

    def test_a_picture_of_pillow_also_without_an_image_around_it(self, url: str) -> None:
        picture = PIL.Image.fromarray(RGB)
        for value in (picture, Image(picture)):
            assert np.array_equal(kept(url, value).to_numpy(), RGB)
        assert kept(url, Image(picture, mode="L")).to_pil().mode == "L"

    def test_a_figure_also_without_an_image_around_it(self, url: str) -> None:
        figure = Figure(figsize=(2, 1), dpi=50)
        figure.subplots().plot([1, 2])
        for value in (figure, Image(figure, caption="a line")):
            assert kept(url, value).to_pil().size == (100, 50)

    def test_pyplot_is_its_present_figure(self, url: str) -> None:
        from matplotlib import pyplot

        pyplot.switch_backend("agg")
        pyplot.figure(figsize=(1, 1), dpi=30)
        try:
            assert kept(url, pyplot).to_pil().size == (30, 30)
        finally:
            pyplot.close("all")

    @pytest.mark.parametrize(("file_type", "format"), [("jpg", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
    def test_other_formats(self, file_type: str, format: str, url: str) -> None:
        found = kept(url, Image(RGBA, file_type=file_type))
        assert found.metadata["format"] == file_type.replace("jpeg", "jpg") and found.to_pil().format == format

    def test_a_file_is_kept_as_it_is(self, url: str, tmp_path: Path) -> None:
        file = tmp_path / "a.JPEG"
        PIL.Image.fromarray(RGB).save(file)
        found = kept(url, Image(str(file)))
        assert found.read() == file.read_bytes()
        assert (found.metadata["format"], found.metadata["width"]) == ("jpg", 4)

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            (np.zeros((2, 3, 5)), "is an array of shape (2, 3, 5), and a picture is height × width, with 1, 3 or 4"),
            (torch.zeros(8, 3, 4, 4), "of several pictures make a list of Images."),
            (np.zeros((0, 4)), "is an empty picture"),
            (np.array([["a"]]), "has the dtype <U1"),
            ("nowhere.png", "is the file nowhere.png, which cannot be read: No such file or directory."),
            ("a.txt", "is the file 'a.txt', whose suffix is none of bmp, gif, "),
            (object(), "is an Image of type object: give an array, a picture or a path."),
        ],
    )
    def test_what_is_none_is_reported(self, value: Any, said: str, url: str, caplog: pytest.LogCaptureFixture) -> None:
        assert said in refused(url, Image(value), caplog)

    def test_one_that_is_too_large(
        self, url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(image, "MAX_PIXELS", 100)
        assert "is a picture of 20 × 10" in refused(url, Image(np.zeros((10, 20))), caplog)
        caplog.clear()
        monkeypatch.setattr(media, "MAX_BYTES", 50)
        assert "and media have at most 50" in refused(url, Image(np.zeros((9, 9))), caplog)

    def test_without_pillow_the_message_says_what_to_install(
        self, url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
        said = refused(url, Image(GREY), caplog)
        assert said == "'x' was not logged: Pillow is not installed: `pip install 'rewind-logger[media]'`."

    def test_a_format_that_there_is_not(self) -> None:
        with pytest.raises(ConfigError, match="use one of png, jpg"):
            Image(GREY, file_type="tga")


class TestHistogram:
    def test_counts_and_edges_are_exactly_those_of_numpy(self, url: str) -> None:
        values = np.random.default_rng(0).normal(size=1000)
        counts, edges = np.histogram(values, 64)
        found = kept(url, Histogram(values)).to_numpy()
        assert np.array_equal(found.counts, counts) and np.array_equal(found.edges, edges)

    def test_a_tensor_of_any_shape(self, url: str) -> None:
        values = torch.tensor([[0.0, 1.0], [1.0, 2.0]], requires_grad=True)
        found = kept(url, Histogram(values, num_bins=2, caption="weights"))
        assert (found.to_numpy().counts.tolist(), found.to_numpy().edges.tolist()) == ([1, 3], [0.0, 1.0, 2.0])
        assert found.caption == "weights" and "sha256" not in found.metadata, "numbers, and no picture"

    def test_counts_and_edges_of_any_width(self, url: str) -> None:
        given = (np.array([1, 2, 3]), np.array([0.0, 0.1, 1.0, 10.0]))
        found = kept(url, Histogram(np_histogram=given)).to_numpy()
        assert all(np.array_equal(one, other) for one, other in zip(found, given, strict=True))
        again = kept(url, Histogram(np_histogram=found)).to_numpy()
        assert np.array_equal(again.edges, given[1])

    def test_nan_and_infinities_are_counted_apart(self, url: str) -> None:
        found = kept(url, Histogram([0.0, 1.0, float("nan"), float("inf")], num_bins=1))
        assert found.to_numpy().counts.tolist() == [2]
        assert found.metadata["left_out"] == 2

    def test_without_values_all_counts_are_zero(self, url: str) -> None:
        assert kept(url, Histogram([])).to_numpy().counts.sum() == 0

    def test_bools_and_half_precision(self) -> None:
        assert Histogram(np.array([True, False, True]), num_bins=2).counts.tolist() == [1, 2]
        assert Histogram(np.array([-60000, 60000], np.float16), num_bins=2).counts.tolist() == [1, 1]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({}, "either"),
            ({"sequence": [1], "np_histogram": ([1], [0, 1])}, "either"),
            ({"sequence": [1], "num_bins": 0}, "num_bins=0"),
            ({"sequence": [1], "num_bins": 5000}, "num_bins=5000"),
            ({"np_histogram": ([1, 2], [0, 1])}, "n counts and n [+] 1 edges"),
            ({"np_histogram": ([1], [1, 0])}, "ascend"),
        ],
    )
    def test_what_is_none_is_refused(self, arguments: dict[str, Any], said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            Histogram(**arguments)


class TestTable:
    def test_rows_and_columns(self, url: str) -> None:
        table = Table(columns=["text", "score"], data=[["good", 0.9], ["bad", None]])
        table.add_data("ugly", 0.1)
        table.add_column("n", np.arange(3))
        found = kept(url, table)
        assert (found.metadata["rows"], found.metadata["columns"], found.metadata["format"]) == (3, 3, "parquet")
        back = found.to_table()
        assert back.columns == ["text", "score", "n"]
        assert back.data == [["good", 0.9, 0], ["bad", None, 1], ["ugly", 0.1, 2]]

    def test_any_engine_reads_it(self, url: str, tmp_path: Path) -> None:
        file = kept(url, Table(columns=["a"], data=[[1], [2]])).save(tmp_path)
        assert file.name == "x_0_0.parquet"
        assert pl.read_parquet(file)["a"].to_list() == [1, 2]

    def test_frames_of_pandas_polars_and_arrow(self, url: str) -> None:
        data: dict[str, Any] = {"a": [1, 2], "b": ["x", "y"], "when": [datetime(2026, 1, 1), datetime(2026, 1, 2)]}
        for frame in (pd.DataFrame(data), pl.DataFrame(data), pa.table(data)):
            for argument in ("data", "dataframe"):
                arguments: dict[str, Any] = {argument: frame}
                back = kept(url, Table(**arguments)).to_table()
                assert back.to_pandas().to_dict("list") == pd.DataFrame(data).to_dict("list")
                assert back.to_polars().to_dict(as_series=False) == data

    def test_some_columns_of_a_frame(self) -> None:
        frame = pd.DataFrame({"a": [1], "b": [2]})
        assert Table(columns=["b"], dataframe=frame).columns == ["b"]
        with pytest.raises(ConfigError, match="no column 'c': it has a, b"):
            Table(columns=["c"], dataframe=frame)

    @pytest.mark.parametrize("library", [pd, pl])
    def test_a_frame_also_without_a_table_around_it(self, library: Any, url: str) -> None:
        found = kept(url, library.DataFrame({"a": [1, 2], "b": ["x", "y"]}))
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

    def test_cells_of_several_kinds_become_texts(self, url: str) -> None:
        table = Table(columns=["a", "b"], data=[[1, "x"], ["two", object], [None, 3.5]])
        assert [row[0] for row in kept(url, table).to_table().data] == ["1", "two", None]
        mixed = Table(dataframe=pd.DataFrame({"a": [1, "two"]}))
        assert kept(url, mixed).to_table().data == [["1"], ["two"]]

    def test_cells_of_arrays_and_tensors(self, url: str) -> None:
        table = Table(columns=["a", "b"], data=[[np.float32(0.5), torch.tensor([1, 2])]])
        assert kept(url, table).to_table().data == [[0.5, [1, 2]]]

    def test_a_table_is_kept_as_it_was_when_it_was_logged(self, url: str) -> None:
        table = Table(columns=["a"])
        with init(dir=url, project="p", id="grows") as run:
            for step in range(3):
                table.add_data(step)
                run.log({"t": table})
        found = open_store(url).run("p/grows").media("t")
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

    def test_cells_may_be_media(self, url: str) -> None:
        table = Table(columns=["picture", "guess"])
        for number in range(3):
            table.add_data(Image(GREY + number, caption=f"{number}"), number)
        table.add_data(None, 7)
        table.add_data([PIL.Image.fromarray(RGB), Text("a note")], 8)
        found = kept(url, table)
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

    def test_pictures_in_a_column_of_pandas(self, url: str) -> None:
        frame = pd.DataFrame({"picture": [PIL.Image.fromarray(RGB)] * 2, "guess": [1, 2]})
        found = kept(url, Table(dataframe=frame))
        assert [item.index for item in found.media("picture")] == [0, 1]
        assert [row[1] for row in found.to_table().data] == [1, 2]

    def test_a_table_in_a_cell_is_reported(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        said = refused(url, Table(columns=["a"], data=[[Table(columns=["b"])]]), caplog)
        assert said == "'x' is a table with a table in a cell: log that under a key of its own."

    def test_a_cell_that_cannot_be_converted_is_reported(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        said = refused(url, Table(columns=["a"], data=[[Image(np.zeros((2, 3, 5)))]]), caplog)
        assert said.startswith("'x' is an array of shape (2, 3, 5)")


class TestTextAndHtml:
    @pytest.mark.parametrize("text", ["short", "größer ✓", "long " * 10_000, ""])
    def test_a_text_of_any_length(self, text: str, url: str, tmp_path: Path) -> None:
        found = kept(url, Text(text, caption="a sample"))
        assert (found.kind, found.caption, found.to_text()) == ("text", "a sample", text)
        assert found.save(tmp_path).read_text("utf-8") == text

    def test_html_from_a_text_and_from_a_file(self, url: str, tmp_path: Path) -> None:
        page = tmp_path / "page.html"
        page.write_text("<b>bold</b>")
        for value in (Html("<b>bold</b>"), Html(page), Html(str(page))):
            assert kept(url, value).to_text() == "<b>bold</b>"
        assert kept(url, Html("see x.html", False, True, caption="a page")).to_text() == "see x.html"

    def test_what_is_no_text_is_reported(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        assert refused(url, Text(5), caplog) == "'x' is of type int, and no text."  # type: ignore[arg-type]


class TestAudio:
    def test_int16_is_kept_exactly(self, url: str) -> None:
        samples = np.arange(-50, 50, dtype=np.int16).reshape(50, 2)
        found = kept(url, Audio(samples, sample_rate=100, caption="a ramp"))
        assert np.array_equal(found.to_numpy(), samples)
        assert (found.metadata["sample_rate"], found.metadata["duration"], found.caption) == (100, 0.5, "a ramp")
        with wave.open(io.BytesIO(found.read())) as file:
            assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (100, 2, 50)

    def test_floats_are_from_minus_1_to_1(self, url: str) -> None:
        found = kept(url, Audio([0.0, 0.5, -1.0, 2.0, float("nan")], sample_rate=8000)).to_numpy()
        assert found[:, 0].tolist() == [0, 16384, -32767, 32767, 0]

    def test_a_tensor_has_its_channels_first(self, url: str) -> None:
        assert kept(url, Audio(torch.zeros(2, 30), sample_rate=8000)).to_numpy().shape == (30, 2)

    def test_a_file_is_kept_as_it_is(self, url: str, tmp_path: Path) -> None:
        file = tmp_path / "a.mp3"
        file.write_bytes(b"ID3...")
        found = kept(url, Audio(file))
        assert (found.read(), found.metadata["format"]) == (b"ID3...", "mp3")

    def test_without_a_sample_rate(self) -> None:
        with pytest.raises(ConfigError, match="needs its samples a second"):
            Audio(np.zeros(5))

    def test_what_is_none_is_reported(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        assert "is a sound of shape (2, 3, 4)" in refused(url, Audio(np.zeros((2, 3, 4)), 8000), caplog)


class TestVideo:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_pictures_become_a_gif(self, channels: int, url: str) -> None:
        frames = np.zeros((4, channels, 6, 8), np.uint8)
        for number in range(4):
            frames[number] = 60 * number
        found = kept(url, Video(frames, fps=10, caption="brighter"))
        assert (found.metadata["format"], found.metadata["frames"], found.caption) == ("gif", 4, "brighter")
        back = found.to_numpy()
        assert back.shape == (4, 6, 8, 3)
        assert [int(frame.mean()) for frame in back] == [0, 60, 120, 180]
        assert found.to_pil().info["duration"] == 100

    def test_channels_may_come_last(self, url: str) -> None:
        assert kept(url, Video(torch.rand(2, 6, 8, 3))).to_numpy().shape == (2, 6, 8, 3)

    def test_a_file_is_kept_as_it_is(self, url: str, tmp_path: Path) -> None:
        file = tmp_path / "a.mp4"
        file.write_bytes(b"....ftyp")
        assert kept(url, Video(str(file))).read() == b"....ftyp"

    def test_only_files_are_anything_else(self) -> None:
        with pytest.raises(ConfigError, match="Give the path of a file"):
            Video(np.zeros((1, 1, 2, 2)), format="mp4")

    def test_what_is_none_is_reported(self, url: str, caplog: pytest.LogCaptureFixture) -> None:
        assert "is a film of shape (2, 2)" in refused(url, Video(np.zeros((2, 2))), caplog)


def test_what_a_kind_cannot_give_is_said(url: str) -> None:
    found = kept(url, Text("a"))
    for method in (found.to_pil, found.to_table, found.to_numpy):
        with pytest.raises(ConfigError, match=r"'x' of step 0 of run p/.* is no .* but a text"):
            method()
    with pytest.raises(ConfigError, match="is no file but a histogram"):
        kept(url, Histogram([1, 2])).read()


@pytest.mark.parametrize(
    ("make", "instead"),
    [
        (lambda **named: Image(np.zeros((2, 2)), **named), {"masks": "draw them", "boxes": "draw them"}),
        (lambda **named: Image(np.zeros((2, 2)), **named), {"classes": "draw them", "grouping": "a list of images"}),
        (lambda **named: Table(["a"], **named), {"allow_mixed_types": "may hold anything", "dtype": "may hold"}),
    ],
)
def test_what_media_of_wandb_take_beyond_ours_is_refused_with_what_to_do(
    make: Callable[..., Any], instead: dict[str, str]
) -> None:
    for name, told in instead.items():
        with pytest.raises(ConfigError, match=f"has no argument '{name}' as W&B has.*{told}"):
            make(**{name: {}})
    with pytest.raises(TypeError):
        make(misspelt=1)
    assert pickle.loads(pickle.dumps(make(caption="kept"))).caption == "kept"
