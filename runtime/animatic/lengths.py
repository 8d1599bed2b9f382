"""How long a clip may be: the frame counts that a model makes, and the one nearest to a length.

Without context a block knows nothing of the one before it, so a clip is one block at most, of a
length that the bundle lists. With context it may also be any whole number of blocks.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from animatic.errors import ShotError
from animatic.sentences import listed

if TYPE_CHECKING:
    from animatic.bundle import Bundle

__all__ = ["MAX_SECONDS", "Lengths"]

MAX_SECONDS: Final = 86_400  # a day; long enough for any loop, and the arithmetic stays small


@dataclass(frozen=True, slots=True)
class Lengths:
    """The frame counts that a model really makes, at a delivery rate in frames per second.

    named: those that the bundle lists, the default first.
    block: frames of a clip of one block. further: frames that each further block adds; 0 where
        blocks cannot be joined.
    """

    named: tuple[int, ...]
    block: int
    further: int
    temporal_factor: int
    fps: Fraction

    @classmethod
    def of(cls, bundle: Bundle, fps: Fraction) -> Lengths:
        """Find what a bundle makes; ShotError if that is nothing."""
        geometry = bundle.geometry
        factor, block_latents = geometry.temporal_factor, geometry.block_latent_frames
        block = 1 + (block_latents - 1) * factor
        further = block_latents * factor if bundle.conditioning.context else 0
        named = tuple(
            count
            for count in geometry.frame_counts
            if count <= block or (further and not (count - block) % further)
        )
        if not named and not further:
            raise ShotError(
                "Every clip length of this model needs more than one block, which it cannot "
                "join without context; export it again with a shorter frame count."
            )
        return cls(named or (block,), block, further, factor, fps)

    def settle(self, seconds: object, frames: object) -> int:
        """Settle on a frame count; None leaves the choice to the model, ShotError says what it is.

        seconds: above 0; the nearest length will do. frames: exactly that many.
        """
        if seconds is not None and frames is not None:
            raise ShotError("A shot has either seconds or frames; leave one of them out.")
        if frames is not None:
            return self._counted(frames)
        return self.named[0] if seconds is None else self._nearest(seconds)

    def _counted(self, frames: object) -> int:
        for count in self.named:
            if frames == count:
                return count
        if self.further and isinstance(frames, numbers.Integral):
            count = int(frames)
            blocks_more, rest = divmod(count - self.block, self.further)
            if blocks_more >= 0 and not rest and count <= self._most():
                return count
        choices = listed([str(count) for count in self.named])
        if self.further:
            choices += (
                f", or {self.block} plus any number of blocks of {self.further}, up to "
                f"{MAX_SECONDS:,} seconds"
            )
        raise ShotError(f"This model does not make that many frames; choose {choices}.")

    def _nearest(self, seconds: object) -> int:
        if (
            not isinstance(seconds, int | float)
            or isinstance(seconds, bool)
            or not 0 < seconds <= MAX_SECONDS
        ):
            raise ShotError(
                f"The length in seconds cannot be used; choose a number above 0 and up to "
                f"{MAX_SECONDS:,}, such as {float(self.named[0] / self.fps):.4g}."
            )
        # Exact arithmetic, halves up: the answer must not depend on how a float rounds.
        wanted = Fraction(seconds) * self.fps
        exact = 1 + _rounded((wanted - 1) / self.temporal_factor) * self.temporal_factor
        if exact in self.named:
            return exact
        if self.further:
            blocks_more = _rounded((wanted - self.block) / self.further)
            most = max(0, math.floor((self._most() - self.block) / self.further))
            return self.block + min(blocks_more, most) * self.further
        lengths = listed([f"{float(n / self.fps):.4g} ({n} frames)" for n in self.named])
        raise ShotError(
            f"This model does not make a clip of that many seconds at {float(self.fps):.6g} "
            f"frames per second; choose {lengths}."
        )

    def _most(self) -> Fraction:
        """How many frames fill the longest clip."""
        return MAX_SECONDS * self.fps


def _rounded(value: Fraction) -> int:
    """Round to a whole number, halves up, and nothing below 0."""
    return max(0, math.floor(value + Fraction(1, 2)))
