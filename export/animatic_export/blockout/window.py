"""Blockout's second denoiser: a diffusion transformer over a window of a shot.

The window is a few latent frames, each with a timestep and a position of its own. A frame at
timestep 0 is given: what went before, what must follow, or a still that the shot passes through
(a picture as one more frame, at a position between two others). So text-to-video, image-to-video,
continuing either way, loops and joins are one network.

Two latent cells side by side are a token. Queries and keys are turned by the token's place in time,
row and column (RoFormer, arXiv:2104.09864), so that every shape of picture is the same world; where
a token lies in the frame, and how wide that is, is added to it. The prompt acts twice, as in
version 0 (see `denoiser`).

Half precision (see `typed`): tokens take the type of `embed`; norms, positions, timesteps and
modulation are float32 whatever that is.

Axes: B windows, C latent channels, T latent frames, h rows, w columns, M tokens of a frame, N = T *
M, L prompt tokens, D width, d width of a head.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from animatic_export.blockout.denoiser import FREQUENCIES, PromptPool
from animatic_export.blockout.spectrum import Spectrum
from animatic_export.transformer import Rotation, attention, timestep_embedding

if TYPE_CHECKING:
    from animatic_export.blockout.config import WindowConfig

PAIR: Final = 2
"""Latent cells of a row that make a token."""
SLOWEST: Final = 100.0
"""How many times slower a head's slowest pair turns than its fastest, a radian a cell or frame: no
window is longer or wider than a few dozen of either."""
OCTAVES: Final = 4
"""Of sine and cosine that tell where in the frame a token lies."""


class Block(nn.Module):
    """Attention over the window's tokens and the prompt's, then an MLP, both gated by adaLN."""

    def __init__(self, config: WindowConfig) -> None:
        super().__init__()
        width, head = config.width, config.width // config.heads
        self.heads = config.heads
        self.qkv = nn.Linear(width, 3 * width)
        self.text_kv = nn.Linear(config.text_width, 2 * width)
        self.proj = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.offset = nn.Parameter(torch.zeros(6, width))
        self.query_gain = nn.Parameter(torch.ones(head))
        self.key_gain = nn.Parameter(torch.ones(head))

    def forward(
        self, x: Tensor, shared: Tensor, text: Tensor, rotation: Rotation, bias: Tensor | None
    ) -> Tensor:
        """Map tokens [B, T, M, D]; `shared` [B, T, 1, 6, D], `text` [B, L, text width].

        `bias` [B, 1, 1, N + L] is added to the scores.
        """
        shift, scale, gate, shift2, scale2, gate2 = (shared + self.offset).unbind(dim=-2)
        h = (_norm(x) * (1 + scale) + shift).to(x.dtype).flatten(1, 2)
        q, k, v = (self._split(part) for part in self.qkv(h).chunk(3, dim=-1))
        text_k, text_v = (self._split(part) for part in self.text_kv(text).chunk(2, dim=-1))
        q = rotation.turn(_rms(q) * self.query_gain)
        k = torch.cat([rotation.turn(_rms(k) * self.key_gain), _rms(text_k) * self.key_gain], dim=2)
        v = torch.cat([v, text_v], dim=2)
        mixed = _attend(q.to(v.dtype), k.to(v.dtype), v, bias)
        mixed = self.proj(mixed.transpose(1, 2).flatten(2)).view_as(x)
        x = (x.float() + gate * mixed).to(x.dtype)
        h = (_norm(x) * (1 + scale2) + shift2).to(x.dtype)
        grown = self.down(F.gelu(self.up(h), approximate="tanh"))
        return (x.float() + gate2 * grown).to(x.dtype)

    def _split(self, x: Tensor) -> Tensor:
        """[B, N, D] to [B, heads, N, d]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x.float(), x.shape[-1:])


def _rms(x: Tensor) -> Tensor:
    return F.rms_norm(x.float(), x.shape[-1:])


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    if v.is_cuda:
        mask = None if bias is None else bias.to(v.dtype)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    # On a processor the fused kernel's backward pass takes four times as long.
    return attention(q * q.shape[-1] ** -0.5, k, v, bias)


def _take(x: Tensor, kept: Tensor) -> Tensor:
    """Return the tokens [B, T, K, D] of [B, T, M, D] whose numbers are `kept` [T, K]."""
    return x[:, torch.arange(len(kept), device=kept.device)[:, None], kept]


def _take_angles(rotation: Rotation, kept: Tensor, tokens: int) -> Rotation:
    """Return the turn [B, 1, T * K, d / 2] of the kept ones of [B, 1, T * M, d / 2]."""
    frames = torch.arange(len(kept), device=kept.device)[:, None]
    numbers = (frames * tokens + kept).flatten()
    return Rotation(*(part[:, :, numbers] for part in rotation))


def _put_back(made: Tensor, kept: Tensor, tokens: int) -> Tensor:
    """Return [B, T, M, D] with [B, T, K, D] at the numbers `kept`, and 0 elsewhere."""
    index = kept[None, :, :, None].expand(len(made), -1, -1, made.shape[3])
    return made.new_zeros(*made.shape[:2], tokens, made.shape[3]).scatter(2, index, made)


class WindowDenoiser(nn.Module):
    """Predicts the velocity v = noise - x0 of x_t = (1 - sigma) x0 + sigma noise."""

    FLOAT32_ISLANDS = ("spectrum", "time", "modulation", "final_modulation", "place")

    def __init__(self, config: WindowConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.spectrum = Spectrum(config.latent_channels)
        self.embed = nn.Linear(PAIR * config.latent_channels, width)
        self.place = nn.Linear(4 * OCTAVES + 1, width)
        self.begin = nn.Parameter(torch.zeros(width))
        self.time = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.pool = PromptPool(config)
        self.modulation = nn.Linear(width, 6 * width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_offset = nn.Parameter(torch.zeros(2, width))
        self.final_modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, PAIR * config.latent_channels)
        for layer in (self.modulation, self.final_modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        latents: Tensor,
        timesteps: Tensor,
        positions: Tensor,
        text_states: Tensor,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity, shaped as the latents; at given frames it means nothing.

        `latents` [B, C, T, h, w] normalised; `timesteps` [B, T] = 1000 sigma, 0 for given frames;
        `positions` [B, T] in latent frames, 0 only for the one that begins a shot; `text_states`
        [B, L, text width]; `text_mask` bool [B, L] only where prompts of different lengths share a
        batch.
        """
        text, prompt = self.read(text_states, text_mask)
        return self.velocity(latents, timesteps, positions, text, prompt, text_mask)

    def read(self, text_states: Tensor, text_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the prompt's normalised states [B, L, text width] and its vector [B, D]."""
        text = _norm(text_states)
        return text, self.pool(text, text_mask)

    def velocity(
        self,
        latents: Tensor,
        timesteps: Tensor,
        positions: Tensor,
        text: Tensor,
        prompt: Tensor,
        text_mask: Tensor | None,
        kept: Tensor | None = None,
    ) -> Tensor:
        """Return the velocity, given what `read` made of the prompt.

        Training may look at a few of each frame's tokens alone: `kept` int64 [T, K] are their
        numbers, and elsewhere the velocity is the linear estimate alone.
        """
        rows, columns = latents.shape[3:]
        noisy = self.spectrum.seen(latents, timesteps / 1000)
        x = self._tokens(noisy.cells)
        x = x + self._places(rows, columns, latents.device)
        x = x + (positions == 0).float()[..., None, None] * self.begin
        x = x.to(self.embed.weight.dtype)
        tokens = x.shape[2]
        rotation = self._rotation(positions, rows, tokens // rows)
        if kept is not None:
            x, rotation = _take(x, kept), _take_angles(rotation, kept, tokens)
        condition = self.time(timestep_embedding(timesteps, 2 * FREQUENCIES)) + prompt[:, None]
        condition = F.silu(condition)[:, :, None]
        shared = self.modulation(condition).unflatten(-1, (6, -1))
        bias = None
        if text_mask is not None:
            own = text_mask.new_ones(len(text_mask), x.shape[1] * x.shape[2])
            seen = torch.cat([own, text_mask], dim=1)[:, None, None]
            bias = torch.where(seen, 0.0, -1e4)
        text = text.to(x.dtype)
        for block in self.blocks:
            x = block(x, shared, text, rotation, bias)
        final = self.final_modulation(condition).unflatten(-1, (2, -1)) + self.final_offset
        shift, scale = final.unbind(dim=-2)
        made: Tensor = self.out((_norm(x) * (1 + scale) + shift).to(x.dtype)).to(latents.dtype)
        if kept is not None:
            made = _put_back(made, kept, tokens)
        pairs = made.unflatten(3, (PAIR, -1)).unflatten(2, (rows, -1))
        return self.spectrum.velocity(noisy, pairs.flatten(3, 4)[:, :, :, :columns])

    def _tokens(self, cells: Tensor) -> Tensor:
        """Map cells [B, T, h, w, C] to tokens [B, T, M, D], float32."""
        even = PAIR * ((cells.shape[3] + 1) // PAIR)
        cells = F.pad(cells, (0, 0, 0, 1))[:, :, :, :even].to(self.embed.weight.dtype)
        cells = cells.unflatten(3, (-1, PAIR)).flatten(4)
        tokens: Tensor = self.embed(cells).float()
        return tokens.flatten(2, 3)

    def _places(self, rows: int, columns: int, device: torch.device) -> Tensor:
        """Embed where in the frame each token lies, [M, D]."""
        pairs = (columns + 1) // PAIR
        y = (torch.arange(rows, device=device) + 0.5) * (2 / rows) - 1
        x = (torch.arange(pairs, device=device) * PAIR + PAIR / 2) * (2 / columns) - 1
        octaves = math.pi * 2.0 ** (torch.arange(OCTAVES, device=device) - 1)
        down, across = y[:, None] * octaves, x[:, None] * octaves
        waves_y = torch.cat([down.sin(), down.cos()], dim=-1)[:, None].expand(-1, pairs, -1)
        waves_x = torch.cat([across.sin(), across.cos()], dim=-1)[None].expand(rows, -1, -1)
        shape = torch.ones(rows, pairs, 1, device=device) * (columns / rows)
        waves = torch.cat([waves_y, waves_x, shape.log()], dim=-1)
        places: Tensor = self.place(waves.flatten(0, 1))
        return places

    def _rotation(self, positions: Tensor, rows: int, pairs: int) -> Rotation:
        """Return the turn of every token of the window, [B, 1, N, d / 2]."""
        device = positions.device
        half = self.config.width // self.config.heads // 2
        third = half // 3
        t = positions[:, :, None, None].expand(-1, -1, rows, pairs)
        y = torch.arange(rows, device=device, dtype=torch.float32)[:, None].expand_as(t)
        x = PAIR * torch.arange(pairs, device=device, dtype=torch.float32).expand_as(t)
        parts = ((t, half - 2 * third), (y, third), (x, third))
        angles = [
            place[..., None] * torch.exp(torch.arange(n, device=device) * (-math.log(SLOWEST) / n))
            for place, n in parts
        ]
        turned = torch.cat(angles, dim=-1).flatten(1, 3)[:, None]
        return Rotation(turned.cos(), turned.sin())
