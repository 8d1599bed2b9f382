"""What is kept of a tensor while clips run by: its peaks, its histogram, nothing that grows.

The histogram is of absolute values: quantisation is symmetric. Its range doubles when a larger
value comes, merging bins in pairs, so no first pass is needed to find the range.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from animatic_calibration.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

__all__ = ["BINS", "Histogram", "TensorStatistics"]

BINS: Final = 4096
"""As many as leave at least 2,048, the number TensorRT's entropy calibration used, in use after a
doubling."""


class Histogram:
    """Counts of |x| in BINS equal bins from 0 to `limit`; exact zeros are counted apart.

    Zeros cost nothing in a symmetric format, and after a ReLU they would drown the rest.
    """

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros(BINS, dtype=np.int64)
        self.limit = 0.0
        self.zeros = 0
        self.amax = 0.0

    def add(self, values: npt.NDArray[Any]) -> None:
        """Count the values of an array of any shape."""
        magnitudes = np.abs(values.astype(np.float32)).ravel()
        nonzero = magnitudes[magnitudes > 0]
        self.zeros += magnitudes.size - nonzero.size
        if not nonzero.size:
            return
        peak = float(nonzero.max())
        self.amax = max(self.amax, peak)
        if not self.limit:
            self.limit = peak
        while self.limit < peak:
            pairs = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([pairs, np.zeros(BINS // 2, dtype=np.int64)])
            self.limit *= 2
        places = np.minimum(nonzero * (BINS / self.limit), BINS - 1).astype(np.int64)
        self.counts += np.bincount(places, minlength=BINS)

    def reach(self, peak: float) -> None:
        """Know of a magnitude that was seen and not counted."""
        if not self.amax and peak:
            self.add(np.array([peak]))
        self.amax = max(self.amax, peak)

    @property
    def width(self) -> float:
        """The width of a bin."""
        return self.limit / BINS

    @property
    def centres(self) -> npt.NDArray[np.floating[Any]]:
        """The middle of every bin, float64 [BINS]."""
        return (np.arange(BINS) + 0.5) * self.width


class TensorStatistics:
    """The peaks of every channel and the histogram of one activation.

    channel_axis: of the arrays that are added. counted: whether their values go into the histogram,
        which takes four times as long as the peaks.
    """

    def __init__(self, name: str, channel_axis: int, *, counted: bool = True) -> None:
        self.name = name
        self.histogram = Histogram()
        self._channel_axis = channel_axis
        self._counted = counted
        self._peaks: npt.NDArray[np.float32] | None = None

    def add(self, values: npt.NDArray[Any]) -> None:
        """Take in one call's tensor; CalibrationError if it holds what is not a number."""
        by_channel = np.moveaxis(values, self._channel_axis, -1).astype(np.float32)
        peaks = np.abs(by_channel.reshape(-1, by_channel.shape[-1])).max(axis=0)
        if not np.isfinite(peaks).all():
            raise CalibrationError(
                f"The tensor {self.name} overflows float16 on a calibration prompt; export the "
                "bundle again with that part in float32."
            )
        self._peaks = peaks if self._peaks is None else np.maximum(self._peaks, peaks)
        if self._counted:
            self.histogram.add(values)

    def divided(
        self, factors: npt.NDArray[np.float32], rows: Iterable[npt.NDArray[np.float32]]
    ) -> TensorStatistics:
        """Return what would be known of the tensor if every channel were divided by its factor.

        rows: samples of the divided tensor, which the histogram is made of.
        """
        made = TensorStatistics(self.name, self._channel_axis)
        made._peaks = self.channel_amax / factors
        for sample in rows:
            made.histogram.add(sample)
        made.histogram.reach(float(made._peaks.max()))
        return made

    @property
    def channel_amax(self) -> npt.NDArray[np.float32]:
        """The largest magnitude of every channel, float32 [channels]."""
        if self._peaks is None:
            raise CalibrationError(f"The tensor {self.name} was never computed: report this graph.")
        return self._peaks
