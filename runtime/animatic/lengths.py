"""How long a clip may be: the frame counts that a model makes, and the one nearest to a length.

Without context a block knows nothing of the one before it, so a clip is one block at most, of a
length that the bundle lists. With context it may also be any whole number of blocks. A clip that
goes on from another has no first block, whose first latent frame stands for one picture: it is a
multiple of further ones. A loop has a first block and at least one further, which leads back to it.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Final

from animatic.errors import ShotError
from animatic.sentences import listed

if TYPE_CHECKING:
    from animatic.bundle import Bundle, Geometry

__all__ = ["MAX_SECONDS", "Lengths", "in_blocks"]

MAX_SECONDS: Final = 86_400  # a day; long enough for any loop, and the arithmetic stays small


def in_blocks(geometry: Geometry, *, context: bool) -> tuple[int, int]:
    """Return the frames of a clip of one block, and those that each further block adds.

    The latter is 0 without context.
    """
    factor, block = geometry.temporal_factor, geometry.block_latent_frames
    return 1 + (block - 1) * factor, block * factor if context else 0


@dataclass(frozen=True, slots=True)
class Lengths:
    """The frame counts that a model really makes, at a delivery rate in frames per second.

    named: those that the bundle lists, the default first.
    block: frames of the shortest clip of whole blocks. further: frames that each further block
        adds; 0 where blocks cannot be joined. whole_blocks: whether there are no other lengths.
    refusal: the words in front of "that many frames" when a count is none of them.
    """

    named: tuple[int, ...]
    block: int
    further: int
    temporal_factor: int
    fps: Fraction
    whole_blocks: bool = False
    refusal: str = "This model does not make"

    @classmethod
    def of(cls, bundle: Bundle, fps: Fraction) -> Lengths:
        """Find what a bundle makes."""
        geometry = bundle.geometry
        block, further = in_blocks(geometry, context=bundle.conditioning.context)
        return cls(geometry.frame_counts, block, further, geometry.temporal_factor, fps)

    def going_on(self) -> Lengths:
        """The lengths of a clip that goes on from another; only where blocks can be joined."""
        return self._from(self.further, "A shot that goes on from a clip does not have")

    def looping(self) -> Lengths:
        """The lengths of a clip that loops; only where blocks can be joined."""
        return self._from(self.block + self.further, "A loop does not have")

    def _from(self, least: int, refusal: str) -> Lengths:
        """Whole blocks beyond a first length; by default that which is nearest to the usual."""
        more = _rounded(Fraction(self.named[0] - least, self.further))
        usual = least + more * self.further
        return replace(self, named=(usual,), block=least, whole_blocks=True, refusal=refusal)

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
        # NumPy's whole numbers serve; True and 9.0 are slips, and an array's == is an array.
        if type(frames) is not bool and isinstance(frames, numbers.Integral):
            count = int(frames)
            if count in self.named:
                return count
            if self.further:
                blocks_more, rest = divmod(count - self.block, self.further)
                if blocks_more >= 0 and not rest and count <= self._most():
                    return count
        raise ShotError(f"{self.refusal} that many frames; choose {self._choices()}.")

    def _choices(self) -> str:
        ways = [] if self.whole_blocks else [listed([str(count) for count in self.named])]
        if self.further:
            blocks = f"{self.block} plus any number of blocks of {self.further}"
            if self.block == self.further:
                blocks = f"any multiple of {self.further}"
            ways.append(f"{blocks}, up to {MAX_SECONDS:,} seconds")
        return ", or ".join(ways)

    def _nearest(self, seconds: object) -> int:
        length = _exact(seconds)
        if length is None or not 0 < length <= MAX_SECONDS:
            raise ShotError(
                f"The length in seconds cannot be used; choose a number above 0 and up to "
                f"{MAX_SECONDS:,}, such as {float(self.named[0] / self.fps):.4g}."
            )
        wanted = length * self.fps
        if self.further:
            blocks_more = _rounded((wanted - self.block) / self.further)
            most = max(0, math.floor((self._most() - self.block) / self.further))
            whole_blocks = self.block + min(blocks_more, most) * self.further
            # Of two that are as near the longer one.
            return min((*self.named, whole_blocks), key=lambda n: (abs(n - wanted), -n))
        exact = 1 + _rounded((wanted - 1) / self.temporal_factor) * self.temporal_factor
        if exact in self.named:
            return exact
        lengths = listed([f"{float(n / self.fps):.4g} ({n} frames)" for n in self.named])
        raise ShotError(
            f"This model does not make a clip of that many seconds at {float(self.fps):.6g} "
            f"frames per second; choose {lengths}."
        )

    def _most(self) -> Fraction:
        """How many frames fill the longest clip."""
        return MAX_SECONDS * self.fps


def _exact(seconds: object) -> Fraction | None:
    """Take a number, Python's or NumPy's, at its exact value; None for what is none or not finite.

    Exact, as the answer must not depend on how a float rounds.
    """
    if isinstance(seconds, bool):  # a slip
        return None
    if isinstance(seconds, numbers.Rational):
        return Fraction(int(seconds.numerator), int(seconds.denominator))
    if isinstance(seconds, numbers.Real) and math.isfinite(seconds):
        return Fraction(float(seconds))
    return None


def _rounded(value: Fraction) -> int:
    """Round to a whole number, halves up, and nothing below 0."""
    return max(0, math.floor(value + Fraction(1, 2)))
