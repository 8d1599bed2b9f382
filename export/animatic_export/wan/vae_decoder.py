"""Wan 2.1's video decoder as one step: one latent frame in, four frames out, as in a whole clip.

Time passes through convolutions that see two frames before each frame; those of the step before
come in as states and the last two of this step go out. The published code decodes the first latent
frame of a clip in another way: to one frame, by branches that skip the doubling in time. Here
every step is the same graph and gives all four frames. `started`, 0 on a clip's first step and 1
on the others, stands for the branches: on the first step only the last of the frames exists, so the
others are made zeros wherever a convolution in time would see them, which is the zero padding of
the published code. They are wrong, and the runtime drops them.

Half precision (see `typed`): norms are computed in float32, where the squares fit.

Axes: B clips, C channels, T frames (1, 2 or 4 a step: they double twice), H rows, W columns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from animatic_export.wan.vae_names import WanVaeConfig

PAST: Final = 2
"""Frames before a frame that a convolution in time sees."""


class Past:
    """The frames that the convolutions in time saw last; each takes and leaves its own, in order.

    states: of the step before, each [B, 2*C*s*s, h, w] for features [B, C, 2, s*h, s*w]: the same
    memory with the axes of the latents. started: [B, 1], 0 or 1.
    """

    def __init__(self, states: tuple[Tensor, ...], started: Tensor) -> None:
        self._before = iter(states)
        self.started = started.float()[:, :, None, None, None]
        self.kept: list[Tensor] = []
        self._masks: dict[int, Tensor] = {}

    def existing(self, x: Tensor) -> Tensor:
        """Return [B, C, T, H, W] with zeros in the frames from before the clip's first."""
        frames = x.shape[2]
        if frames == 1:
            return x
        if frames not in self._masks:
            last = torch.ones_like(self.started)
            earlier = self.started.expand(-1, -1, frames - 1, -1, -1)
            self._masks[frames] = torch.cat([earlier, last], dim=2)
        return x * self._masks[frames]

    def join(self, x: Tensor, *, from_second_step: bool = False) -> Tensor:
        """Put the two frames before in front of [B, C, T, H, W], and keep the last two of all.

        from_second_step: nothing of a clip's first step is kept.
        """
        before = next(self._before)
        batch, channels, _, rows, columns = x.shape
        frames = before.to(x.dtype).reshape(batch, channels, PAST, rows, columns)
        joined = torch.cat([frames, x], dim=2)
        kept = joined[:, :, -PAST:]
        if from_second_step:
            kept = kept * self.started.to(kept.dtype)
        self.kept.append(kept.reshape(before.shape).to(before.dtype))
        return joined


class CausalConv(nn.Conv3d):
    """3x3x3 over a frame and the two before it; only space is padded."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__(before, width, 3, padding=(0, 1, 1))

    def step(self, x: Tensor, past: Past) -> Tensor:
        """Map [B, before, T, H, W] to [B, width, T, H, W]."""
        return self(past.join(past.existing(x).to(self.weight.dtype)))


class Norm(nn.Module):
    """Divide by the root mean square over channels (F.normalize times sqrt(C)); gives float32."""

    def __init__(self, width: int, axes: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width, *[1] * axes))
        self.smallest = 1e-12 * width**-0.5  # F.normalize's eps, of a length and not a mean

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, ...] of any float type to the same shape."""
        x = x.float()
        size = x.square().mean(dim=1, keepdim=True).sqrt().clamp_min(self.smallest)
        return x / size * self.gamma


class Residual(nn.Module):
    """Two convolutions in space and time beside a skip."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.norm1 = Norm(before, 3)
        self.conv1 = CausalConv(before, width)
        self.norm2 = Norm(width, 3)
        self.conv2 = CausalConv(width, width)
        self.shortcut = nn.Identity() if before == width else nn.Conv3d(before, width, 1)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        """Map [B, before, T, H, W] to [B, width, T, H, W]."""
        h = self.conv1.step(F.silu(self.norm1(x)), past)
        h = self.conv2.step(F.silu(self.norm2(h)), past)
        return self.shortcut(x) + h


class Attention(nn.Module):
    """Attention of one head over the cells of one latent frame."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = Norm(width, 2)
        self.to_qkv = nn.Conv2d(width, 3 * width, 1)
        self.proj = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, 1, H, W] to the same shape."""
        picture = x.squeeze(2)
        qkv = self.to_qkv(self.norm(picture).to(x.dtype)).flatten(2).transpose(1, 2)
        # With an axis of heads, without which compilers do not make one kernel of it.
        q, k, v = qkv.unsqueeze(1).chunk(3, dim=-1)
        # Scaled before the product, which might not fit into float16 otherwise.
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)
        mixed = (scores.softmax(dim=-1) @ v).transpose(2, 3).reshape(picture.shape)
        return x + self.proj(mixed).unsqueeze(2)


class Upsample(nn.Module):
    """Twice the rows and columns and half the channels; with `in_time` twice the frames too."""

    def __init__(self, width: int, *, in_time: bool) -> None:
        super().__init__()
        self.time_conv = nn.Conv3d(width, 2 * width, (3, 1, 1)) if in_time else None
        self.conv = nn.Conv3d(width, width // 2, (1, 3, 3), padding=(0, 1, 1))

    def forward(self, x: Tensor, past: Past) -> Tensor:
        """Map [B, C, T, H, W] to [B, C/2, T or 2T, 2H, 2W]."""
        if self.time_conv is not None:
            made = self.time_conv(past.join(x, from_second_step=True))
            pairs = made.unflatten(1, (2, -1)).permute(0, 2, 3, 1, 4, 5)
            # A clip's first frame is not doubled: the last frame here is that one itself.
            pairs = torch.where(past.started[..., None] > 0, pairs, x.unsqueeze(3))
            x = pairs.flatten(2, 3)
        return self.conv(F.interpolate(x, scale_factor=(1.0, 2.0, 2.0), mode="nearest"))


class WanVaeDecoder(nn.Module):
    """Raw latents to frames, one latent frame a step."""

    def __init__(self, config: WanVaeConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * multiple for multiple in reversed(config.multiples)]
        first, last = widths[0], len(widths) - 1
        channels = config.latent_channels
        self.post_quant_conv = nn.Conv3d(channels, channels, 1)
        self.conv_in = CausalConv(channels, first)
        layers: list[nn.Module] = [Residual(first, first), Attention(first), Residual(first, first)]
        before = first
        for level, width in enumerate(widths):
            for _ in range(config.residuals):
                layers.append(Residual(before, width))
                before = width
            if level != last:
                layers.append(Upsample(width, in_time=config.doublings[level]))
                before = width // 2
        self.layers = nn.ModuleList(layers)
        self.norm_out = Norm(before, 3)
        self.conv_out = CausalConv(before, 3)

    def state_channels(self) -> list[int]:
        """Return the channels of every state: its features' with the axes of the latents."""
        found, area = [self.conv_in.in_channels], 1
        for layer in self.layers:
            if isinstance(layer, Residual):
                found += [area * layer.conv1.in_channels, area * layer.conv2.in_channels]
            elif isinstance(layer, Upsample):
                if layer.time_conv is not None:
                    found.append(area * layer.time_conv.in_channels)
                area *= 4
        found.append(area * self.conv_out.in_channels)
        return [PAST * channels for channels in found]

    def forward(self, latents: Tensor, started: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Map raw latents [B, C, 1, h, w] and what the step before left to frames and the same.

        `started` [B, 1]: zeros on a clip's first step, ones after it. `states`: zeros on the first
        step, channels as in `state_channels`. Frames are float32 [B, 3, 4, 8h, 8w] in [0, 1].
        """
        past = Past(states, started)
        x = self.post_quant_conv(latents.to(self.post_quant_conv.weight.dtype))
        x = self.conv_in.step(x, past)
        for layer in self.layers:
            x = layer(x) if isinstance(layer, Attention) else layer(x, past)
        x = self.conv_out.step(F.silu(self.norm_out(x)), past)
        frames = (x.float() / 2 + 0.5).clamp(0, 1)
        return frames, (started + 1).clamp(max=1), *past.kept
