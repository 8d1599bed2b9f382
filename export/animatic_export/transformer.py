"""The arithmetic that the photoreal diffusion transformers share.

Rotary positions (RoFormer, arXiv:2104.09864): a head's channels are pairs; each pair is turned by
its frequency times the token's place. Published checkpoints have the pairs side by side (0, 1),
(2, 3), …; here a pair is split over the two halves of the head, so that turning is two products and
a concatenation. `half_split` brings a published weight's rows into that order: queries and keys
both move, so their products stay the same.

Axes: B clips, N and S tokens, d width of a head, D of all heads.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def timestep_embedding(timesteps: Tensor, width: int) -> Tensor:
    """Return [..., width] cosines and sines of timesteps [...] in 0..1000 (Vaswani et al. 2017)."""
    half = width // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    angles = timesteps[..., None] * torch.exp(exponents * (-9.210340371976184 / half))  # ln 10,000
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attend with queries [B, heads, N, d], already scaled, to keys and values [B, heads, S, d].

    `bias` [S] is added to every query's scores.
    """
    # Written out, as engines fuse it; the scale is in the queries, where float32 still held it.
    scores = q @ k.transpose(2, 3)
    if bias is not None:
        scores = scores + bias
    return scores.softmax(dim=-1) @ v


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


def half_split(weight: Tensor, heads: int) -> Tensor:
    """Bring rows [heads * head width, …] from pairs side by side to pairs over two halves."""
    pairs = weight.unflatten(0, (heads, -1, 2))
    return pairs.transpose(1, 2).flatten(0, 2)
