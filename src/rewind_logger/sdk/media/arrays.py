"""Arrays of any library, known by their looks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from rewind_logger.errors import LogValueError


def is_tensor(value: object) -> bool:
    """Say whether it is a tensor of torch, whose pictures have their channels first."""
    # Looked up on the class: an instance may answer to every name, as mocks do.
    return callable(getattr(type(value), "detach", None)) and callable(getattr(type(value), "cpu", None))


def is_array(value: object) -> bool:
    """Say whether it is an array or a tensor of any library."""
    return is_tensor(value) or isinstance(value, np.ndarray) or hasattr(type(value), "__array__")


def to_array(value: Any) -> npt.NDArray[Any]:
    """Return it as a numpy array, also from another device.

    Raises:
        LogValueError: If it is none.
    """
    try:
        if is_tensor(value):
            value = value.detach().cpu()
            try:
                value = value.numpy()
            except TypeError:  # numpy has no bfloat16
                value = value.float().numpy()
        return np.asarray(value)
    except Exception as error:
        raise LogValueError(f"holds an array that cannot be read ({type(error).__name__}: {error})") from error


def to_bytes(pixels: npt.NDArray[Any], *, stretch: bool) -> npt.NDArray[np.uint8]:
    """Return brightnesses as bytes.

    Args:
        pixels: uint8 stays as it is; a bool is black or white; other ints are from 0 to 255, floats from 0 to 1.
        stretch: What lies outside is brought inside by stretching the range of all to it; else it is cut off.

    Raises:
        LogValueError: If they are no numbers.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype.kind not in "biuf":
        raise LogValueError(f"has the dtype {pixels.dtype}: give uint8, or floats from 0 to 1")
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint8) * np.uint8(255)
    scale = 1.0 if pixels.dtype.kind == "f" else 255.0
    values = pixels.astype(np.float32, copy=False)
    finite = np.isfinite(values)
    if not finite.all():
        values = np.where(finite, values, np.where(values > 0, scale, 0.0))
    if values.size and stretch:
        low, high = float(values.min()), float(values.max())
        # Interpolation overshoots a little; that is no other range.
        if low < -1e-3 * scale or high > 1.001 * scale:
            values = (values - low) * (scale / (high - low)) if high > low else np.zeros_like(values)
    return np.asarray(np.clip(values, 0, scale) * (255 / scale) + 0.5).astype(np.uint8)
