"""How near clips are to other clips: PSNR and SSIM."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Clip = npt.NDArray[np.uint8]

__all__ = ["decibel", "mean_squared_error", "psnr", "ssim"]

PEAK: Final = 255.0
_WINDOW: Final = 11
_SIGMA: Final = 1.5
_C1: Final = (0.01 * PEAK) ** 2
_C2: Final = (0.03 * PEAK) ** 2
_LUMA: Final = (0.299, 0.587, 0.114)  # BT.601
_CEILING: Final = 120.0
"""Decibels at which two things count as equal; JSON has no infinity."""


def decibel(signal: float, noise: float) -> float:
    """Return 10 log10(signal / noise), at most 120."""
    if noise <= 0:
        return _CEILING
    return min(_CEILING, 10 * math.log10(max(signal, 1e-30) / noise))


def mean_squared_error(ours: Sequence[Clip], theirs: Sequence[Clip]) -> list[float]:
    """Return each clip's error in squared levels; clips are uint8 [frames, height, width, 3]."""
    return [
        float(np.square(a.astype(np.float32) - b.astype(np.float32)).mean(dtype=np.float64))
        for a, b in zip(ours, theirs, strict=True)
    ]


def psnr(error: float) -> float:
    """Return the PSNR in dB of a mean squared error in squared levels of 0-255."""
    return decibel(PEAK**2, error)


def ssim(ours: Clip, theirs: Clip) -> float:
    """Return the mean structural similarity of two clips' luma, frame by frame, at most 1.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment", 2004: a Gaussian window of 11
    pixels and sigma 1.5, only where it lies wholly inside the picture. Pictures that are smaller
    than the window are compared with the largest odd window they hold.
    """
    return float(
        np.mean([_ssim_frame(a @ _LUMA, b @ _LUMA) for a, b in zip(ours, theirs, strict=True)])
    )


def _ssim_frame(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    side = min(_WINDOW, *(n - 1 + n % 2 for n in x.shape))
    steps = np.arange(side) - side // 2
    kernel = np.exp(-(steps**2) / (2 * _SIGMA**2))
    kernel /= kernel.sum()

    def blurred(picture: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        for axis in (0, 1):
            windows = np.lib.stride_tricks.sliding_window_view(picture, side, axis=axis)
            picture = windows @ kernel
        return picture

    mx, my = blurred(x), blurred(y)
    vx, vy = blurred(x * x) - mx * mx, blurred(y * y) - my * my
    cov = blurred(x * y) - mx * my
    top = (2 * mx * my + _C1) * (2 * cov + _C2)
    bottom = (mx * mx + my * my + _C1) * (vx + vy + _C2)
    return float((top / bottom).mean())
