"""Media from Lightning: the methods of its W&B logger that callbacks and scripts call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only

from rewind_logger.errors import ConfigError, LogValueError
from rewind_logger.format.wording import kind_of
from rewind_logger.sdk.media.audio import Audio
from rewind_logger.sdk.media.image import Image
from rewind_logger.sdk.media.media import Media
from rewind_logger.sdk.media.table import Table
from rewind_logger.sdk.media.video import Video


class LogsMedia:
    """What a logger with `log_metrics` can log besides. On other ranks than zero nothing happens."""

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log a row."""
        raise NotImplementedError

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], step: int | None = None, **kwargs: list[Any]) -> None:
        """Log pictures at the present training step.

        Args:
            key: The name to log them under.
            images: Tensors, arrays, pictures of Pillow, figures of matplotlib or paths of files, as `Image` takes them.
            step: Kept beside them where it differs from the training step.
            **kwargs: For each argument of `Image` a list with one for each of them, such as `caption=["a", "b"]`.

        Raises:
            LogValueError: If `images` is no list.
            ConfigError: If another list is longer or shorter than it.
        """
        self.log_metrics({key: _each(Image, "images", images, kwargs)}, step)

    @rank_zero_only
    def log_audio(self, key: str, audios: list[Any], step: int | None = None, **kwargs: list[Any]) -> None:
        """Log sounds at the present training step.

        Args:
            key: The name to log them under.
            audios: Tensors, arrays or paths of files, as `Audio` takes them.
            step: As for `log_image`.
            **kwargs: For each argument of `Audio` a list, such as `sample_rate=[16000]`.

        Raises:
            LogValueError: As `log_image` does, and ConfigError.
        """
        self.log_metrics({key: _each(Audio, "audios", audios, kwargs)}, step)

    @rank_zero_only
    def log_video(self, key: str, videos: list[Any], step: int | None = None, **kwargs: list[Any]) -> None:
        """Log films at the present training step.

        Args:
            key: The name to log them under.
            videos: Tensors, arrays or paths of files, as `Video` takes them.
            step: As for `log_image`.
            **kwargs: For each argument of `Video` a list, such as `fps=[10]`.

        Raises:
            LogValueError: As `log_image` does, and ConfigError.
        """
        self.log_metrics({key: _each(Video, "videos", videos, kwargs)}, step)

    @rank_zero_only
    def log_table(
        self,
        key: str,
        columns: list[str] | None = None,
        data: list[list[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Log a table at the present training step.

        Args:
            key: The name to log it under.
            columns: The names of its columns.
            data: Its rows.
            dataframe: A frame of pandas or polars, or an Arrow table, instead of rows.
            step: As for `log_image`.

        Raises:
            ConfigError: If rows and columns do not fit.
        """
        self.log_metrics({key: Table(columns=columns, data=data, dataframe=dataframe)}, step)

    @rank_zero_only
    def log_text(
        self,
        key: str,
        columns: list[str] | None = None,
        data: list[list[str]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Log a table of texts: the same as `log_table`."""
        self.log_table(key, columns, data, dataframe, step)


def _each(kind: type[Media], name: str, values: list[Any], options: Mapping[str, list[Any]]) -> list[Media]:
    """Return one of the kind for each value, with its own of each option."""
    if not isinstance(values, list):
        raise LogValueError(f"{name} is {kind_of(values)}: give a list.")
    for option, given in options.items():
        if len(given) != len(values):
            raise ConfigError(f"{option} has {len(given)} items, for the {len(values)} {name}: give one for each.")
    return [
        kind(value, **{name: given[index] for name, given in options.items()}) for index, value in enumerate(values)
    ]
