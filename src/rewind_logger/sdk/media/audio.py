"""Sound."""

from __future__ import annotations

import io
import os
import wave
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rewind_logger.errors import ConfigError, LogValueError
from rewind_logger.sdk.media.arrays import is_array, is_tensor, to_array
from rewind_logger.sdk.media.media import Attach, Encoded, Media, check_size, read_file

SUFFIXES = {name: name for name in ("wav", "mp3", "flac", "ogg", "opus", "m4a", "aac")}

MAX_CHANNELS = 16


class Audio(Media):
    """A piece of sound.

    Arrays become WAV with 16 bits. They have one sample after the other, or samples × channels in an array of numpy, as
    soundfile has them, and channels × samples in a tensor of torch, as torchaudio has them. Floats are from −1 to 1,
    and cut off outside; int16 is kept as it is.

    Args:
        data_or_path: An array, a tensor, or the path of a file.
        sample_rate: Samples a second; needed with an array.
        caption: A text to show with it.

    Raises:
        ConfigError: If an array comes without a sample rate, or that is not positive.

    Example:
        >>> import numpy as np
        >>> Audio(np.sin(np.arange(8000) / 5), sample_rate=8000, caption="a tone")
        Audio(caption='a tone')
    """

    kind: ClassVar[str] = "audio"

    def __init__(self, data_or_path: Any, sample_rate: int | None = None, caption: str | None = None) -> None:
        super().__init__(caption)
        self._is_path = isinstance(data_or_path, (str, os.PathLike))
        if not self._is_path and (sample_rate is None or int(sample_rate) <= 0):
            raise ConfigError(f"Audio: sample_rate={sample_rate}; an array needs its samples a second, such as 16000.")
        self._data = data_or_path
        self._sample_rate = sample_rate

    def _encode(self, attach: Attach) -> Encoded:
        if self._is_path:
            return read_file(self._data, SUFFIXES)
        if not is_array(self._data) and not isinstance(self._data, (list, tuple)):
            raise LogValueError(f"is an Audio of type {type(self._data).__qualname__}: give an array or a path")
        samples = to_array(self._data)
        if samples.ndim == 1:
            samples = samples[:, None]
        elif samples.ndim == 2 and is_tensor(self._data):
            samples = samples.T
        if samples.ndim != 2 or not 1 <= samples.shape[1] <= MAX_CHANNELS:
            raise LogValueError(
                f"is a sound of shape {samples.shape}: give samples × channels, a tensor the other way round"
            )
        check_size(2 * samples.size)
        assert self._sample_rate is not None
        rate = int(self._sample_rate)
        fields = {"format": "wav", "sample_rate": rate, "duration": round(len(samples) / rate, 6)}
        return Encoded(fields, _wav(_to_int16(samples), rate))


def _to_int16(samples: npt.NDArray[Any]) -> npt.NDArray[np.int16]:
    if samples.dtype == np.int16:
        return samples
    if samples.dtype.kind != "f":
        raise LogValueError(f"is a sound of dtype {samples.dtype}: give floats from -1 to 1, or int16")
    values = np.nan_to_num(samples.astype(np.float32), nan=0.0, posinf=1.0, neginf=-1.0)
    return np.asarray(np.rint(np.clip(values, -1, 1) * 32767)).astype(np.int16)


def _wav(samples: npt.NDArray[np.int16], rate: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.ascontiguousarray(samples, "<i2").tobytes())
    return buffer.getvalue()
