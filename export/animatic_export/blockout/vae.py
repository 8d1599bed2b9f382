"""Causal video VAE: one latent frame is one group of `temporal_factor` frames.

Frames are grouped before anything else: the first frame stands four times for itself, then every
four frames make a group, and a group's frames are channels of one picture. So everything is a 2D
convolution; time passes between groups only through `MemoryBlock`, which sees its own input at the
group before (zeros at the start), as in TAEHV (github.com/madebyollin/taehv). Streaming decode is
therefore exact: the memories are a handful of small tensors that travel from call to call.

Axes: B clips, T latent frames, C channels, H and W pixels. Pixels are in [0, 1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from animatic_export.blockout.config import VaeConfig


def group_frames(video: Tensor, factor: int) -> Tensor:
    """Group [B, 1+(T-1)*factor, 3, H, W] into [B, T, factor*3, H, W]; frame 0 is repeated."""
    batch, frames, channels, height, width = video.shape
    padded = torch.cat([video[:, :1].expand(-1, factor - 1, -1, -1, -1), video], dim=1)
    groups = (frames - 1) // factor + 1
    return padded.reshape(batch, groups, factor * channels, height, width)


def ungroup_frames(groups: Tensor, factor: int) -> Tensor:
    """Undo `group_frames`: [B, T, factor*3, H, W] to [B, 1 + (T-1)*factor, 3, H, W]."""
    batch, count, channels, height, width = groups.shape
    video = groups.reshape(batch, count * factor, channels // factor, height, width)
    return video[:, factor - 1 :]


class ResidualBlock(nn.Module):
    """Two convolutions beside a skip, within one group."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to the same shape."""
        return x + self.second(F.relu(self.first(F.relu(x))))


class MemoryBlock(nn.Module):
    """A residual block that also sees its own input one group earlier."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.join = nn.Conv2d(2 * width, width, 3, padding=1)
        self.middle = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Map [N, C, H, W] and the same of the group before to [N, C, H, W]."""
        h = self.join(torch.cat([x, memory], dim=1))
        return x + self.last(F.relu(self.middle(F.relu(h))))


class Down(nn.Module):
    """Halve the picture by a strided convolution, beside a shortcut that loses nothing.

    The shortcut folds pixels into channels and averages those down to `width`, as in the deep
    compression autoencoder (DC-AE, arXiv:2410.10733): the network starts as a fair compressor
    and learns only what to do better.
    """

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.conv = nn.Conv2d(before, width, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, before, H, W] to [N, width, H/2, W/2]."""
        folded = F.pixel_unshuffle(x, 2)
        return self.conv(x) + folded.unflatten(1, (self.width, -1)).mean(2)


class Up(nn.Module):
    """Double the picture by a convolution to sub-pixels, beside `Down`'s shortcut reversed."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.repeats = 4 * width // before
        self.conv = nn.Conv2d(before, 4 * width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, before, H, W] to [N, width, 2H, 2W]."""
        # repeat_interleave along channels, written so that it exports as one Expand.
        spread = x.unsqueeze(2).expand(-1, -1, self.repeats, -1, -1).flatten(1, 2)
        return F.pixel_shuffle(self.conv(x) + spread, 2)


class Widen(nn.Module):
    """A convolution to more channels beside each channel repeated."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.repeats = width // before
        self.conv = nn.Conv2d(before, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, before, H, W] to [N, width, H, W]."""
        return self.conv(x) + x.unsqueeze(2).expand(-1, -1, self.repeats, -1, -1).flatten(1, 2)


class Moments(nn.Module):
    """Features to mean and log-variance, the mean beside the averaged features."""

    def __init__(self, before: int, latent_channels: int) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        self.conv = nn.Conv2d(before, 2 * latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, before, H, W] to [N, 2 * latent_channels, H, W]."""
        mean, logvar = self.conv(F.relu(x)).chunk(2, dim=1)
        mean = mean + x.unflatten(1, (self.latent_channels, -1)).mean(2)
        return torch.cat([mean, logvar], dim=1)


class _GroupNetwork(nn.Module):
    """Layers applied to every group; the memory blocks among them are given each other's past."""

    layers: nn.ModuleList

    def forward(self, groups: Tensor) -> Tensor:
        """Map whole clips [B, T, C, H, W] to [B, T, C', H', W']."""
        batch, count = groups.shape[:2]
        x = groups.flatten(0, 1)
        for layer in self.layers:
            if isinstance(layer, MemoryBlock):
                clips = x.unflatten(0, (batch, count))
                past = torch.cat([torch.zeros_like(clips[:, :1]), clips[:, :-1]], dim=1)
                x = layer(x, past.flatten(0, 1))
            else:
                x = layer(x)
        return x.unflatten(0, (batch, count))

    def step(self, group: Tensor, memories: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Map one group [B, C, H, W] and the memories of the group before; return the new ones."""
        x, kept = group, []
        for layer in self.layers:
            if isinstance(layer, MemoryBlock):
                kept.append(x)
                x = layer(x, memories[len(kept) - 1])
            else:
                x = layer(x)
        return x, kept


class Encoder(_GroupNetwork):
    """Groups [B, T, factor*3, H, W] in [-1, 1] to mean and log-variance [B, T, 2C, H/16, W/16]."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        a, b, c, d = config.widths
        self.layers = nn.ModuleList(
            [
                nn.PixelUnshuffle(2),
                Widen(12 * config.temporal_factor, a),
                ResidualBlock(a),
                Down(a, b),
                ResidualBlock(b),
                Down(b, c),
                MemoryBlock(c),
                Down(c, d),
                MemoryBlock(d),
                Moments(d, config.latent_channels),
            ]
        )


class Decoder(_GroupNetwork):
    """Latents [B, T, C, H/16, W/16] to groups [B, T, factor*3, H, W] in [-1, 1] (unclamped)."""

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        a, b, c, d = config.widths
        self.layers = nn.ModuleList(
            [
                Widen(config.latent_channels, d),
                MemoryBlock(d),
                MemoryBlock(d),
                Up(d, c),
                MemoryBlock(c),
                Up(c, b),
                MemoryBlock(b),
                Up(b, a),
                ResidualBlock(a),
                Widen(a, 12 * config.temporal_factor),
                nn.PixelShuffle(2),
            ]
        )
        self.latent_channels = config.latent_channels

    @torch.no_grad()
    def memory_shapes(self, rows: int, columns: int) -> list[tuple[int, int, int]]:
        """Return (channels, rows, columns) of every memory, for latents of `rows` x `columns`.

        Found by running the decoder once.
        """
        device = next(self.parameters()).device
        x = torch.zeros(1, self.latent_channels, rows, columns, device=device)
        shapes: list[tuple[int, int, int]] = []
        for layer in self.layers:
            if isinstance(layer, MemoryBlock):
                shapes.append((x.shape[1], x.shape[2], x.shape[3]))
                x = layer(x, torch.zeros_like(x))
            else:
                x = layer(x)
        return shapes


class VideoVae(nn.Module):
    """Encoder and decoder, and the latents' statistics."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: VaeConfig) -> None:
        super().__init__()
        self.factor = config.temporal_factor
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.register_buffer("mean", torch.zeros(config.latent_channels))
        self.register_buffer("std", torch.ones(config.latent_channels))
        self._initialise(config.latent_channels)

    def _initialise(self, latent_channels: int) -> None:
        """Start as the shortcuts alone: every branch beside one begins at (nearly) nothing."""
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                nn.init.zeros_(module.second.weight)
            elif isinstance(module, MemoryBlock):
                nn.init.zeros_(module.last.weight)
            elif isinstance(module, Down | Up | Widen | Moments):
                module.conv.weight.data *= 0.1
                if isinstance(module, Moments) and module.conv.bias is not None:
                    nn.init.constant_(module.conv.bias[latent_channels:], -4.0)

    def encode(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance, each [B, C, T, h, w], of video [B, F, 3, H, W]."""
        groups = group_frames(video * 2 - 1, self.factor)
        moments = self.encoder(groups).transpose(1, 2)
        mean, logvar = moments.chunk(2, dim=1)
        return mean, logvar.clamp(-12, 4)

    def decode(self, latents: Tensor) -> Tensor:
        """Return video [B, F, 3, H, W] of raw latents [B, C, T, h, w]; not clamped to [0, 1]."""
        groups = self.decoder(latents.transpose(1, 2))
        return ungroup_frames(groups, self.factor) / 2 + 0.5

    def normalise(self, latents: Tensor) -> Tensor:
        """Give raw latents [B, C, T, h, w] zero mean and unit variance per channel."""
        return (latents - self.mean.view(-1, 1, 1, 1)) / self.std.view(-1, 1, 1, 1)

    def denormalise(self, latents: Tensor) -> Tensor:
        """Undo `normalise`."""
        return latents * self.std.view(-1, 1, 1, 1) + self.mean.view(-1, 1, 1, 1)
