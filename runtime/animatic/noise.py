"""The noise of a clip: one seed, and a stream of its own for every draw.

Each draw starts its own counter of Philox (Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", 2011), so what a draw gives depends on what it is for and never on what was drawn before:
the same seed is the same noise on every backend, whatever order the work is done in. (Only the
noise: what a backend's arithmetic makes of it differs in the last bits, and so may the clip.)

    key     = (seed, variant)
    counter = (0, purpose, block, 0)    word 0 counts the numbers within a draw

Purpose 0 is the initial noise and 1 + step the fresh noise of a step: the offset keeps the first
re-noise draw from repeating the initial noise, which would undo the step. The noise that a decoder
wants has the last purpose, 2**64 - 1, which no number of steps comes near. (NumPy's float32 normals
are the ziggurat method of Generator; a golden value in the tests holds it still.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["NoiseStream"]

_INITIAL: Final = 0
_FIRST_STEP: Final = 1
_DECODE: Final = 2**64 - 1


class NoiseStream:
    """All the noise of one clip; seed and variant are each 0 to 2**63 - 1."""

    def __init__(self, seed: int, variant: int = 0) -> None:
        # Given as an array of 64-bit words: NumPy reads a Python list of them as int64.
        self._key = np.array([seed, variant], dtype=np.uint64)

    def initial(self, block: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Draw what a block starts from: standard normal, float32, of the given shape."""
        return self._draw(_INITIAL, block, shape)

    def fresh(self, block: int, step: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Draw what a step of a block re-noises with: standard normal, float32, of the shape."""
        return self._draw(_FIRST_STEP + step, block, shape)

    def decode(self, block: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        """Draw what is mixed into a block's latents for its decoder: standard normal, float32."""
        return self._draw(_DECODE, block, shape)

    def _draw(self, purpose: int, block: int, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        counter = np.array([0, purpose, block, 0], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(counter=counter, key=self._key))
        return generator.standard_normal(shape, dtype=np.float32)
