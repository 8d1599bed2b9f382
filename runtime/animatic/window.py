"""What the denoiser sees while it makes one block: which latent frames, given or made, and when.

A window holds, in this order: given latents that stand in front of the block, the block itself,
given latents that stand behind it, and stills. A given latent is clean, at timestep 0, and stays
what it is.

    a shot that begins       [ block ]                        positions 0 to 3
    a further block          [ 2 before | block ]             1 to 6
    towards a clip           [ block | 2 after ]              1 to 6, or 0 to 5 if the shot begins
    between two clips, loop  [ 1 before | block | 1 after ]   1 to 6

(with blocks of 4 latent frames and a context of 2). Position 0 belongs to the one latent frame that
stands for one picture only, the first of a shot; every other stands for temporal_factor pictures,
and a window that does not begin a shot counts from 1. A picture that is given for the first frame
of a shot is simply the block's first latent, given; one for any other frame is a still: a latent
frame that stands for that picture held, at the position where it is seen among the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from animatic.bundle import Bundle, Geometry

__all__ = ["MAX_STILLS", "Layout", "Window", "encoded_lengths", "place_of", "window_lengths"]

MAX_STILLS: Final = 4  # in one window: as many as a block has latent frames, in Blockout


def window_lengths(bundle: Bundle) -> list[int]:
    """The latent frames that the denoiser sees at once, the most usual number of them first.

    What lies between two of them may come too: an engine must take every number from the least to
    the most.
    """
    geometry = bundle.geometry
    block, factor = geometry.block_latent_frames, geometry.temporal_factor
    clips = [min(block, 1 + (count - 1) // factor) for count in geometry.frame_counts]
    context = geometry.context_latent_frames
    stills = MAX_STILLS if bundle.conditioning.keyframes else 0
    further = [block + context] if context else []
    most = [max(clips) + context + stills] if stills else []
    return [*further, *clips, *most]


def encoded_lengths(geometry: Geometry) -> list[int]:
    """The latent frames that the encoder makes at once, of as many times temporal_factor pictures.

    First those of a clip that goes before or comes after, then that of a picture; the same holds
    for what lies between.
    """
    return [geometry.context_latent_frames + 1, 1]


def place_of(frame: int, geometry: Geometry, *, begins: bool) -> tuple[int, int]:
    """Return which of a clip's latent frames holds a frame, and at which of its places.

    begins: whether the clip begins a shot, so that its first latent frame stands for one picture:
        the last of that latent's places.
    """
    shift = geometry.temporal_factor - 1 if begins else 0
    return divmod(frame + shift, geometry.temporal_factor)


class Window(NamedTuple):
    """One block's window, in latent frames.

    before: given, in front of the block. fixed: of the block's own, given: 1 where a picture was
    given for the first frame, else 0. made: of the block's own, those that are made. after: given,
    behind the block. stills: the frames of the clip whose pictures are given beside.
    positions: float32 [frames], of every latent frame in the window.
    """

    before: int
    fixed: int
    made: int
    after: int
    stills: tuple[int, ...]
    positions: npt.NDArray[np.float32]

    def timesteps(self, timestep: float) -> npt.NDArray[np.float32]:
        """What the denoiser is told of each latent frame: float32 [1, frames], 0 where given."""
        times = np.zeros((1, len(self.positions)), dtype=np.float32)
        start = self.before + self.fixed
        times[:, start : start + self.made] = timestep
        return times


@dataclass(frozen=True, slots=True)
class Layout:
    """The windows of a clip.

    latent_frames: of the whole clip, a number of whole blocks, or less than one.
    continues: whether a clip goes before, whose end is given. leads: whether a clip comes after,
        whose beginning is given. loops: whether the clip comes after itself.
    images: the frames for which pictures are given, in order.
    """

    geometry: Geometry
    latent_frames: int
    continues: bool = False
    leads: bool = False
    loops: bool = False
    images: tuple[int, ...] = ()

    @property
    def block(self) -> int:
        """How many latent frames a block has."""
        return min(self.geometry.block_latent_frames, self.latent_frames)

    @property
    def blocks(self) -> int:
        """How many blocks there are; ValueError if they are not whole, as those of a plan are."""
        blocks, rest = divmod(self.latent_frames, self.block)
        if rest:
            raise ValueError(
                f"{self.latent_frames} latent frames are not a multiple of {self.block}"
            )
        return blocks

    @property
    def backwards(self) -> bool:
        """Whether blocks are made from the last to the first, as only what comes after is known."""
        return self.leads and not self.continues

    @property
    def after(self) -> int:
        """How many latent frames of what comes after the last block sees; 0 if nothing does."""
        context = self.geometry.context_latent_frames
        if self.backwards:
            return context
        return context // 2 if self.leads or self.loops else 0

    def window(self, block: int) -> Window:
        """Lay out the window of a block, counted from 0."""
        geometry, size = self.geometry, self.block
        context = geometry.context_latent_frames
        begins = block == 0 and not self.continues
        after = self.after if self.backwards or block == self.blocks - 1 else 0
        before = 0 if begins or self.backwards else context - after
        fixed = 1 if begins and 0 in self.images else 0
        first = 0 if begins else 1
        own = [first + before + place for place in range(size)]
        stills: dict[int, float] = {}
        for frame in self.images:
            latent, place = place_of(frame, geometry, begins=not self.continues)
            if latent // size == block and not (fixed and frame == 0):
                stills[frame] = own[latent % size] + _offset(place, geometry.temporal_factor)
        count = before + size + after
        positions = [*range(first, first + count), *stills.values()]
        return Window(
            before=before,
            fixed=fixed,
            made=size - fixed,
            after=after,
            stills=tuple(stills),
            positions=np.array(positions, dtype=np.float32),
        )


def _offset(place: int, factor: int) -> float:
    """How far a picture lies from the middle of its latent frame's pictures, in latent frames.

    Frame f of a shot is thus at (f + 1.5) / 4, where a latent frame has 4 pictures.
    """
    return (place - (factor - 1) / 2) / factor
