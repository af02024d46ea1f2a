"""Pictures."""

from __future__ import annotations

import io
import os
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rewind_logger.errors import ConfigError, LogValueError
from rewind_logger.sdk.media.arrays import is_array, is_tensor, to_array, to_bytes
from rewind_logger.sdk.media.media import Attach, Encoded, Media, check_size, read_file
from rewind_logger.sdk.media.pillow import pillow

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP"}
"""What pictures are encoded as, with Pillow's names."""

SUFFIXES = {**{name: name for name in FORMATS}, "jpeg": "jpg", "svg": "svg", "tif": "tiff", "tiff": "tiff"}

MAX_PIXELS = 1 << 27
"""Of a picture that is to be encoded."""

CHANNELS = (1, 3, 4)


class Image(Media):
    """A picture.

    Arrays are height × width, or with 1, 3 (RGB) or 4 (RGBA) channels: last in an array of numpy, first in a tensor of
    torch, as torchvision has them; the other order is taken where only that one fits. uint8 is kept as it is. Floats
    are brightnesses from 0 to 1, other ints from 0 to 255.

    Args:
        data_or_path: An array or tensor, a picture of Pillow, a figure of matplotlib, or the path of a file.
        mode: What Pillow converts it to, such as "L" or "RGB".
        caption: A text to show with it.
        file_type: "png", "jpg", "webp", "gif" or "bmp"; png by default, which loses nothing. A file stays what it is.
        normalize: What becomes of brightnesses outside of their range: True stretches the range of all of them to it,
            False cuts them off.

    Raises:
        ConfigError: If there is no such `file_type`.

    Example:
        >>> import numpy as np
        >>> Image(np.zeros((28, 28)), caption="a dark one")
        Image(caption='a dark one')
    """

    kind: ClassVar[str] = "image"

    def __init__(
        self,
        data_or_path: Any,
        mode: str | None = None,
        caption: str | None = None,
        *,
        file_type: str | None = None,
        normalize: bool = True,
    ) -> None:
        super().__init__(caption)
        file_type = "jpg" if file_type == "jpeg" else file_type
        if file_type is not None and file_type not in FORMATS:
            raise ConfigError(f"file_type={file_type!r}: use one of {', '.join(FORMATS)}.")
        self._data = data_or_path
        self._mode = mode
        self._format = file_type or "png"
        self._normalize = normalize

    def _encode(self, attach: Attach) -> Encoded:
        data = self._data
        if isinstance(data, (str, os.PathLike)):
            return _measured(read_file(data, SUFFIXES))
        if is_figure(data):
            return self._of_figure(data)
        if not is_picture(data):
            if not is_array(data):
                raise LogValueError(
                    f"is an Image of type {type(data).__qualname__}: give an array, a picture or a path"
                )
            data = _picture(_channels_last(to_array(data), first=is_tensor(data)), stretch=self._normalize)
        return self._of_picture(data)

    def _of_figure(self, figure: Any) -> Encoded:
        buffer = io.BytesIO()
        figure.savefig(buffer, format=self._format)
        return _measured(Encoded({"format": self._format}, buffer.getvalue()))

    def _of_picture(self, picture: Any) -> Encoded:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise LogValueError(f"is a picture of {width} × {height}, which is more than {MAX_PIXELS:,} pixels")
        if self._mode is not None:
            picture = picture.convert(self._mode)
        elif self._format == "jpg" and picture.mode not in ("L", "RGB", "CMYK"):
            picture = picture.convert("RGB")  # it knows no transparency and no palette
        elif self._format == "png" and picture.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"):
            picture = picture.convert("RGB")
        buffer = io.BytesIO()
        # Of PNG's nine efforts the first is several times as fast as the usual one, for a few percent of the size.
        options = {"compress_level": 1} if self._format == "png" else {}
        picture.save(buffer, FORMATS[self._format], **options)
        data = buffer.getvalue()
        check_size(len(data))
        return Encoded({"format": self._format, "width": width, "height": height}, data)


def is_picture(value: object) -> bool:
    """Say whether it is a picture of Pillow, which need not be loaded for that."""
    return _is_a(value, "PIL.Image", "Image")


def is_figure(value: object) -> bool:
    """Say whether it is a figure of matplotlib, likewise."""
    return _is_a(value, "matplotlib.figure", "Figure")


def _is_a(value: object, module: str, name: str) -> bool:
    return any(kind.__name__ == name and kind.__module__ == module for kind in type(value).__mro__)


def _channels_last(array: npt.NDArray[Any], *, first: bool) -> npt.NDArray[Any]:
    """Return it as height × width × channels; `first` says where they are if they could be at either end."""
    if array.ndim == 2:
        return array[:, :, None]
    if array.ndim == 3:
        at_first, at_last = array.shape[0] in CHANNELS, array.shape[2] in CHANNELS
        if at_first and (first or not at_last):
            return np.moveaxis(array, 0, 2)
        if at_last:
            return array
    advice = ": of several pictures make a list of Images" if array.ndim == 4 else ""
    raise LogValueError(
        f"is an array of shape {array.shape}, and a picture is height × width, with 1, 3 or 4 channels or none{advice}"
    )


def _picture(array: npt.NDArray[Any], *, stretch: bool) -> Any:
    """Return a picture of Pillow."""
    if not array.size:
        raise LogValueError(f"is an empty picture, of shape {array.shape}")
    pixels = np.ascontiguousarray(to_bytes(array, stretch=stretch))
    return pillow().fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _measured(encoded: Encoded) -> Encoded:
    """Add width and height, where Pillow is there and knows them."""
    assert encoded.data is not None
    check_size(len(encoded.data))
    try:
        with pillow().open(io.BytesIO(encoded.data)) as picture:
            width, height = picture.size
    except Exception:  # a file is kept as it is, whatever it is
        return encoded
    return Encoded({**encoded.fields, "width": width, "height": height}, encoded.data)
