"""Where to clip a tensor: the largest magnitude that its eight bits shall hold.

A wide range loses small values, a narrow one clips large ones. Four answers, all from a histogram
of magnitudes:

max         nothing is clipped.
percentile  as much is clipped as no one will miss.
mse         the least mean squared error, tried on a grid of thresholds.
entropy     the least Kullback-Leibler divergence between the distribution and its quantised self
            (Migacz, "8-bit inference with TensorRT", GTC 2017).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from animatic_calibration.statistics import BINS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from animatic_calibration.formats import Format
    from animatic_calibration.statistics import Histogram

__all__ = ["METHODS", "choose_range", "entropy_range", "max_range", "mse_range", "percentile_range"]

PERCENTILE: Final = 99.99
"""Of the values that are not zero; the usual choice for eight bits (Wu et al., arXiv:2004.09602,
who find 99.99 and 99.999 best on nearly every network)."""
_LEVELS: Final = 128
"""Magnitudes of int8, 0 among them."""
_MSE_STEPS: Final = 100


def choose_range(method: str, histogram: Histogram, format_: Format) -> float:
    """Return the magnitude to clip at, above 0, by one of METHODS."""
    if histogram.amax == 0:
        return 1.0  # only zeros were seen: any scale holds them
    return METHODS[method](histogram, format_)


def max_range(histogram: Histogram, format_: Format) -> float:  # noqa: ARG001
    """Clip nothing."""
    return histogram.amax


def percentile_range(histogram: Histogram, format_: Format) -> float:  # noqa: ARG001
    """Clip all above the percentile: the upper edge of the bin in which it falls."""
    reached = np.cumsum(histogram.counts) / histogram.counts.sum()
    place = int(np.searchsorted(reached, PERCENTILE / 100))
    return min(histogram.amax, (min(place, BINS - 1) + 1) * histogram.width)


def mse_range(histogram: Histogram, format_: Format) -> float:
    """Clip where the mean squared error over the histogram is least, in steps of 1 % of amax."""
    used = histogram.counts > 0
    values = histogram.centres[used].astype(np.float32)
    counts = histogram.counts[used].astype(np.float64)
    thresholds = histogram.amax * np.arange(1, _MSE_STEPS + 1) / _MSE_STEPS
    errors = [
        float(counts @ np.square(values - format_.round_trip(values, format_.scale(threshold))))
        for threshold in thresholds
    ]
    return float(thresholds[int(np.argmin(errors))])


def entropy_range(histogram: Histogram, format_: Format) -> float:  # noqa: ARG001
    """Clip where the quantised distribution says most about the true one.

    For every number of bins from 128 on: P is the histogram up to there, what lies beyond added to
    the last bin; Q is the same without the addition, merged into 128 levels, each spread evenly
    over those of its bins that were not empty.
    """
    counts = histogram.counts.astype(np.float64)
    top = int(np.flatnonzero(counts)[-1]) + 1
    if top <= _LEVELS:
        return histogram.amax
    best, best_bins = np.inf, top
    # Every 16th of 4,096: finer steps move the range by less than half a per cent.
    for bins in [*range(_LEVELS, top, 16), top]:
        inside = counts[:bins]
        truth = inside.copy()
        truth[-1] += counts[bins:].sum()
        divergence = _divergence(truth, _merged(inside))
        if divergence < best:
            best, best_bins = divergence, bins
    return min(histogram.amax, best_bins * histogram.width)


def _merged(counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Merge bins into levels and spread every level over its bins that were not empty."""
    level = np.arange(len(counts)) * _LEVELS // len(counts)
    filled = counts > 0
    sums = np.bincount(level, weights=counts, minlength=_LEVELS)
    shares = sums / np.maximum(np.bincount(level, weights=filled, minlength=_LEVELS), 1)
    return np.where(filled, shares[level], 0.0)


def _divergence(truth: npt.NDArray[np.float64], guess: npt.NDArray[np.float64]) -> float:
    """Return KL(truth || guess) in nats, both made to sum to 1; an empty guess counts as 1e-9."""
    if not guess.any():
        return np.inf
    there = truth > 0
    p = truth[there] / truth.sum()
    q = np.maximum(guess[there] / guess.sum(), 1e-9)
    return float(np.sum(p * np.log(p / q)))


METHODS: Final[Mapping[str, Callable[[Histogram, Format], float]]] = {
    "max": max_range,
    "percentile": percentile_range,
    "mse": mse_range,
    "entropy": entropy_range,
}
