"""Films."""

from __future__ import annotations

import io
import os
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rewind_logger.errors import ConfigError, LogValueError
from rewind_logger.sdk.media.arrays import is_array, to_array, to_bytes
from rewind_logger.sdk.media.media import Attach, Encoded, Media, check_size, read_file
from rewind_logger.sdk.media.pillow import pillow

SUFFIXES = {name: name for name in ("mp4", "webm", "gif", "ogv", "mov", "mkv")}

MAX_PIXELS = 1 << 28
"""Of all pictures of a film that is to be encoded."""


class Video(Media):
    """A film.

    Arrays become an animated GIF, which has 256 colours a picture and shows them for hundredths of a second. For
    anything better encode a file, such as an MP4, and give its path: there is no encoder of video in this package.

    Args:
        data_or_path: The path of a file; or an array of pictures, time × channels × height × width or time × height ×
            width × channels, with 1 or 3 channels. Where both would fit, the channels are the second. Brightnesses are
            those of `Image`, cut off outside of their range.
        caption: A text to show with it.
        fps: Pictures a second, of an array; 4 by default.
        format: "gif", of an array.

    Raises:
        ConfigError: If `fps` is not positive, or an array is to be anything else than a GIF.

    Example:
        >>> import numpy as np
        >>> Video(np.zeros((10, 1, 8, 8)), fps=10)
        Video()
    """

    kind: ClassVar[str] = "video"

    def __init__(
        self, data_or_path: Any, caption: str | None = None, fps: float | None = None, format: str | None = None
    ) -> None:
        super().__init__(caption)
        self._is_path = isinstance(data_or_path, (str, os.PathLike))
        if not self._is_path and format not in (None, "gif"):
            raise ConfigError(f"Video: format={format!r}; an array becomes a gif. Give the path of a file for others.")
        if fps is not None and not fps > 0:
            raise ConfigError(f"Video: fps={fps}; it must be positive.")
        self._data = data_or_path
        self._fps = fps or 4

    def _encode(self, attach: Attach) -> Encoded:
        if self._is_path:
            return read_file(self._data, SUFFIXES)
        if not is_array(self._data):
            raise LogValueError(f"is a Video of type {type(self._data).__qualname__}: give an array or a path")
        frames = _channels_last(to_array(self._data))
        if frames.size > MAX_PIXELS:
            raise LogValueError(f"is a film of shape {frames.shape}, which is more than {MAX_PIXELS:,} values")
        count, height, width, _ = frames.shape
        fields = {"format": "gif", "width": width, "height": height, "frames": count, "fps": float(self._fps)}
        data = _gif(to_bytes(frames, stretch=False), self._fps)
        check_size(len(data))
        return Encoded(fields, data)


def _channels_last(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return it as time × height × width × channels."""
    if array.ndim == 4 and array.size:
        if array.shape[1] in (1, 3):
            return np.moveaxis(array, 1, 3)
        if array.shape[3] in (1, 3):
            return array
    raise LogValueError(f"is a film of shape {array.shape}: give time × channels × height × width, 1 or 3 channels")


def _gif(frames: npt.NDArray[np.uint8], fps: float) -> bytes:
    image = pillow()
    grey = frames.shape[3] == 1
    first, *others = [image.fromarray(np.ascontiguousarray(frame[:, :, 0] if grey else frame)) for frame in frames]
    buffer = io.BytesIO()
    # GIF counts hundredths of a second, and takes a picture shown for none of them for a slow one.
    duration = max(20, 10 * round(100 / fps))
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=duration, loop=0)
    return buffer.getvalue()
