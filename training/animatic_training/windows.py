"""Windows of latent frames to learn from: which are given, which are made, and where they stand.

    plain    [n n n n]       positions 0 to 3: a shot begins
    further  [g g n n n n]   positions 1 to 6: a shot goes on
    first    [g n n n]       positions 0 to 3: its first picture is given
    before   [n n n n g g]   positions 0 to 5, or 1 to 6: what comes after is given
    join     [g n n n n g]   positions 1 to 6: both ends are given

A piece has latent frames 0 to 6, of which the first stands for one picture: only where the piece
begins its shot is that position 0, so other pieces give latent frames 1 to 6 alone. To any pattern
stills may be added: pictures of the piece encoded alone, at the place of their frame. `still` is
a picture and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from animatic_training.config import BLOCK, CONTEXT, TEMPORAL_FACTOR

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from animatic_training.latents import LatentSet


class Pattern(NamedTuple):
    """A run of latent frames: `given` before and after those that are made."""

    before: int
    made: int
    after: int
    begins: bool
    """Whether it stands at the beginning of a shot."""

    @property
    def length(self) -> int:
        """Latent frames, stills not counted."""
        return self.before + self.made + self.after


STILL: Final = Pattern(0, 1, 0, begins=True)
PATTERNS: Final = {
    "plain": Pattern(0, BLOCK, 0, begins=True),
    "further": Pattern(CONTEXT, BLOCK, 0, begins=False),
    "first": Pattern(1, BLOCK - 1, 0, begins=True),
    "before": Pattern(0, BLOCK, CONTEXT, begins=False),
    "join": Pattern(1, BLOCK, 1, begins=False),
}
OPENING: Final = Pattern(0, BLOCK, CONTEXT, begins=True)
"""`before` where a shot begins."""


@dataclass(frozen=True)
class Window:
    """A batch of windows of one pattern and size."""

    latents: Tensor
    """float32 [B, C, T, h, w], clean."""
    made: Tensor
    """bool [B, T]; the other frames are given."""
    positions: Tensor
    """float32 [B, T], in latent frames."""
    shares: Tensor
    """float16 [B, T, h, w] of subject in each cell; 0 at stills."""

    def sigma(self, level: Tensor) -> Tensor:
        """Return noise levels [B, T] from one a window, [B, 1]: 0 where a frame is given."""
        return torch.where(self.made, level, 0.0)

    def noised(self, noise: Tensor, sigma: Tensor) -> Tensor:
        """Return the latents at noise levels [B, T]; given frames stay exactly as they are."""
        wide = sigma[:, None, :, None, None]
        return torch.where(wide > 0, (1 - wide) * self.latents + wide * noise, self.latents)

    def keep(self, latents: Tensor) -> Tensor:
        """Return latents with the given frames put back."""
        return torch.where(self.made[:, None, :, None, None], latents, self.latents)


def cut(data: LatentSet, rows: Tensor, pattern: Pattern, stills: tuple[int, ...] = ()) -> Window:
    """Cut windows of one pattern from rows [B] of a set, with so many of each row's stills."""
    first = 0 if pattern.begins else 1
    own = slice(first, first + pattern.length)
    latents = [data.latents[rows, :, own].float()]
    shares = data.shares[rows, own]
    device, batch = latents[0].device, len(rows)
    positions = [torch.arange(first, first + pattern.length, device=device).expand(batch, -1)]
    for still in stills:
        latents.append(data.stills[rows, still, :, None].float())
        positions.append(still_position(data.still_frames[rows, still, None]))
    blank = torch.zeros_like(shares[:, :1]).expand(-1, len(stills), -1, -1)
    made = torch.zeros(batch, pattern.length + len(stills), dtype=torch.bool, device=device)
    made[:, pattern.before : pattern.before + pattern.made] = True
    return Window(
        torch.cat(latents, dim=2),
        made,
        torch.cat([part.float() for part in positions], dim=1),
        torch.cat([shares, blank], dim=1),
    )


def still_position(frame: Tensor) -> Tensor:
    """Return where a picture stands among latent frames: those of frames 1 to 4 are at 1."""
    factor = TEMPORAL_FACTOR
    return (frame + (factor - 1) / 2) / factor


def begins(data: LatentSet) -> Tensor:
    """Return the rows [N'] of pieces that begin their shot."""
    return torch.nonzero(data.starts == 0)[:, 0]


def draw_pattern(
    rng: np.random.Generator, shares: dict[str, float], still_share: float
) -> tuple[Pattern, tuple[int, ...]]:
    """Draw a batch's pattern, and which of each piece's stills it also holds.

    Of a window at the beginning the first still lies within it, of a further one the second.
    """
    names, weights = list(shares), list(shares.values())
    name = names[int(rng.choice(len(names), p=[w / sum(weights) for w in weights]))]
    pattern = PATTERNS[name]
    if name == "before" and rng.random() < 0.5:
        pattern = OPENING
    if rng.random() >= still_share:
        return pattern, ()
    within = 0 if pattern.begins else 1
    return pattern, ((within,), (0, 1))[int(rng.random() < 0.3)]
