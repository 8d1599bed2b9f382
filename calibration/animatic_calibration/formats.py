"""The two narrow formats, in NumPy: what a value becomes when it is stored in one.

int8: q in -127..127, x = q * scale, symmetric as TensorRT demands (-128 is left unused).
fp8: float8 e4m3fn, up to 448 (Micikevicius et al., arXiv:2209.05433).

A scale is stored as float16, as a strongly typed graph in half precision demands, so it is rounded
before anything is computed from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["FORMATS", "Format", "half_scale"]

_SMALLEST_SCALE: Final = 2.0**-20
"""A float16 of four significant bits; a tensor that needs less is nothing beside its neighbours,
and a scale of 0 would divide by it."""
_LARGEST_SCALE: Final = 65504.0


@dataclass(frozen=True)
class Format:
    """A narrow format.

    largest: the largest magnitude that the format holds at scale 1.
    per_channel: whether weights have a scale for each output channel; TensorRT takes one for the
        whole tensor in fp8.
    ranges: the ways of choosing a range (`ranges.METHODS`) that make sense: percentile and entropy
        think of equal steps, which fp8 does not have.
    """

    name: str
    dtype: np.dtype[Any]
    largest: float
    per_channel: bool
    ranges: tuple[str, ...]

    def scale(self, amax: npt.ArrayLike) -> npt.NDArray[np.float16]:
        """Return the float16 scale at which `amax` is the largest value; the same shape."""
        return half_scale(np.asarray(amax, dtype=np.float64) / self.largest)

    def store(self, values: npt.NDArray[Any], scale: npt.ArrayLike) -> npt.NDArray[Any]:
        """Quantise values to the format; `scale` broadcasts against them."""
        scaled = values.astype(np.float32) / np.asarray(scale, dtype=np.float32)
        clipped = np.clip(scaled, -self.largest, self.largest)
        if self.dtype == np.int8:
            clipped = np.rint(clipped)  # ties to even, as QuantizeLinear does
        return clipped.astype(self.dtype)

    def round_trip(self, values: npt.NDArray[Any], scale: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return what is left of values after quantising, float32."""
        stored = self.store(values, scale).astype(np.float32)
        restored: npt.NDArray[np.float32] = stored * np.asarray(scale, dtype=np.float32)
        return restored


def half_scale(scale: npt.ArrayLike) -> npt.NDArray[np.float16]:
    """Round a scale to float16, within what a float16 can divide by."""
    return np.clip(scale, _SMALLEST_SCALE, _LARGEST_SCALE).astype(np.float16)


FORMATS: Final = {
    "int8": Format(
        "int8",
        np.dtype(np.int8),
        127.0,
        per_channel=True,
        ranges=("max", "percentile", "mse", "entropy"),
    ),
    "fp8": Format(
        "fp8",
        np.dtype(ml_dtypes.float8_e4m3fn),
        448.0,
        per_channel=False,
        ranges=("max", "mse"),
    ),
}
