"""The decoder of LTX-Video's VAE since version 0.9.5, as diffusers' AutoencoderKLLTXVideo.

It looks ahead: convolutions see the latent frames on both sides, and beyond the clip's ends the
last one again, so it takes all of a clip at once. It is also a last denoising step: it is told how
much noise the latents still have. That share never changes, so what the published network makes of
it, a gain and a shift for every channel of every norm, is computed once when a checkpoint is read
(see `decoder_weights`), and the embedding of the timestep is not exported at all.

Half precision (see `typed`): features take the type of `first`; norms, gains and shifts are
float32 whatever that is.

Axes: B clips, C channels, T latent frames, h and w rows and columns of latents, t, y and x any.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from animatic_export.ltx.config import LtxDecoderConfig

EPSILON: Final = 1e-8


class Conv(nn.Conv3d):
    """A convolution of 3 x 3 x 3 with zeros around the picture; the end frames stand twice."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__(before, width, 3, padding=(0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return super().forward(torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2))


class Norm(nn.Module):
    """Every cell's channels to a mean square of 1, times a gain, plus a shift, through SiLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # Apart, as what is small is never stored narrow (see `weights`); and in the shape of their
        # use, as they would be renamed if the exporter had to reshape them.
        self.gain = nn.Parameter(torch.ones(width, 1, 1, 1))
        self.shift = nn.Parameter(torch.zeros(width, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, t, y, x]."""
        h = x.float()
        h = h * torch.rsqrt(h.square().mean(dim=1, keepdim=True) + EPSILON)
        return F.silu(h * self.gain + self.shift).to(x.dtype)


class ResidualBlock(nn.Module):
    """Two norms and two convolutions beside a skip."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first_norm = Norm(width)
        self.first = Conv(width, width)
        self.second_norm = Norm(width)
        self.second = Conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, t, y, x]."""
        h = self.first(self.first_norm(x))
        out: Tensor = x + self.second(self.second_norm(h))
        return out


class Up(nn.Module):
    """Double time, height and width beside a shortcut; the first of the frames made is dropped."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.repeats = 8 * width // before
        self.conv = Conv(before, 8 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, before, t, y, x] to [B, width, 2t - 1, 2y, 2x]."""
        h = self.conv(x) + x.repeat(1, self.repeats, 1, 1, 1)
        h = h.unflatten(1, (-1, 2, 2, 2)).permute(0, 1, 5, 2, 6, 3, 7, 4)
        return h.flatten(6, 7).flatten(4, 5).flatten(2, 3)[:, :, 1:]


class LtxVaeDecoder(nn.Module):
    """Raw latents of a whole clip to its frames."""

    def __init__(self, config: LtxDecoderConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.first = Conv(config.latent_channels, widths[0])
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(count)))
            for width, count in zip(widths, config.layers, strict=True)
        )
        self.ups = nn.ModuleList(Up(before, width) for before, width in pairwise(widths))
        self.last_norm = Norm(widths[-1])
        self.last = Conv(widths[-1], 3 * config.patch**2)

    def forward(self, latents: Tensor) -> Tensor:
        """Return frames [B, 3, 8T, 32h, 32w] in [0, 1] of raw latents [B, C, T, h, w].

        The first latent frame is one frame, which stands here 8 times: `temporal_factor` frames
        for every latent frame, of which the runtime drops the clip's first 7.
        """
        x = self.first(latents.to(self.first.weight.dtype))
        for place, stage in enumerate(self.stages):
            if place:
                x = self.ups[place - 1](x)
            x = stage(x)
        x = self.last(self.last_norm(x))
        # A cell's channels are [3, columns, rows] of its pixels.
        x = x.unflatten(1, (3, self.config.patch, self.config.patch)).permute(0, 1, 4, 5, 3, 6, 2)
        frames = (x.flatten(5, 6).flatten(3, 4).float() / 2 + 0.5).clamp(0, 1)
        again = self.config.temporal_factor - 1
        return torch.cat([frames[:, :, :1].expand(-1, -1, again, -1, -1), frames], dim=2)
