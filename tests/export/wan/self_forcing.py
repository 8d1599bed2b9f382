"""Self-Forcing's own inference in plain torch: its complex rotations and its rolling cache.

Follows CausalWanModel._forward_inference (wan/modules/causal_model.py of the published code), which
cannot be imported without a GPU's attention kernels, with torch's attention and in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812

if TYPE_CHECKING:
    from torch import Tensor

    from animatic_export.wan.config import WanConfig


class Cache:
    """One layer's keys and values: filled from the left, then rolled to the left."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None
        self.local_end = 0
        self.global_end = 0

    def write(self, k: Tensor, v: Tensor, start: int, size: int) -> tuple[Tensor, Tensor]:
        if self.keys is None or self.values is None:
            self.keys = k.new_zeros(k.shape[0], size, *k.shape[2:])
            self.values = torch.zeros_like(self.keys)
        new = k.shape[1]
        end = start + new
        evicted = 0
        if end > self.global_end and new + self.local_end > size:
            evicted = new + self.local_end - size
            for kept in (self.keys, self.values):
                kept[:, : self.local_end - evicted] = kept[:, evicted : self.local_end].clone()
        local_end = self.local_end + end - self.global_end - evicted
        self.keys[:, local_end - new : local_end] = k
        self.values[:, local_end - new : local_end] = v
        self.local_end, self.global_end = local_end, end
        return self.keys[:, :local_end], self.values[:, :local_end]


class SelfForcing:
    """The causal model with weights in the original naming, and what it keeps of a clip."""

    def __init__(self, weights: dict[str, Tensor], config: WanConfig, window: int) -> None:
        self.weights = weights
        self.config = config
        self.window = window
        self.caches = [Cache() for _ in range(config.layers)]
        width = config.head_width
        side = 2 * (width // 6)
        self.frequencies = [_rope_params(1024, n) for n in (width - 2 * side, side, side)]

    def run(self, latents: Tensor, timesteps: Tensor, text: Tensor, start: int) -> Tensor:
        """The velocity of a block [B, C, T, h, w] whose first frame is at place `start`."""
        config, frames = self.config, latents.shape[2]
        x = F.conv3d(
            latents,
            self.weights["patch_embedding.weight"],
            self.weights["patch_embedding.bias"],
            stride=(1, 2, 2),
        )
        grid = (frames, x.shape[3], x.shape[4])
        x = x.flatten(2).transpose(1, 2)
        embedding = _sinusoidal_embedding(config.frequency_width, timesteps.flatten())
        e = self._linear("time_embedding.2", F.silu(self._linear("time_embedding.0", embedding)))
        e0 = self._linear("time_projection.1", F.silu(e))
        e0 = e0.unflatten(1, (6, -1)).unflatten(0, timesteps.shape)
        hidden = F.gelu(self._linear("text_embedding.0", text), approximate="tanh")
        context = self._linear("text_embedding.2", hidden)
        for layer in range(config.layers):
            x = self._block(layer, x, e0, context, grid, start)
        e = e.unflatten(0, timesteps.shape)[:, :, None]
        shift, scale = (self.weights["head.modulation"][:, None] + e).chunk(2, dim=2)
        x = (self._norm(x).unflatten(1, (frames, -1)) * (1 + scale) + shift).flatten(1, 2)
        x = self._linear("head.head", x).view(len(x), *grid, 1, 2, 2, config.latent_channels)
        return x.permute(0, 7, 1, 4, 2, 5, 3, 6).reshape(latents.shape)

    def _block(
        self,
        layer: int,
        x: Tensor,
        e0: Tensor,
        context: Tensor,
        grid: tuple[int, int, int],
        start: int,
    ) -> Tensor:
        name = f"blocks.{layer}"
        e = (self.weights[f"{name}.modulation"][:, None] + e0).chunk(6, dim=2)

        def per_frame(value: Tensor) -> Tensor:
            framed: Tensor = value.unflatten(1, (grid[0], -1))
            return framed

        h = (per_frame(self._norm(x)) * (1 + e[1]) + e[0]).flatten(1, 2)
        q, k, v = self._qkv(f"{name}.self_attn", h, h)
        k, v = self.caches[layer].write(
            self._turned(k, grid, start),
            v,
            start * grid[1] * grid[2],
            self.window * grid[1] * grid[2],
        )
        y = self._linear(f"{name}.self_attn.o", _attention(self._turned(q, grid, start), k, v))
        x = x + (per_frame(y) * e[2]).flatten(1, 2)
        h = F.layer_norm(
            x,
            x.shape[-1:],
            self.weights[f"{name}.norm3.weight"],
            self.weights[f"{name}.norm3.bias"],
            self.config.epsilon,
        )
        read = _attention(*self._qkv(f"{name}.cross_attn", h, context))
        x = x + self._linear(f"{name}.cross_attn.o", read)
        h = (per_frame(self._norm(x)) * (1 + e[4]) + e[3]).flatten(1, 2)
        y = self._linear(
            f"{name}.ffn.2", F.gelu(self._linear(f"{name}.ffn.0", h), approximate="tanh")
        )
        return x + (per_frame(y) * e[5]).flatten(1, 2)

    def _qkv(self, name: str, x: Tensor, context: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[B, N, heads, d] each, not turned."""
        q = self._rms(f"{name}.norm_q", self._linear(f"{name}.q", x))
        k = self._rms(f"{name}.norm_k", self._linear(f"{name}.k", context))
        v = self._linear(f"{name}.v", context)
        heads = (self.config.heads, self.config.head_width)
        return q.unflatten(-1, heads), k.unflatten(-1, heads), v.unflatten(-1, heads)

    def _turned(self, x: Tensor, grid: tuple[int, int, int], start: int) -> Tensor:
        """causal_rope_apply: pairs side by side as complex numbers, in float64."""
        frames, rows, columns = grid
        time, row, column = self.frequencies
        turns = torch.cat(
            [
                time[start : start + frames].view(frames, 1, 1, -1).expand(*grid, -1),
                row[:rows].view(1, rows, 1, -1).expand(*grid, -1),
                column[:columns].view(1, 1, columns, -1).expand(*grid, -1),
            ],
            dim=-1,
        ).reshape(1, frames * rows * columns, 1, -1)
        pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * turns).flatten(3).float()

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def _norm(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], eps=self.config.epsilon)

    def _rms(self, name: str, x: Tensor) -> Tensor:
        mean = x.pow(2).mean(dim=-1, keepdim=True)
        return x * torch.rsqrt(mean + self.config.epsilon) * self.weights[f"{name}.weight"]


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def _sinusoidal_embedding(width: int, position: Tensor) -> Tensor:
    half = width // 2
    exponents = -torch.arange(half).double().div(half)
    sinusoid = torch.outer(position.double(), torch.pow(10000, exponents))
    return torch.cat([sinusoid.cos(), sinusoid.sin()], dim=1).float()


def _rope_params(length: int, width: int) -> Tensor:
    exponents = torch.arange(0, width, 2).double().div(width)
    angles = torch.outer(torch.arange(length), 1.0 / torch.pow(10000, exponents))
    return torch.polar(torch.ones_like(angles), angles)
