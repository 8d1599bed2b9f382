"""Wan 2.1's text-to-video transformer (arXiv:2503.20314), as diffusers' WanTransformer3DModel.

A token is one latent frame high patch of 2 x 2 cells. Every block attends within the clip, then to
the prompt's token states, then has an MLP; the timestep shifts, scales and gates it by one shared
projection and an offset of the block's own.

Half precision (see `typed`): tokens take the type of `patch`; norms, positions, timesteps and
modulation are float32 whatever that is.

Axes: B clips, C latent channels, T latent frames, h and w rows and columns of latents, M tokens of
a frame (h/2 * w/2), N = T * M, L prompt tokens, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from animatic_export.transformer import attention, timestep_embedding
from animatic_export.wan.config import PATCH
from animatic_export.wan.rotary import Rotary

if TYPE_CHECKING:
    from collections.abc import Callable

    from animatic_export.transformer import Rotation
    from animatic_export.wan.config import WanConfig

    Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
    """Attention within the clip, with the arguments and the result of `attention`."""


class Block(nn.Module):
    """Attention within the clip, attention to the prompt and an MLP."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.epsilon = config.epsilon
        self.scale = config.head_width**-0.5
        self.offset = nn.Parameter(torch.zeros(6, width))
        self.qkv = nn.Linear(width, 3 * width)
        self.query_gain = nn.Parameter(torch.ones(width))
        self.key_gain = nn.Parameter(torch.ones(width))
        self.proj = nn.Linear(width, width)
        self.text_norm = nn.LayerNorm(width, config.epsilon)
        self.text_query = nn.Linear(width, width)
        self.text_kv = nn.Linear(width, 2 * width)
        self.text_query_gain = nn.Parameter(torch.ones(width))
        self.text_key_gain = nn.Parameter(torch.ones(width))
        self.text_proj = nn.Linear(width, width)
        self.up = nn.Linear(width, config.ffn_width)
        self.down = nn.Linear(config.ffn_width, width)

    def forward(
        self, x: Tensor, shared: Tensor, text: Tensor, rotation: Rotation, attend: Attend
    ) -> Tensor:
        """Map tokens [B, T, M, D]; `shared` is [B, T or 1, 1, 6, D], `text` [B, L, D]."""
        shift, scale, gate, shift2, scale2, gate2 = (shared + self.offset).unbind(dim=-2)
        h = (self._norm(x) * (1 + scale) + shift).to(x.dtype).flatten(1, 2)
        q, k, v = self.qkv(h).chunk(3, dim=-1)
        q = (rotation.turn(self._heads(q, self.query_gain)) * self.scale).to(v.dtype)
        k = rotation.turn(self._heads(k, self.key_gain)).to(v.dtype)
        mixed = self.proj(_joined(attend(q, k, self._split(v))))
        x = (x.float() + gate * mixed.view_as(x)).to(x.dtype)
        x = x + self._read(self.text_norm(x.float()).to(x.dtype).flatten(1, 2), text).view_as(x)
        h = (self._norm(x) * (1 + scale2) + shift2).to(x.dtype)
        grown = self.down(F.gelu(self.up(h), approximate="tanh"))
        return (x.float() + gate2 * grown).to(x.dtype)

    def _read(self, h: Tensor, text: Tensor) -> Tensor:
        """Attend to the prompt; `h` [B, N, D]."""
        q = (self._heads(self.text_query(h), self.text_query_gain) * self.scale).to(h.dtype)
        k, v = self.text_kv(text).chunk(2, dim=-1)
        k = self._heads(k, self.text_key_gain).to(h.dtype)
        out: Tensor = self.text_proj(_joined(attention(q, k, self._split(v))))
        return out

    def _norm(self, x: Tensor) -> Tensor:
        return F.layer_norm(x.float(), x.shape[-1:], eps=self.epsilon)

    def _heads(self, x: Tensor, gain: Tensor) -> Tensor:
        """Normalise queries or keys across all heads, then split them; float32."""
        return self._split(F.rms_norm(x.float(), x.shape[-1:], gain, self.epsilon))

    def _split(self, x: Tensor) -> Tensor:
        """[B, N, D] to [B, heads, N, d]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _joined(x: Tensor) -> Tensor:
    """[B, heads, N, d] to [B, N, D]."""
    return x.transpose(1, 2).flatten(2)


class Transformer(nn.Module):
    """All that the denoiser of whole clips and the causal one have in common."""

    FLOAT32_ISLANDS = ("time", "modulation")

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.config = config
        width, cells = config.width, PATCH * PATCH
        self.patch = nn.Linear(config.latent_channels * cells, width)
        self.text = nn.Sequential(
            nn.Linear(config.text_width, width), nn.GELU("tanh"), nn.Linear(width, width)
        )
        self.time = nn.Sequential(
            nn.Linear(config.frequency_width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.modulation = nn.Linear(width, 6 * width)
        self.rotary = Rotary(config.head_width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_offset = nn.Parameter(torch.zeros(2, width))
        self.out = nn.Linear(width, cells * config.latent_channels)

    def tokens(self, latents: Tensor) -> Tensor:
        """Map latents [B, C, T, h, w] to tokens [B, T, M, D]; a patch is [C, 2, 2], flattened."""
        cells = latents.to(self.patch.weight.dtype)
        cells = cells.unflatten(4, (-1, PATCH)).unflatten(3, (-1, PATCH))
        tokens: Tensor = self.patch(cells.permute(0, 2, 3, 5, 1, 4, 6).flatten(4))
        return tokens.flatten(2, 3)

    def condition(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Map timesteps [B, T or 1] to [B, T or 1, 1, D] and the blocks' [B, T or 1, 1, 6, D]."""
        embedding = timestep_embedding(timesteps.float(), self.config.frequency_width)
        time = self.time(embedding)[:, :, None]
        return time, self.modulation(F.silu(time)).unflatten(-1, (6, -1))

    def read(self, text_states: Tensor) -> Tensor:
        """Map the prompt's token states [B, L, text width] to [B, L, D]."""
        text: Tensor = self.text(text_states.to(self.patch.weight.dtype))
        return text

    def velocity(self, x: Tensor, time: Tensor, latents: Tensor) -> Tensor:
        """Map the last tokens [B, T, M, D] to a velocity, shaped and typed as the latents."""
        shift, scale = (time[..., None, :] + self.final_offset).unbind(dim=-2)
        normed = F.layer_norm(x.float(), x.shape[-1:], eps=self.config.epsilon)
        patches = self.out((normed * (1 + scale) + shift).to(x.dtype)).to(latents.dtype)
        # A token's outputs are [2, 2, C], channels last.
        cells = patches.unflatten(3, (PATCH, PATCH, -1)).unflatten(
            2, (latents.shape[3] // PATCH, latents.shape[4] // PATCH)
        )
        return cells.permute(0, 6, 1, 2, 4, 3, 5).flatten(5, 6).flatten(3, 4)


class WanDenoiser(Transformer):
    """Predicts the velocity noise - x0 of x_t = (1 - sigma) x0 + sigma noise, of a whole clip."""

    def forward(self, latents: Tensor, timesteps: Tensor, text_states: Tensor) -> Tensor:
        """Return the velocity, shaped as the latents.

        `latents` [B, C, T, h, w] normalised, h and w even; `timesteps` [B, T] = 1000 sigma, of
        which a clip's first counts for all of it; `text_states` [B, L, text width], the padding
        zeros.
        """
        rows, columns = latents.shape[3] // PATCH, latents.shape[4] // PATCH
        rotation = self.rotary(latents.shape[2], rows, columns, None)
        time, shared = self.condition(timesteps[:, :1])
        text = self.read(text_states)
        x = self.tokens(latents)
        for block in self.blocks:
            x = block(x, shared, text, rotation, attention)
        return self.velocity(x, time, latents)
