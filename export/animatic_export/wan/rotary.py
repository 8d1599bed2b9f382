"""Rotary positions of tokens in time, height and width (RoFormer, arXiv:2104.09864).

A head's channels are pairs; each pair is turned by its frequency times the token's frame, row or
column. Published checkpoints have the pairs side by side (0, 1), (2, 3), …; here a pair is split
over the two halves of the head, so that turning is two products and a concatenation. `half_split`
brings a published weight's rows into that order: queries and keys both move, so their products stay
the same.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn

BASE: Final = 10_000.0
"""Of the frequencies: they fall from 1 to nearly 1/BASE radians a place."""
PLACES: Final = 1024
"""Frames of a run, rows and columns of tokens that can be told apart, as in the published code."""


class Rotation(NamedTuple):
    """Cosines and sines, float32 [N, head width / 2], of N tokens."""

    cosines: Tensor
    sines: Tensor

    def turn(self, x: Tensor) -> Tensor:
        """Turn queries or keys, float32 [B, heads, N, head width] in half-split order."""
        first, second = x.chunk(2, dim=-1)
        return torch.cat(
            [
                first * self.cosines - second * self.sines,
                second * self.cosines + first * self.sines,
            ],
            dim=-1,
        )


class Rotary(nn.Module):
    """The rotation of every token of a grid of frames, rows and columns.

    Angles are computed, from 1,024 places and a head's frequencies: both are small enough to be
    stored in full where weights are stored narrow, and a clip has no last frame.
    """

    time: Tensor
    row: Tensor
    column: Tensor
    places: Tensor

    def __init__(self, head_width: int) -> None:
        super().__init__()
        side = 2 * (head_width // 6)
        # On the processor even where a module is made without storage ("meta"): no checkpoint
        # brings these.
        for name, width in (("time", head_width - 2 * side), ("row", side), ("column", side)):
            exponents = torch.arange(0, width, 2, dtype=torch.float64, device="cpu") / width
            self.register_buffer(name, (BASE**-exponents).float(), persistent=False)
        places = torch.arange(PLACES, dtype=torch.float32, device="cpu")[:, None]
        self.register_buffer("places", places, persistent=False)

    def forward(self, frames: int, rows: int, columns: int, first: Tensor | None) -> Rotation:
        """Return the rotation of frames * rows * columns tokens, in that order.

        `first`: int64 [1], the place in the clip of the first frame; None: 0.
        """
        places = self.places
        time = places[:frames] if first is None else places[:frames] + first
        size = (frames, rows, columns, -1)
        angles = torch.cat(
            [
                (time * self.time)[:, None, None].expand(size),
                (places[:rows] * self.row)[None, :, None].expand(size),
                (places[:columns] * self.column)[None, None].expand(size),
            ],
            dim=-1,
        )
        angles = angles.flatten(0, 2)
        return Rotation(angles.cos(), angles.sin())


def half_split(weight: Tensor, heads: int) -> Tensor:
    """Bring rows [heads * head width, …] from pairs side by side to pairs over two halves."""
    pairs = weight.unflatten(0, (heads, -1, 2))
    return pairs.transpose(1, 2).flatten(0, 2)
