"""TAEHV's decoder over whole clips, in plain torch: what a tiny decoder is held against.

Follows taehv.py (github.com/madebyollin/taehv, MIT), whose layers are numbered as here, so that its
state dict has the published names.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

WAN: Final = (16, (1, 2, 2), 1)
LTX: Final = (128, (2, 2, 2), 4)
"""Latent channels, growth at each doubling, patch: the constructor's arguments in taehv.py."""
WIDTHS: Final = (32, 24, 16, 16)


class Remembering(nn.Module):
    """MemBlock of taehv.py."""

    def __init__(self, width: int) -> None:
        super().__init__()
        first = nn.Conv2d(2 * width, width, 3, padding=1)
        rest = [nn.Conv2d(width, width, 3, padding=1) for _ in range(2)]
        self.conv = nn.Sequential(first, nn.ReLU(), rest[0], nn.ReLU(), rest[1])


class Growing(nn.Module):
    """TGrow of taehv.py."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width * stride, 1, bias=False)


class Taehv(nn.Module):
    """The decoder of taehv.py over whole clips at once, as its `decode_video(parallel=True)`."""

    def __init__(self, channels: int, strides: tuple[int, ...], patch: int) -> None:
        super().__init__()
        self.patch = patch
        first, *_, last = WIDTHS
        layers = [nn.Identity(), nn.Conv2d(channels, first, 3, padding=1), nn.ReLU()]
        for width, following, stride in zip(WIDTHS, WIDTHS[1:], strides, strict=False):
            layers += [Remembering(width) for _ in range(3)]
            layers += [nn.Upsample(scale_factor=2), Growing(width, stride)]
            layers += [nn.Conv2d(width, following, 3, padding=1, bias=False)]
        layers += [nn.ReLU(), nn.Conv2d(last, 3 * patch**2, 3, padding=1)]
        self.decoder = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        """Map normalised latents [B, C, T, h, w] to frames [B, 3, 1 + (T-1) * factor, H, W]."""
        clips, _, count, *_ = latents.shape
        x = (torch.tanh(latents / 3) * 3).transpose(1, 2).flatten(0, 1)
        for layer in self.decoder:
            if isinstance(layer, Remembering):
                clip = x.unflatten(0, (clips, -1))
                past = functional.pad(clip, (0, 0, 0, 0, 0, 0, 1, 0))[:, :-1].flatten(0, 1)
                x = functional.relu(layer.conv(torch.cat([x, past], dim=1)) + x)
            elif isinstance(layer, Growing):
                x = layer.conv(x).reshape(-1, *x.shape[1:])
            else:
                x = layer(x)
        video = functional.pixel_shuffle(x, self.patch).clamp(0, 1).unflatten(0, (clips, -1))
        frames: Tensor = video[:, video.shape[1] // count - 1 :].transpose(1, 2)
        return frames


def reference(family: tuple[int, tuple[int, ...], int]) -> Taehv:
    """Random weights, in float16 as published, large enough for frames that are not grey."""
    torch.manual_seed(0)
    made = Taehv(*family).eval().requires_grad_(requires_grad=False)
    for name, parameter in made.named_parameters():
        gain = 3.0 if name.startswith("decoder.22.") else 1.5
        parameter.copy_((parameter * gain).half())
    made.get_parameter("decoder.22.bias").fill_(0.5)
    return made
