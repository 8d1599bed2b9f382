"""Pictures that a program hands over: an array."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from animatic.errors import InputError
from animatic.sources.fit import fitted
from animatic.sources.timing import padded_back, padded_front

if TYPE_CHECKING:
    from fractions import Fraction
    from pathlib import Path

    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

__all__ = ["ArraySource"]

_CLIP: Final = 4  # axes: frames, height, width, colours
_COLOURS: Final = 3


@dataclass(frozen=True, slots=True)
class ArraySource:
    """A clip, uint8 ``[frames, height, width, 3]``, RGB; a frame of it is a frame of the shot."""

    pixels: Pixels = field(compare=False, hash=False)
    sha256: str
    name: str = "the array"
    file: str = ""

    @classmethod
    def of(cls, array: npt.NDArray[Any]) -> ArraySource:
        """Take a clip or one picture, ``[height, width, 3]``; it is copied.

        Raises:
            InputError: it is neither.
        """
        clip = array[np.newaxis] if array.ndim == _CLIP - 1 else array
        sound = clip.ndim == _CLIP and clip.shape[-1] == _COLOURS and clip.dtype == np.uint8
        if not sound or not clip.size:
            raise InputError(
                f"An array of pictures is {array.dtype.name} {list(array.shape)}; give uint8 RGB "
                "[height, width, 3], or [frames, height, width, 3]."
            )
        pixels = np.array(clip, dtype=np.uint8, order="C")  # what is planned must not change
        shape = repr(pixels.shape).encode()
        return cls(pixels, hashlib.sha256(shape + pixels.tobytes()).hexdigest())

    @property
    def files(self) -> tuple[Path, ...]:
        """None."""
        return ()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[2], self.pixels.shape[1]

    def first(self, count: int, _fps: Fraction, size: tuple[int, int]) -> Pixels:
        """The first pictures; see :class:`animatic.sources.Source`."""
        return padded_back([fitted(p, size) for p in self.pixels[:count]], count)

    def last(self, count: int, _fps: Fraction, size: tuple[int, int]) -> Pixels:
        """The last pictures."""
        return padded_front([fitted(p, size) for p in self.pixels[-count:]], count)

    def digest(self) -> str:
        """SHA-256 of the shape and the bytes."""
        return self.sha256
