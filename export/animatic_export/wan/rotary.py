"""Where Wan 2.1 has a token: its frame, row and column, as a rotation (see `transformer`)."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn

from animatic_export.transformer import Rotation

BASE: Final = 10_000.0
"""Of the frequencies: they fall from 1 to nearly 1/BASE radians a place."""
PLACES: Final = 1024
"""Frames of a run, rows and columns of tokens that can be told apart, as in the published code."""


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
