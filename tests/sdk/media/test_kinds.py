"""What each other kind of media takes, what is read back, and what none of them takes."""

from __future__ import annotations

import io
import pickle
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rewind_logger import Audio, ConfigError, Histogram, Html, Image, Table, Text, Video
from tests.sdk.media.logged import kept, refused


class TestHistogram:
    def test_counts_and_edges_are_exactly_those_of_numpy(self, memory_url: str) -> None:
        values = np.random.default_rng(0).normal(size=1000)
        counts, edges = np.histogram(values, 64)
        found = kept(memory_url, Histogram(values)).to_numpy()
        assert np.array_equal(found.counts, counts) and np.array_equal(found.edges, edges)

    def test_a_tensor_of_any_shape(self, memory_url: str) -> None:
        values = torch.tensor([[0.0, 1.0], [1.0, 2.0]], requires_grad=True)
        found = kept(memory_url, Histogram(values, num_bins=2, caption="weights"))
        assert (found.to_numpy().counts.tolist(), found.to_numpy().edges.tolist()) == ([1, 3], [0.0, 1.0, 2.0])
        assert found.caption == "weights" and "sha256" not in found.metadata, "numbers, and no picture"

    def test_counts_and_edges_of_any_width(self, memory_url: str) -> None:
        given = (np.array([1, 2, 3]), np.array([0.0, 0.1, 1.0, 10.0]))
        found = kept(memory_url, Histogram(np_histogram=given)).to_numpy()
        assert all(np.array_equal(one, other) for one, other in zip(found, given, strict=True))
        again = kept(memory_url, Histogram(np_histogram=found)).to_numpy()
        assert np.array_equal(again.edges, given[1])

    def test_nan_and_infinities_are_counted_apart(self, memory_url: str) -> None:
        found = kept(memory_url, Histogram([0.0, 1.0, float("nan"), float("inf")], num_bins=1))
        assert found.to_numpy().counts.tolist() == [2]
        assert found.metadata["left_out"] == 2

    def test_without_values_all_counts_are_zero(self, memory_url: str) -> None:
        assert kept(memory_url, Histogram([])).to_numpy().counts.sum() == 0

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


class TestTextAndHtml:
    @pytest.mark.parametrize("text", ["short", "größer ✓", "long " * 10_000, ""])
    def test_a_text_of_any_length(self, text: str, memory_url: str, tmp_path: Path) -> None:
        found = kept(memory_url, Text(text, caption="a sample"))
        assert (found.kind, found.caption, found.to_text()) == ("text", "a sample", text)
        assert found.save(tmp_path).read_text("utf-8") == text

    def test_html_from_a_text_and_from_a_file(self, memory_url: str, tmp_path: Path) -> None:
        page = tmp_path / "page.html"
        page.write_text("<b>bold</b>")
        for value in (Html("<b>bold</b>"), Html(page), Html(str(page))):
            assert kept(memory_url, value).to_text() == "<b>bold</b>"
        assert kept(memory_url, Html("see x.html", False, True, caption="a page")).to_text() == "see x.html"

    def test_what_is_no_text_is_reported(self, memory_url: str, caplog: pytest.LogCaptureFixture) -> None:
        assert refused(memory_url, Text(5), caplog) == "'x' is of type int, and no text."  # type: ignore[arg-type]


class TestAudio:
    def test_int16_is_kept_exactly(self, memory_url: str) -> None:
        samples = np.arange(-50, 50, dtype=np.int16).reshape(50, 2)
        found = kept(memory_url, Audio(samples, sample_rate=100, caption="a ramp"))
        assert np.array_equal(found.to_numpy(), samples)
        assert (found.metadata["sample_rate"], found.metadata["duration"], found.caption) == (100, 0.5, "a ramp")
        with wave.open(io.BytesIO(found.read())) as file:
            assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (100, 2, 50)

    def test_floats_are_from_minus_1_to_1(self, memory_url: str) -> None:
        found = kept(memory_url, Audio([0.0, 0.5, -1.0, 2.0, float("nan")], sample_rate=8000)).to_numpy()
        assert found[:, 0].tolist() == [0, 16384, -32767, 32767, 0]

    def test_a_tensor_has_its_channels_first(self, memory_url: str) -> None:
        assert kept(memory_url, Audio(torch.zeros(2, 30), sample_rate=8000)).to_numpy().shape == (30, 2)

    def test_a_file_is_kept_as_it_is(self, memory_url: str, tmp_path: Path) -> None:
        file = tmp_path / "a.mp3"
        file.write_bytes(b"ID3...")
        found = kept(memory_url, Audio(file))
        assert (found.read(), found.metadata["format"]) == (b"ID3...", "mp3")

    def test_without_a_sample_rate(self) -> None:
        with pytest.raises(ConfigError, match="needs its samples a second"):
            Audio(np.zeros(5))

    def test_what_is_none_is_reported(self, memory_url: str, caplog: pytest.LogCaptureFixture) -> None:
        assert "is a sound of shape (2, 3, 4)" in refused(memory_url, Audio(np.zeros((2, 3, 4)), 8000), caplog)


class TestVideo:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_pictures_become_a_gif(self, channels: int, memory_url: str) -> None:
        frames = np.zeros((4, channels, 6, 8), np.uint8)
        for number in range(4):
            frames[number] = 60 * number
        found = kept(memory_url, Video(frames, fps=10, caption="brighter"))
        assert (found.metadata["format"], found.metadata["frames"], found.caption) == ("gif", 4, "brighter")
        back = found.to_numpy()
        assert back.shape == (4, 6, 8, 3)
        assert [int(frame.mean()) for frame in back] == [0, 60, 120, 180]
        assert found.to_pil().info["duration"] == 100

    def test_channels_may_come_last(self, memory_url: str) -> None:
        assert kept(memory_url, Video(torch.rand(2, 6, 8, 3))).to_numpy().shape == (2, 6, 8, 3)

    def test_a_file_is_kept_as_it_is(self, memory_url: str, tmp_path: Path) -> None:
        file = tmp_path / "a.mp4"
        file.write_bytes(b"....ftyp")
        assert kept(memory_url, Video(str(file))).read() == b"....ftyp"

    def test_only_files_are_anything_else(self) -> None:
        with pytest.raises(ConfigError, match="Give the path of a file"):
            Video(np.zeros((1, 1, 2, 2)), format="mp4")

    def test_what_is_none_is_reported(self, memory_url: str, caplog: pytest.LogCaptureFixture) -> None:
        assert "is a film of shape (2, 2)" in refused(memory_url, Video(np.zeros((2, 2))), caplog)


def test_what_a_kind_cannot_give_is_said(memory_url: str) -> None:
    found = kept(memory_url, Text("a"))
    for method in (found.to_pil, found.to_table, found.to_numpy):
        with pytest.raises(ConfigError, match=r"'x' of step 0 of run p/.* is no .* but a text"):
            method()
    with pytest.raises(ConfigError, match="is no file but a histogram"):
        kept(memory_url, Histogram([1, 2])).read()


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
