"""LTX-Video's transformer (arXiv:2501.00103), as diffusers' LTXVideoTransformer3DModel.

A token is one latent cell. Every block attends within the clip, then to the prompt's token states,
then has an MLP; the timestep shifts, scales and gates all but the attention to the prompt, by one
shared projection and an offset of the block's own. The reference takes a timestep for each token:
here there is one for each latent frame, which costs nothing more and is the same where the tokens
of a frame agree.

Half precision (see `typed`): tokens take the type of `embed`; norms, positions, timesteps and
modulation are float32 whatever that is.

Axes: B clips, C latent channels, T latent frames, h and w rows and columns of latents, M = h * w
tokens of a frame, N = T * M, L prompt tokens, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from animatic_export.ltx.positions import Positions
from animatic_export.transformer import attention, timestep_embedding

if TYPE_CHECKING:
    from animatic_export.ltx.config import LtxDenoiserConfig
    from animatic_export.transformer import Rotation

EPSILON: Final = 1e-6
HEADS_EPSILON: Final = 1e-5
"""Of the norms of queries and keys."""
FREQUENCY_WIDTH: Final = 256
"""Sines and cosines of a timestep."""


def _rms(x: Tensor) -> Tensor:
    return F.rms_norm(x.float(), x.shape[-1:], eps=EPSILON)


class Block(nn.Module):
    """Attention within the clip, attention to the prompt and an MLP."""

    def __init__(self, config: LtxDenoiserConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.scale = config.head_width**-0.5
        self.offset = nn.Parameter(torch.zeros(6, width))
        self.qkv = nn.Linear(width, 3 * width)
        self.query_gain = nn.Parameter(torch.ones(width))
        self.key_gain = nn.Parameter(torch.ones(width))
        self.proj = nn.Linear(width, width)
        self.text_query = nn.Linear(width, width)
        self.text_kv = nn.Linear(width, 2 * width)
        self.text_query_gain = nn.Parameter(torch.ones(width))
        self.text_key_gain = nn.Parameter(torch.ones(width))
        self.text_proj = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, shared: Tensor, text: Tensor, rotation: Rotation) -> Tensor:
        """Map tokens [B, T, M, D]; `shared` is [B, T, 1, 6, D], `text` [B, L, D]."""
        shift, scale, gate, shift2, scale2, gate2 = (shared + self.offset).unbind(dim=-2)
        h = (_rms(x) * (1 + scale) + shift).to(x.dtype).flatten(1, 2)
        q, k, v = self.qkv(h).chunk(3, dim=-1)
        q = (rotation.turn(self._heads(q, self.query_gain)) * self.scale).to(v.dtype)
        k = rotation.turn(self._heads(k, self.key_gain)).to(v.dtype)
        mixed = self.proj(_joined(attention(q, k, self._split(v))))
        x = (x.float() + gate * mixed.view_as(x)).to(x.dtype)
        x = x + self._read(x.flatten(1, 2), text).view_as(x)
        h = (_rms(x) * (1 + scale2) + shift2).to(x.dtype)
        grown = self.down(F.gelu(self.up(h), approximate="tanh"))
        return (x.float() + gate2 * grown).to(x.dtype)

    def _read(self, x: Tensor, text: Tensor) -> Tensor:
        """Attend to the prompt with tokens [B, N, D] as they are: there is no norm before it."""
        q = (self._heads(self.text_query(x), self.text_query_gain) * self.scale).to(x.dtype)
        k, v = self.text_kv(text).chunk(2, dim=-1)
        k = self._heads(k, self.text_key_gain).to(x.dtype)
        out: Tensor = self.text_proj(_joined(attention(q, k, self._split(v))))
        return out

    def _heads(self, x: Tensor, gain: Tensor) -> Tensor:
        """Normalise queries or keys across all heads, then split them; float32."""
        return self._split(F.rms_norm(x.float(), x.shape[-1:], gain, HEADS_EPSILON))

    def _split(self, x: Tensor) -> Tensor:
        """[B, N, D] to [B, heads, N, D / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _joined(x: Tensor) -> Tensor:
    """[B, heads, N, D / heads] to [B, N, D]."""
    return x.transpose(1, 2).flatten(2)


class LtxDenoiser(nn.Module):
    """Predicts the velocity noise - x0 of x_t = (1 - sigma) x0 + sigma noise, of a whole clip."""

    FLOAT32_ISLANDS = ("time", "modulation")

    def __init__(self, config: LtxDenoiserConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embed = nn.Linear(config.latent_channels, width)
        self.text = nn.Sequential(
            nn.Linear(config.text_width, width), nn.GELU("tanh"), nn.Linear(width, width)
        )
        self.time = nn.Sequential(
            nn.Linear(FREQUENCY_WIDTH, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.modulation = nn.Linear(width, 6 * width)
        self.positions = Positions(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.final_offset = nn.Parameter(torch.zeros(2, width))
        self.out = nn.Linear(width, config.latent_channels)

    def forward(self, latents: Tensor, timesteps: Tensor, text_states: Tensor) -> Tensor:
        """Return the velocity, shaped as the latents.

        `latents` [B, C, T, h, w] normalised; `timesteps` [B, T] = 1000 sigma; `text_states`
        [B, L, text width], of one prompt's tokens without padding.
        """
        rows, columns = latents.shape[3:]
        dtype = self.embed.weight.dtype
        rotation = self.positions(latents.shape[2], rows, columns)
        time = self.time(timestep_embedding(timesteps, FREQUENCY_WIDTH))[:, :, None]
        shared = self.modulation(F.silu(time)).unflatten(-1, (6, -1))
        text = self.text(text_states.to(dtype))
        x = self.embed(latents.to(dtype).permute(0, 2, 3, 4, 1)).flatten(2, 3)
        for block in self.blocks:
            x = block(x, shared, text, rotation)
        shift, scale = (time[..., None, :] + self.final_offset).unbind(dim=-2)
        normed = F.layer_norm(x.float(), x.shape[-1:], eps=EPSILON)
        cells = self.out((normed * (1 + scale) + shift).to(dtype)).to(latents.dtype)
        velocity: Tensor = cells.unflatten(2, (rows, columns)).permute(0, 4, 1, 2, 3)
        return velocity
