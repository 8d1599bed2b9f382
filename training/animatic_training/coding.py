"""Pictures to latents and back, in batches that fit a machine's memory.

Axes: B clips, F frames, T latent frames; T = 1 + (F - 1) / 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from animatic_training.arithmetic import autocast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from animatic_export.blockout.vae import VideoVae

AT_ONCE: Final = 64
"""Latent frames that pass through the VAE at once."""


def to_video(pixels: Tensor, device: torch.device) -> Tensor:
    """Return uint8 pixels [B, F, H, W, 3] as float [B, F, 3, H, W] in [0, 1]."""
    return pixels.to(device, non_blocking=True).permute(0, 1, 4, 2, 3).float() / 255


def to_bytes(video: Tensor) -> Tensor:
    """Return float video [B, F, 3, H, W] as uint8 pixels [B, F, H, W, 3]."""
    return (video.float().clamp(0, 1) * 255).round().byte().permute(0, 1, 3, 4, 2)


def _parts(whole: Tensor, latent_frames: int) -> Iterator[Tensor]:
    yield from whole.split(max(1, AT_ONCE // latent_frames))


@torch.no_grad()
def encode(vae: VideoVae, pixels: Tensor) -> Tensor:
    """Return normalised mean latents float32 [B, C, T, h, w] of uint8 pixels [B, F, H, W, 3]."""
    device = vae.mean.device
    latents = []
    for part in _parts(pixels, 1 + (pixels.shape[1] - 1) // vae.factor):
        with autocast(device):
            mean, _ = vae.encode(to_video(part, device))
        latents.append(vae.normalise(mean.float()))
    return torch.cat(latents)


@torch.no_grad()
def decode(vae: VideoVae, latents: Tensor) -> Tensor:
    """Return uint8 pixels [B, F, H, W, 3] of normalised latents [B, C, T, h, w]."""
    pixels = []
    for part in _parts(latents, latents.shape[2]):
        with autocast(latents.device):
            pixels.append(to_bytes(vae.decode(vae.denormalise(part))))
    return torch.cat(pixels)


def decode_again(vae: VideoVae, pixels: Tensor) -> Tensor:
    """Encode and decode uint8 pixels [B, F, H, W, 3]: what a perfect denoiser would show."""
    return torch.cat([decode(vae, encode(vae, part)) for part in pixels.split(AT_ONCE)])
