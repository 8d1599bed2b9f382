"""The smallest Blockout of version 1 that has every part, and its checkpoint."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import torch
from safetensors.torch import save_file

from animatic_export.blockout.config import ShotConfig, WindowConfig
from animatic_export.blockout.vae import VideoVae
from animatic_export.blockout.window import WindowDenoiser
from tests.export.toy import VAE

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

WINDOW = WindowConfig(latent_channels=8, width=96, depth=2, heads=2, text_width=384, text_queries=2)
SHOT = ShotConfig(
    fps=8,
    sizes=((64, 32), (48, 48), (32, 64), (80, 32)),
    block_latent_frames=4,
    context_latent_frames=2,
)
SCHEDULES = ((1.0, 0.9375, 0.8333, 0.625), (1.0, 0.625), (1.0,))
METADATA = {
    "format": "blockout-2",
    "vae": msgspec.json.encode(VAE).decode(),
    "window": msgspec.json.encode(WINDOW).decode(),
    "clip": msgspec.json.encode(SHOT).decode(),
    "schedules": json.dumps(SCHEDULES),
    "scores": json.dumps({"student_all": 0.5}),
    "card": json.dumps({"data": "a toy's.", "cost": "nothing."}),
    "text_max_tokens": "24",
}


@torch.no_grad()
def _shake(module: nn.Module, spread: float) -> None:
    """Give the layers that begin at zero weights too, so that all counts; half precision's."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        noise = spread * torch.randn(parameter.shape, generator=generator)
        parameter.copy_((parameter + noise).half())
    module.eval().requires_grad_(requires_grad=False)


def toy_vae() -> VideoVae:
    """Random, its pictures mostly between black and white; latents' statistics of their own."""
    torch.manual_seed(0)
    vae = VideoVae(VAE)
    vae.mean.copy_(torch.linspace(-0.1, 0.1, VAE.latent_channels).half())
    vae.std.copy_(torch.linspace(0.12, 0.25, VAE.latent_channels).half())
    _shake(vae, 0.02)
    return vae


def toy_denoiser(config: WindowConfig = WINDOW) -> WindowDenoiser:
    """Random, and so sensitive that a frame at another position shows in the pictures."""
    torch.manual_seed(0)
    denoiser = WindowDenoiser(config)
    channels = torch.arange(config.latent_channels)
    # Cosines, as no two linear algebras agree on the signs of measured directions.
    waves = torch.cos(torch.pi / len(channels) * (channels[:, None] + 0.5) * channels)
    denoiser.spectrum.basis.copy_((waves / waves.norm(dim=0)).half())
    denoiser.spectrum.variances.copy_(torch.linspace(0.25, 2, len(channels)).half())
    _shake(denoiser, 0.12)
    return denoiser


def write_window_checkpoint(path: Path, *, dtype: torch.dtype = torch.float16) -> None:
    """Write `toy_vae` and `toy_denoiser` as `animatic train` does."""
    tensors = {f"vae.{name}": tensor for name, tensor in toy_vae().state_dict().items()}
    tensors |= {f"denoiser.{name}": t for name, t in toy_denoiser().state_dict().items()}
    save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, path, METADATA)
