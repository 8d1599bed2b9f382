"""TAEHV's decoder (github.com/madebyollin/taehv, MIT) as one step: one latent frame to its frames.

Everything is a 2D convolution of single frames. Time passes only through `MemoryBlock`, which sees
its own input one frame earlier, and `Grow`, whose channels become frames; so a step needs one frame
of memory for every block, and streaming is exact.

Half precision (see `typed`): the soft clamp of the latents is float32.

Axes: B clips, N frames (those of each clip together, in order), C channels, H rows, W columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from animatic_export.taehv.names import TaehvConfig

BLOCKS: Final = 3
"""Memory blocks of a level."""


class MemoryBlock(nn.Module):
    """Three convolutions of a frame and the frame before it, beside a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.conv = nn.Sequential(
            nn.Conv2d(2 * width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Map frames [N, C, H, W] and the frame before each clip's to frames and the next such.

        Memories are [B, C*s*s, h, w], which is [B, C, s*h, s*w] with the axes of the latents.
        """
        before = memory.to(x.dtype).reshape(memory.shape[0], *x.shape[1:])
        frames = x.unflatten(0, (memory.shape[0], -1))
        if frames.shape[1] > 1:
            before = torch.cat([before.unsqueeze(1), frames[:, :-1]], dim=1).flatten(0, 1)
        kept = frames[:, -1].reshape(memory.shape).to(memory.dtype)
        return F.relu(self.conv(torch.cat([x, before], dim=1)) + x), kept


class Grow(nn.Module):
    """One frame to `stride` frames, which are groups of the convolution's channels."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(width, stride * width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N*stride, C, H, W]."""
        return self.conv(x).unflatten(1, (self.stride, -1)).flatten(0, 1)


class Level(nn.Module):
    """Memory blocks, then more frames of twice the rows and columns."""

    def __init__(self, width: int, following: int, stride: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(MemoryBlock(width) for _ in range(BLOCKS))
        self.grow = Grow(width, stride)
        self.conv = nn.Conv2d(width, following, 3, padding=1, bias=False)

    def forward(self, x: Tensor, memories: tuple[Tensor, ...]) -> tuple[Tensor, list[Tensor]]:
        """Map [N, width, H, W] to [N*stride, following, 2H, 2W]; return the next memories too."""
        kept = []
        for block, memory in zip(self.blocks, memories, strict=True):
            x, last = block(x, memory)
            kept.append(last)
        # TAEHV repeats the pixels first; a 1x1 convolution gives the same on a quarter of them.
        x = F.interpolate(self.grow(x), scale_factor=2.0, mode="nearest")
        return self.conv(x), kept


class TaehvDecoder(nn.Module):
    """Normalised latents to frames, one latent frame a step."""

    def __init__(self, config: TaehvConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.conv_in = nn.Conv2d(config.latent_channels, widths[0], 3, padding=1)
        self.levels = nn.ModuleList(
            Level(width, following, stride)
            for width, following, stride in zip(widths, widths[1:], config.strides, strict=False)
        )
        self.conv_out = nn.Conv2d(widths[-1], 3 * config.patch**2, 3, padding=1)

    def state_channels(self) -> list[int]:
        """Return the channels of every memory, with the axes of the latents."""
        pairs = zip(self.config.widths, self.config.strides, strict=False)
        return [width * 4**n for n, (width, _) in enumerate(pairs) for _ in range(BLOCKS)]

    def forward(self, latents: Tensor, *memories: Tensor) -> tuple[Tensor, ...]:
        """Map normalised latents [B, C, h, w] and memories (zeros at a clip's start) to frames.

        Frames are float32 [B, T, 3, H, W] in [0, 1]; the next memories follow them.
        """
        x = (torch.tanh(latents.float() / 3) * 3).to(self.conv_in.weight.dtype)
        x = F.relu(self.conv_in(x))
        kept: list[Tensor] = []
        for n, level in enumerate(self.levels):
            x, last = level(x, memories[n * BLOCKS : (n + 1) * BLOCKS])
            kept += last
        x = self.conv_out(F.relu(x))
        if self.config.patch > 1:
            x = F.pixel_shuffle(x, self.config.patch)
        frames = x.unflatten(0, (latents.shape[0], -1)).float().clamp(0, 1)
        return frames, *kept
