"""Histograms: numbers, and no pictures of them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rewind_logger.errors import ConfigError, LogValueError
from rewind_logger.sdk.media.arrays import to_array
from rewind_logger.sdk.media.media import Attach, Encoded, Media

MAX_BINS = 4096


class Histogram(Media):
    """How values are distributed: counts between edges.

    It is computed when it is made; `counts` and `edges` (one more) are those of `numpy.histogram`.

    Args:
        sequence: Numbers: a sequence, an array or a tensor of any shape. NaN and infinities are left out, and counted.
        np_histogram: Counts and edges, as `numpy.histogram` returns them, instead of a sequence.
        num_bins: How many bins of equal width there are between the smallest value and the largest.
        caption: A text to show with it.

    Raises:
        ConfigError: If neither or both are given, or there are no bins or more than 4,096.
        LogValueError: If they are no numbers.

    Example:
        >>> Histogram([0.0, 0.5, 2.0], num_bins=2).counts.tolist()
        [2, 1]
    """

    kind: ClassVar[str] = "histogram"

    def __init__(
        self,
        sequence: Any = None,
        np_histogram: tuple[Any, Any] | None = None,
        num_bins: int = 64,
        *,
        caption: str | None = None,
    ) -> None:
        super().__init__(caption)
        if (sequence is None) == (np_histogram is None):
            raise ConfigError("Histogram: give either a sequence or np_histogram=(counts, edges).")
        self.counts: npt.NDArray[Any]
        """One a bin."""
        self.edges: npt.NDArray[np.float64]
        """From the lower edge of the first bin to the upper one of the last, which belongs to that bin."""
        self.left_out = 0
        """How many values were NaN or infinite."""
        if np_histogram is not None:
            self.counts, self.edges = _given(*np_histogram)
        else:
            self._count(_numbers(sequence), num_bins)
        if not 1 <= len(self.counts) <= MAX_BINS:
            raise ConfigError(f"Histogram: {len(self.counts)} bins; it has 1 to {MAX_BINS:,}.")

    def _count(self, values: npt.NDArray[Any], num_bins: int) -> None:
        if not 1 <= num_bins <= MAX_BINS:
            raise ConfigError(f"Histogram: num_bins={num_bins}; it has 1 to {MAX_BINS:,}.")
        finite = np.isfinite(values)
        if not finite.all():
            total = values.size
            values = values[finite]
            self.left_out = total - values.size
        self.counts, edges = np.histogram(values, num_bins)
        self.edges = np.linspace(float(edges[0]), float(edges[-1]), len(edges))  # numpy's are as coarse as the values

    def _encode(self, attach: Attach) -> Encoded:
        fields: dict[str, Any] = {"counts": self.counts.tolist()}
        low, high = float(self.edges[0]), float(self.edges[-1])
        if np.array_equal(self.edges, np.linspace(low, high, len(self.edges))):
            fields["min"], fields["max"] = low, high
        else:
            fields["edges"] = self.edges.tolist()
        if self.left_out:
            fields["left_out"] = self.left_out
        return Encoded(fields)


def _numbers(values: Any) -> npt.NDArray[Any]:
    array = to_array(values)
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    if array.dtype == np.float16:  # whose range would overflow
        return array.astype(np.float32)
    if array.dtype.kind not in "iuf":
        raise LogValueError(f"A histogram takes numbers, not an array of dtype {array.dtype}.")
    return array


def _given(counts: Any, edges: Any) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64]]:
    """Check counts and edges that a person gave."""
    bins, bounds = _numbers(counts), _numbers(edges).astype(np.float64)
    if bins.ndim != 1 or bounds.shape != (len(bins) + 1,):
        raise ConfigError(
            f"Histogram: np_histogram has counts of shape {bins.shape} and edges of shape {bounds.shape}: give n counts"
            " and n + 1 edges."
        )
    if not (np.isfinite(bins).all() and np.isfinite(bounds).all() and (np.diff(bounds) >= 0).all()):
        raise ConfigError("Histogram: np_histogram needs finite counts, and finite edges that ascend.")
    return bins, bounds
