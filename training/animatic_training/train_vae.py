"""Train the VAE on rendered clips, then measure the latents' statistics."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from animatic_export.blockout.vae import VideoVae
from animatic_training.budget import Budget, seed_noise
from animatic_training.dataset import clips_path, ready_shards
from animatic_training.muon import optimisers, set_rates

if TYPE_CHECKING:
    from pathlib import Path

    from animatic_training.config import Config

log = logging.getLogger("animatic_training")


DECODE_BATCH = 25
"""Clips decoded at a time."""
EDGES_FROM = 0.2
"""Share of the training after which differences between pixels begin to count."""


def to_video(clips: np.ndarray, device: torch.device) -> Tensor:
    """Return uint8 clips [B, F, H, W, 3] as float [B, F, 3, H, W] in [0, 1]."""
    tensor = torch.from_numpy(np.array(clips)).to(device)
    return tensor.permute(0, 1, 4, 2, 3).float() / 255


def _edges(video: Tensor) -> tuple[Tensor, Tensor]:
    return video[..., 1:] - video[..., :-1], video[..., 1:, :] - video[..., :-1, :]


def _loss(
    made: Tensor, video: Tensor, mean: Tensor, logvar: Tensor, kl_weight: float, edge_weight: Tensor
) -> Tensor:
    """Error of pixels, of their differences in space, and the latents' KL to N(0, 1).

    The differences may only weigh in once a picture is there: from the start they hold the
    network at plain grey, where they are smallest.
    """
    error = (made - video).abs().mean()
    for ours, theirs in zip(_edges(made), _edges(video), strict=True):
        error = error + edge_weight * (ours - theirs).abs().mean()
    square = (made - video).square().mean()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return error + 4 * square + kl_weight * kl


class _Objective(nn.Module):
    """The whole forward pass of a training step as one module, so that it compiles as one."""

    def __init__(self, vae: VideoVae, kl_weight: float) -> None:
        super().__init__()
        self.vae = vae
        self.kl_weight = kl_weight

    def forward(self, video: Tensor, noise: Tensor, edge_weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the mean squared error of video [B, F, 3, H, W]."""
        with torch.autocast(video.device.type, dtype=torch.bfloat16):
            mean, logvar = self.vae.encode(video)
            made = self.vae.decode(mean + noise * (0.5 * logvar).exp())
        made, mean, logvar = made.float(), mean.float(), logvar.float()
        square = (made.clamp(0, 1) - video).square().mean()
        return _loss(made, video, mean, logvar, self.kl_weight, edge_weight), square


def train_vae(config: Config, data: Path, run: Path, device: torch.device) -> VideoVae:
    """Train for the configured minutes, resuming from `run/vae.pt`; return the VAE."""
    torch.manual_seed(config.data.seed)
    vae = VideoVae(config.vae).to(device)
    vae.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rate = config.vae_training.learning_rate
    kernels = [weight for weight in vae.parameters() if weight.dim() == 4]
    optimiser_list = optimisers(vae, muon_rate=rate, adam_rate=rate, matrices=kernels)
    budget = Budget(config.vae_training.minutes)
    path = run / "vae.pt"
    budget.keep(path, {"model": vae}, optimiser_list)
    if budget.done:
        return vae.eval()
    seed_noise(config.data.seed, 1, budget.step)

    def finish() -> None:
        first = ready_shards(config, data)[0]
        _measure_latents(vae, np.load(clips_path(data, first), mmap_mode="r"), device)

    budget.finish = finish
    objective = torch.compile(
        _Objective(vae, config.vae_training.kl_weight), disable=not config.compile
    )
    rng = np.random.default_rng((config.data.seed, 1, budget.step))
    shards: dict[int, np.ndarray] = {}
    for step in budget:
        if step % 50 == 0 or not shards:
            for number in ready_shards(config, data):
                if number not in shards:
                    shards[number] = np.load(clips_path(data, number), mmap_mode="r")
        clips = shards[int(rng.choice(list(shards)))]
        rows = np.sort(rng.choice(len(clips), config.vae_training.batch, replace=False))
        video = to_video(clips[rows], device)
        if rng.random() < 0.5:
            video = video.flip(-1)
        set_rates(optimiser_list, budget.rate())
        noise = torch.randn(len(video), *config.latent_shape, device=device)
        edge_weight = torch.tensor(max(budget.share - EDGES_FROM, 0.0), device=device)
        loss, square = objective(video, noise, edge_weight)
        vae.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        for optimiser in optimiser_list:
            optimiser.step()
        budget.note(loss=loss.item(), psnr=-10 * float(torch.log10(square.detach())))
    return vae.eval()


@torch.no_grad()
def _measure_latents(vae: VideoVae, clips: np.ndarray, device: torch.device) -> None:
    """Set the latents' mean and standard deviation per channel from 256 clips."""
    means = [
        encode_clips(vae, clips[n : n + 32], device) for n in range(0, min(len(clips), 256), 32)
    ]
    latents = torch.cat(means)
    vae.mean.copy_(latents.mean((0, 2, 3, 4)))
    vae.std.copy_(latents.std((0, 2, 3, 4)))


@torch.no_grad()
def encode_clips(vae: VideoVae, clips: np.ndarray, device: torch.device) -> Tensor:
    """Return the mean latents float32 [B, C, T, h, w] of uint8 clips [B, F, H, W, 3], raw."""
    with torch.autocast(device.type, dtype=torch.bfloat16):
        mean, _ = vae.encode(to_video(clips, device))
    return mean.float()


@torch.no_grad()
def to_pixels(vae: VideoVae, latents: Tensor) -> np.ndarray:
    """Decode normalised latents [B, C, T, h, w] to uint8 clips [B, F, H, W, 3]."""
    with torch.autocast(latents.device.type, dtype=torch.bfloat16):
        video = vae.decode(vae.denormalise(latents)).float().clamp(0, 1)
    pixels: np.ndarray = (video * 255).round().byte().permute(0, 1, 3, 4, 2).cpu().numpy()
    return pixels


def decode_again(vae: VideoVae, clips: np.ndarray) -> np.ndarray:
    """Encode and decode uint8 clips [N, F, H, W, 3]."""
    parts = [clips[n : n + DECODE_BATCH] for n in range(0, len(clips), DECODE_BATCH)]
    encoded = (vae.normalise(encode_clips(vae, part, vae.mean.device)) for part in parts)
    return np.concatenate([to_pixels(vae, latents) for latents in encoded])


@torch.no_grad()
def score_vae(vae: VideoVae, clips: np.ndarray, device: torch.device) -> dict[str, float]:
    """Return decoded PSNR in dB over uint8 clips [N, F, H, W, 3], and of the first frame alone."""
    squares, first = [], []
    for n in range(0, len(clips), 16):
        part = clips[n : n + 16]
        made = vae.decode(encode_clips(vae, part, device)).clamp(0, 1)
        error = (made - to_video(part, device)).square()
        squares.append(error.mean((1, 2, 3, 4)))
        first.append(error[:, 0].mean((1, 2, 3)))
    return {
        "vae_psnr": float(-10 * torch.log10(torch.cat(squares).mean())),
        "vae_psnr_first_frame": float(-10 * torch.log10(torch.cat(first).mean())),
    }
