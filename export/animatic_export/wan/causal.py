"""Wan 2.1's transformer run block by block, as Self-Forcing does (arXiv:2506.08009).

A block of latent frames attends to itself and to the frames before it, whose keys and values are
kept, so a clip may go on for ever in the same memory. They are kept in a ring: the slot of a frame
is its place in the clip modulo the window, and a new block takes the place of the oldest. The order
of slots does not matter: keys are turned by their place in the clip before they are kept.

Every run writes its block's slots, noisy or clean. The last run of a block is on its clean latents
at the context's timestep, and what that writes stays.

Axes: as in `denoiser`; W slots of the ring, of a latent frame each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch import Tensor

from animatic_export.transformer import attention
from animatic_export.wan.config import PATCH
from animatic_export.wan.denoiser import Transformer

if TYPE_CHECKING:
    from animatic_export.wan.config import CausalConfig

EMPTY: Final = -1e4
"""Added to the scores of slots that nothing was written to: also in float16 their share is 0."""


class Slots(NamedTuple):
    """Where a block's frames go in the ring, and what of the ring the block sees.

    source: int64 [W], which of the block's frames a slot takes, where it takes one.
    taken: bool [W, 1, 1], whether it takes one.
    bias: float32 [W, 1], 0 for slots that hold a frame, `EMPTY` for the others.
    """

    source: Tensor
    taken: Tensor
    bias: Tensor


class Ring:
    """The keys and values that one layer keeps, of any float type, during one run.

    In memory they are [B, heads, W, M, d], in attention's own order. The shape of a state may only
    have axes that an input has, so outside that is called [B, W, h, w, D/4].
    """

    def __init__(self, slots: Slots, keys: Tensor, values: Tensor) -> None:
        self.slots = slots
        self.keys = keys
        self.values = values

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Write a block's keys and values [B, heads, N, d], then attend to all that is there."""
        keys, self.keys = self._write(k, self.keys)
        values, self.values = self._write(v, self.values)
        bias = self.slots.bias.to(q.dtype).expand(-1, keys.shape[3]).flatten()
        return attention(q, keys.flatten(2, 3), values.flatten(2, 3), bias)

    def _write(self, new: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ring with the block in it, [B, heads, W, M, d], and as it is kept."""
        batch, heads, _, width = new.shape
        ring = kept.to(new.dtype).view(batch, heads, len(self.slots.source), -1, width)
        block = new.unflatten(2, (-1, ring.shape[3])).index_select(2, self.slots.source)
        ring = torch.where(self.slots.taken, block, ring)
        return ring, ring.to(kept.dtype).view(kept.shape)


class CausalWanDenoiser(Transformer):
    """Predicts the velocity of one block of a clip, given what it keeps of the frames before."""

    slots: Tensor

    def __init__(self, config: CausalConfig) -> None:
        super().__init__(config.denoiser)
        self.causal = config
        slots = torch.arange(config.window, device="cpu")  # no checkpoint brings these
        self.register_buffer("slots", slots, persistent=False)

    def forward(
        self,
        latents: Tensor,
        timesteps: Tensor,
        text_states: Tensor,
        position: Tensor,
        *memories: Tensor,
    ) -> tuple[Tensor, ...]:
        """Return the velocity, shaped as the latents, and what is kept, shaped as it came in.

        `latents` [B, C, T, h, w] normalised, h and w even; `timesteps` [B, T] = 1000 sigma;
        `text_states` [B, L, text width], the padding zeros; `position` int64 [1], the latent
        frames of the clip before this block; `memories` keys and values of each layer in turn,
        [B, W, h, w, D/4], zeros at a clip's start.
        """
        rows, columns = latents.shape[3] // PATCH, latents.shape[4] // PATCH
        rotation = self.rotary(self.causal.block, rows, columns, position)
        slots = self._slots(position)
        time, shared = self.condition(timesteps)
        text = self.read(text_states)
        x = self.tokens(latents)
        kept: list[Tensor] = []
        for layer, block in enumerate(self.blocks):
            ring = Ring(slots, *memories[2 * layer : 2 * layer + 2])
            x = block(x, shared, text, rotation, ring.attend)
            kept += [ring.keys, ring.values]
        return self.velocity(x, time, latents), *kept

    def _slots(self, position: Tensor) -> Slots:
        block = self.causal.block
        ahead = torch.remainder(self.slots - position, self.causal.window)
        filled = self.slots < position + block  # once the ring is full, so is every slot
        return Slots(
            source=ahead.clamp(max=block - 1),
            taken=(ahead < block)[:, None, None],
            bias=torch.where(filled, 0.0, EMPTY)[:, None],
        )
