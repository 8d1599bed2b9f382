"""Blockout's denoiser: a small diffusion transformer with one timestep per latent frame.

Every latent cell is a token. The prompt acts twice: its token states join the keys and values of
every attention (they are not updated, so they cost little), and learned queries pool them into one
vector that, with the frame's timestep, shifts and scales every block (adaLN with one shared
projection, as in PixArt-alpha, arXiv:2310.00426). A clean frame is simply a frame at timestep 0:
text-to-video, image-to-video and continuing a shot are one network.

Half precision (see `typed`): tokens take the type of `embed`; norms, timesteps and modulation are
float32 whatever that is.

Axes: B clips, C latent channels, T latent frames, h rows, w columns, L prompt tokens, D width.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from animatic_export.blockout.config import DenoiserConfig, WindowConfig

FREQUENCIES = 128
"""Sine and cosine pairs of the timestep embedding, periods from 2*pi to 10,000 * 2*pi."""


def timestep_embedding(timesteps: Tensor) -> Tensor:
    """Return [..., 256] sines and cosines of timesteps [...] in 0..1000 (Vaswani et al. 2017)."""
    exponents = torch.arange(FREQUENCIES, dtype=torch.float32, device=timesteps.device)
    angles = timesteps[..., None] * torch.exp(exponents * (-9.210340371976184 / FREQUENCIES))
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x.float(), x.shape[-1:])


def _rms(x: Tensor) -> Tensor:
    return F.rms_norm(x.float(), x.shape[-1:])


class PromptPool(nn.Module):
    """Token states [B, L, 384] to one vector [B, D], through learned queries."""

    def __init__(self, config: DenoiserConfig | WindowConfig) -> None:
        super().__init__()
        inner = config.text_queries * config.text_width
        self.queries = nn.Parameter(torch.randn(config.text_queries, config.text_width) * 0.02)
        self.key = nn.Linear(config.text_width, config.text_width, bias=False)
        self.out = nn.Sequential(
            nn.Linear(inner, config.width), nn.SiLU(), nn.Linear(config.width, config.width)
        )

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """Pool the states; `mask`, bool [B, L], tells real tokens from padding."""
        states = states.to(self.key.weight.dtype)
        queries = self.queries.to(states.dtype)
        scores = queries @ self.key(states).transpose(1, 2) * states.shape[-1] ** -0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], -1e4)
        pooled = scores.softmax(dim=-1) @ states
        vector: Tensor = self.out(pooled.flatten(1))
        return vector


class Block(nn.Module):
    """Attention over the clip's tokens and the prompt's, then an MLP, both gated by adaLN."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.qkv = nn.Linear(width, 3 * width)
        self.text_kv = nn.Linear(config.text_width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.offset = nn.Parameter(torch.zeros(6, width))
        self.query_gain = nn.Parameter(torch.ones(width // config.heads))
        self.key_gain = nn.Parameter(torch.ones(width // config.heads))

    def _split(self, x: Tensor) -> Tensor:
        """[B, N, D] to [B, heads, N, D / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: Tensor, shared: Tensor, text: Tensor, bias: Tensor | None) -> Tensor:
        """Map tokens [B, T, h*w, D]; `shared` is [B, T, 1, 6, D], `text` [B, L, 384]."""
        shift, scale, gate, shift2, scale2, gate2 = (shared + self.offset).unbind(dim=-2)
        h = (_norm(x) * (1 + scale) + shift).to(x.dtype).flatten(1, 2)
        q, k, v = (self._split(part) for part in self.qkv(h).chunk(3, dim=-1))
        text_k, text_v = (self._split(part) for part in self.text_kv(text).chunk(2, dim=-1))
        q = (_rms(q) * self.query_gain).to(v.dtype)
        k = (torch.cat([_rms(k), _rms(text_k)], dim=2) * self.key_gain).to(v.dtype)
        v = torch.cat([v, text_v], dim=2)
        # Written out: on a CPU the fused kernel's backward pass takes four times as long.
        scores = q @ k.transpose(2, 3) * q.shape[-1] ** -0.5
        if bias is not None:
            scores = scores + bias
        mixed = scores.softmax(dim=-1) @ v
        mixed = self.proj(mixed.transpose(1, 2).flatten(2)).view_as(x)
        x = x + gate.to(x.dtype) * mixed
        h = (_norm(x) * (1 + scale2) + shift2).to(x.dtype)
        out: Tensor = x + gate2.to(x.dtype) * self.down(F.gelu(self.up(h), approximate="tanh"))
        return out


class Denoiser(nn.Module):
    """Predicts the velocity v = noise - x0 of x_t = (1 - sigma) x0 + sigma noise."""

    FLOAT32_ISLANDS = ("time", "modulation", "final_modulation")

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.embed = nn.Linear(config.latent_channels, width)
        self.frame_position = nn.Parameter(torch.randn(config.frames, 1, 1, width) * 0.02)
        self.row_position = nn.Parameter(torch.randn(1, config.rows, 1, width) * 0.02)
        self.column_position = nn.Parameter(torch.randn(1, 1, config.columns, width) * 0.02)
        self.time = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.pool = PromptPool(config)
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_offset = nn.Parameter(torch.zeros(2, width))
        self.final_modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, config.latent_channels)
        for layer in (self.modulation, self.final_modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        latents: Tensor,
        timesteps: Tensor,
        text_states: Tensor,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity, shaped as the latents.

        `latents` [B, C, T, h, w] normalised; `timesteps` [B, T] = 1000 sigma; `text_states`
        [B, L, 384]; `text_mask` bool [B, L] only where prompts of different lengths share a batch.
        """
        return self.velocity(latents, timesteps, *self.read(text_states, text_mask), text_mask)

    def read(self, text_states: Tensor, text_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the prompt's normalised states [B, L, 384] and its vector [B, D]."""
        text = _norm(text_states)
        return text, self.pool(text, text_mask)

    def velocity(
        self,
        latents: Tensor,
        timesteps: Tensor,
        text: Tensor,
        prompt: Tensor,
        text_mask: Tensor | None,
    ) -> Tensor:
        """Return the velocity, given what `read` made of the prompt."""
        rows, columns = latents.shape[3:]
        dtype = self.embed.weight.dtype
        x = self.embed(latents.to(dtype).permute(0, 2, 3, 4, 1))
        x = x + self.frame_position + self.row_position + self.column_position
        x = x.to(dtype).flatten(2, 3)
        condition = self.time(timestep_embedding(timesteps)) + prompt[:, None]
        condition = F.silu(condition)[:, :, None]
        shared = self.modulation(condition).unflatten(-1, (6, -1))
        bias = None
        if text_mask is not None:
            own = text_mask.new_ones(len(text_mask), x.shape[1] * x.shape[2])
            seen = torch.cat([own, text_mask], dim=1)[:, None, None]
            bias = torch.where(seen, 0.0, -1e4)
        text = text.to(dtype)
        for block in self.blocks:
            x = block(x, shared, text, bias)
        final = self.final_modulation(condition).unflatten(-1, (2, -1)) + self.final_offset
        shift, scale = final.unbind(dim=-2)
        velocity: Tensor = self.out((_norm(x) * (1 + scale) + shift).to(dtype)).to(latents.dtype)
        return velocity.unflatten(2, (rows, columns)).permute(0, 4, 1, 2, 3)
