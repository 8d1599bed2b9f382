"""One picture of a clip, as the pipeline hands it over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fractions import Fraction

    import numpy as np
    import numpy.typing as npt

__all__ = ["Frame"]


# Compared by identity: `==` on arrays has no single truth.
@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """One picture.

    index: its place in the clip, from 0.
    pixels: uint8 [height, width, 3], RGB, full range 0-255, sRGB encoded, C-contiguous.
    time: when it is shown, exact seconds from the start of the clip.
    fallback: the GPU was lost before this frame, and the processor drew it in its stead: the same
        shot, but not to the bit what the GPU would have drawn.
    """

    index: int
    pixels: npt.NDArray[np.uint8]
    time: Fraction
    fallback: bool = False
