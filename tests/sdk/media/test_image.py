"""What a picture takes, and what is read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from matplotlib.figure import Figure

from rewind_logger import ConfigError, Image
from rewind_logger.sdk.media import image, media
from tests.sdk.media.logged import GREY, RGB, RGBA, kept, refused


class TestImage:
    @pytest.mark.parametrize("pixels", [GREY, RGB, RGBA])
    def test_bytes_are_kept_exactly(self, pixels: Any, memory_url: str) -> None:
        found = kept(memory_url, Image(pixels, caption="here"))
        assert (found.kind, found.caption) == ("image", "here")
        assert {name: found.metadata[name] for name in ("format", "width", "height")} == {
            "format": "png",
            "width": 4,
            "height": 3,
        }
        assert np.array_equal(found.to_numpy(), pixels)

    def test_one_channel_is_grey(self, memory_url: str) -> None:
        assert np.array_equal(kept(memory_url, Image(GREY[:, :, None])).to_numpy(), GREY)

    @pytest.mark.parametrize("channels", [1, 3, 4])
    def test_a_tensor_has_its_channels_first(self, channels: int, memory_url: str) -> None:
        tensor = torch.arange(channels * 12, dtype=torch.uint8).reshape(channels, 3, 4)
        expected = np.moveaxis(tensor.numpy(), 0, 2)
        assert np.array_equal(
            kept(memory_url, Image(tensor)).to_numpy(), expected[:, :, 0] if channels == 1 else expected
        )

    def test_channels_that_could_be_at_either_end(self, memory_url: str) -> None:
        pixels = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
        assert np.array_equal(kept(memory_url, Image(pixels)).to_numpy(), pixels)
        assert np.array_equal(kept(memory_url, Image(torch.from_numpy(pixels))).to_numpy(), np.moveaxis(pixels, 0, 2))

    def test_the_other_order_is_taken_where_only_that_fits(self, memory_url: str) -> None:
        first = np.zeros((3, 5, 7), np.uint8)
        assert kept(memory_url, Image(first)).to_numpy().shape == (5, 7, 3)
        assert kept(memory_url, Image(torch.zeros(5, 7, 3, dtype=torch.uint8))).to_numpy().shape == (5, 7, 3)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
    def test_floats_are_from_0_to_1(self, dtype: torch.dtype, memory_url: str) -> None:
        tensor = torch.tensor([[0.0, 0.5, 1.0]], dtype=dtype, requires_grad=True)
        assert kept(memory_url, Image(tensor)).to_numpy().tolist() == [[0, 128, 255]]

    def test_a_little_more_than_1_changes_nothing_else(self, memory_url: str) -> None:
        assert kept(memory_url, Image(np.array([[-1e-6, 0.5, 1.0001]]))).to_numpy().tolist() == [[0, 128, 255]]

    def test_another_range_is_stretched_or_cut_off(self, memory_url: str) -> None:
        values = np.array([[-1.0, 0.5, 3.0]])
        assert kept(memory_url, Image(values)).to_numpy().tolist() == [[0, 96, 255]]
        assert kept(memory_url, Image(values, normalize=False)).to_numpy().tolist() == [[0, 128, 255]]

    def test_values_that_are_no_numbers_are_black_or_white(self, memory_url: str) -> None:
        values = np.array([[np.nan, -np.inf, np.inf, 0.5]])
        assert kept(memory_url, Image(values)).to_numpy().tolist() == [[0, 0, 255, 128]]

    def test_bools_and_other_ints(self, memory_url: str) -> None:
        assert kept(memory_url, Image(np.array([[True, False]]))).to_numpy().tolist() == [[255, 0]]
        assert kept(memory_url, Image(np.array([[0, 7, 255]]))).to_numpy().tolist() == [[0, 7, 255]]

    def test_a_picture_of_pillow_also_without_an_image_around_it(self, memory_url: str) -> None:
        picture = PIL.Image.fromarray(RGB)
        for value in (picture, Image(picture)):
            assert np.array_equal(kept(memory_url, value).to_numpy(), RGB)
        assert kept(memory_url, Image(picture, mode="L")).to_pil().mode == "L"

    def test_a_figure_also_without_an_image_around_it(self, memory_url: str) -> None:
        figure = Figure(figsize=(2, 1), dpi=50)
        figure.subplots().plot([1, 2])
        for value in (figure, Image(figure, caption="a line")):
            assert kept(memory_url, value).to_pil().size == (100, 50)

    def test_pyplot_is_its_present_figure(self, memory_url: str) -> None:
        from matplotlib import pyplot

        pyplot.switch_backend("agg")
        pyplot.figure(figsize=(1, 1), dpi=30)
        try:
            assert kept(memory_url, pyplot).to_pil().size == (30, 30)
        finally:
            pyplot.close("all")

    @pytest.mark.parametrize(("file_type", "format"), [("jpg", "JPEG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
    def test_other_formats(self, file_type: str, format: str, memory_url: str) -> None:
        found = kept(memory_url, Image(RGBA, file_type=file_type))
        assert found.metadata["format"] == file_type.replace("jpeg", "jpg") and found.to_pil().format == format

    def test_a_file_is_kept_as_it_is(self, memory_url: str, tmp_path: Path) -> None:
        file = tmp_path / "a.JPEG"
        PIL.Image.fromarray(RGB).save(file)
        found = kept(memory_url, Image(str(file)))
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
    def test_what_is_none_is_reported(
        self, value: Any, said: str, memory_url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert said in refused(memory_url, Image(value), caplog)

    def test_one_that_is_too_large(
        self, memory_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(image, "MAX_PIXELS", 100)
        assert "is a picture of 20 × 10" in refused(memory_url, Image(np.zeros((10, 20))), caplog)
        caplog.clear()
        monkeypatch.setattr(media, "MAX_BYTES", 50)
        assert "and media have at most 50" in refused(memory_url, Image(np.zeros((9, 9))), caplog)

    def test_without_pillow_the_message_says_what_to_install(
        self, memory_url: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(__import__("sys").modules, "PIL.Image", None)
        said = refused(memory_url, Image(GREY), caplog)
        assert said == "'x' was not logged: Pillow is not installed: `pip install 'rewind-logger[media]'`."

    def test_a_format_that_there_is_not(self) -> None:
        with pytest.raises(ConfigError, match="use one of png, jpg"):
            Image(GREY, file_type="tga")
