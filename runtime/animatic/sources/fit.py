"""Pictures of any size, fitted to a shot's: scaled, and cropped where the shape differs."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

__all__ = ["crops", "fitted", "nearest_shape"]

SAME_SHAPE: Final = 0.02  # of the ratio of width to height: so much distortion nobody sees


def crops(size: tuple[int, int], target: tuple[int, int]) -> bool:
    """Whether fitting a picture to another size cuts something off; (width, height) in pixels."""
    return _difference(size, target) > 1 + SAME_SHAPE


def nearest_shape(size: tuple[int, int], offered: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The size nearest in shape; of several that very size if it is there, else the first."""
    return min(offered, key=lambda other: (_difference(size, other), other != size))


def fitted(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Scale a picture to fill ``size`` (width, height), and cut off equally what stands out.

    pixels: uint8 ``[height, width, 3]``. A picture of that very size stays as it is.
    """
    from PIL import Image

    height, width = pixels.shape[:2]
    if (width, height) == size:
        return np.ascontiguousarray(pixels)
    box = (0.0, 0.0, float(width), float(height))
    if crops((width, height), size):
        share = min(width / size[0], height / size[1])
        across, down = share * size[0], share * size[1]
        left, top = (width - across) / 2, (height - down) / 2
        box = (left, top, left + across, top + down)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.array(image.resize(size, Image.Resampling.LANCZOS, box=box))


def _difference(size: tuple[int, int], other: tuple[int, int]) -> Fraction:
    """How far two shapes are apart: the ratio of their ratios, 1 or more, and 1 for the same.

    Exact, as 4:3 lies as far from 1:1 as from 16:9, and no rounding may choose between them.
    """
    ratio = Fraction(size[0] * other[1], size[1] * other[0])
    return max(ratio, 1 / ratio)
