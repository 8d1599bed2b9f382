"""What quantising one layer costs, from a sample of its rows: no graph is run.

noise = |q(x) q(W) - x W|^2,   signal = |x W|^2
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from animatic_calibration.fidelity import decibel
from animatic_calibration.quantise import weight_scale
from animatic_calibration.smoothing import smoothing_factors, weight_amax

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from animatic_calibration.formats import Format
    from animatic_calibration.layers import Layer

    Matrix = npt.NDArray[np.float32]
    Rows = npt.NDArray[np.float16] | Matrix

__all__ = ["ALPHAS", "Smoothing", "choose_smoothing", "relative_noise"]

ALPHAS: Final = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MIN_GAIN_DB: Final = 0.5
"""What smoothing must gain to be worth a Mul in the graph."""
_CLIPS: Final = (1.0, 0.85, 0.7, 0.55, 0.4)
_SEARCH_ROWS: Final = 128
_SEARCH_COLUMNS: Final = 96


@dataclass(frozen=True)
class Smoothing:
    """How one activation is smoothed: alpha, its factors float32 [channels], what they gain."""

    alpha: float
    factors: npt.NDArray[np.float32]
    gain: float
    """In dB of the outputs' SNR."""


def relative_noise(
    rows: Matrix, matrix: Matrix, amaxes: Iterable[float], format_: Format
) -> list[float]:
    """Return noise / signal of a layer's output for each place where its input may be clipped.

    rows: float32 [n, in]. matrix: float32 [in, out] (`layers.to_matrix`). Of a layer whose output
    is nothing, the noise is 0.
    """
    exact = rows @ matrix
    signal = float(np.square(exact).sum(dtype=np.float64))
    weight = format_.round_trip(matrix, weight_scale(matrix, format_))
    noises = []
    for amax in amaxes:
        off = format_.round_trip(rows, format_.scale(amax)) @ weight - exact
        noises.append(float(np.square(off).sum(dtype=np.float64)) / signal if signal else 0.0)
    return noises


def choose_smoothing(
    group: Sequence[Layer],
    rows: Mapping[str, Rows],
    matrices: Mapping[str, Matrix],
    channel_amax: npt.NDArray[np.float32],
    format_: Format,
) -> Smoothing | None:
    """Try every alpha on layers that share an activation; None if none gains MIN_GAIN_DB.

    rows, matrices: by the layer's output, unsmoothed. channel_amax: float32 [channels].
    """
    peaks = np.zeros_like(channel_amax)
    samples: dict[str, tuple[Matrix, Matrix]] = {}
    for layer in group:
        matrix = matrices[layer.output]
        peaks = np.maximum(peaks, weight_amax(layer, matrix))
        sample = rows[layer.output][:_SEARCH_ROWS].astype(np.float32)
        samples[layer.output] = sample, _some_columns(matrix)

    def noise(factors: npt.NDArray[np.float32]) -> float:
        amax = float((channel_amax / factors).max())
        total = 0.0
        for layer in group:
            sample, matrix = samples[layer.output]
            s = np.repeat(factors, len(matrix) // layer.channels[0])
            smooth = sample / s
            clip = _clip(smooth, amax, format_)
            total += relative_noise(smooth, matrix * s[:, None], [clip], format_)[0]
        return total

    plain = noise(np.ones_like(channel_amax))
    best: Smoothing | None = None
    if plain == 0:
        return None
    for alpha in ALPHAS:
        factors = smoothing_factors(channel_amax, peaks, alpha)
        gain = decibel(plain, noise(factors))
        if gain >= (best.gain if best else MIN_GAIN_DB):
            best = Smoothing(alpha, factors, gain)
    return best


def _some_columns(matrix: Matrix) -> Matrix:
    """Return at most _SEARCH_COLUMNS of a matrix's columns, evenly spaced."""
    return np.ascontiguousarray(matrix[:, :: -(-matrix.shape[1] // _SEARCH_COLUMNS)])


def _clip(rows: Matrix, amax: float, format_: Format) -> float:
    """Find roughly where rows are best clipped: the ranges proper are chosen later."""
    if amax == 0:
        return 1.0
    errors = [
        float(np.square(rows - format_.round_trip(rows, format_.scale(amax * part))).sum())
        for part in _CLIPS
    ]
    return amax * _CLIPS[int(np.argmin(errors))]
