"""Where tokens are in seconds and pixels, as angles by which queries and keys are turned.

LTX-Video's rotary positions are not counted in tokens: a token's second, its row and its column in
pixels are fractions of 20 seconds and 2,048 pixels, and each frequency turns by its own multiple of
those. Frequencies run over the width of all heads together, so every head has its own; with each
frequency the three axes take turns.

Angles reach 15,708 radians, where a float32 is a thousandth of a radian off: everything is computed
in the published code's order, so that the roundings are the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from animatic_export.transformer import Rotation

if TYPE_CHECKING:
    from animatic_export.ltx.config import LtxDenoiserConfig

BASE: Final = 10_000.0
"""Of the frequencies: they rise from 1 to BASE quarter turns a whole."""
WHOLE: Final = (20.0, 2048.0, 2048.0)
"""Seconds, pixels high and pixels wide that count as 1."""


class Positions(nn.Module):
    """The rotation of every token of a grid of frames, rows and columns."""

    frequencies: Tensor

    def __init__(self, config: LtxDenoiserConfig) -> None:
        super().__init__()
        self.config = config
        # On the processor even where a module is made without storage ("meta"): no checkpoint
        # brings these.
        exponents = torch.linspace(0.0, 1.0, config.width // 6, device="cpu")
        self.register_buffer("frequencies", BASE**exponents * math.pi / 2, persistent=False)

    def forward(self, frames: int, rows: int, columns: int) -> Rotation:
        """Return cosines and sines [heads, N, head width / 2] of all N tokens, columns fastest."""
        size = (frames, rows, columns, -1)
        angles = torch.stack(
            [
                self._angles(self._seconds(frames), 0)[:, None, None].expand(size),
                self._angles(self._pixels(rows), 1)[None, :, None].expand(size),
                self._angles(self._pixels(columns), 2)[None, None].expand(size),
            ],
            dim=-1,
        )
        angles = angles.flatten(3).flatten(0, 2)
        # Where the width is no multiple of 6, the first pairs are not turned.
        angles = F.pad(angles, (self.config.width // 2 - 3 * (self.config.width // 6), 0))
        angles = angles.unflatten(1, (self.config.heads, -1)).transpose(0, 1)
        return Rotation(angles.cos(), angles.sin())

    def _angles(self, places: Tensor, axis: int) -> Tensor:
        """Map seconds or pixels [n] to radians [n, width / 6]."""
        return self.frequencies * (places[:, None] / WHOLE[axis] * 2 - 1)

    def _seconds(self, frames: int) -> Tensor:
        """When latent frames begin."""
        config = self.config
        first = self._counts(frames)
        if not config.causal_positions:
            return first * (config.temporal_factor / config.frame_rate)
        began = (first * config.temporal_factor + (1 - config.temporal_factor)).clamp(min=0)
        return began * (1.0 / config.frame_rate)

    def _pixels(self, cells: int) -> Tensor:
        """The upper or left edges of latent cells."""
        return self._counts(cells) * self.config.spatial_factor

    def _counts(self, length: int) -> Tensor:
        return torch.arange(length, dtype=torch.float32, device=self.frequencies.device)
