"""Train the VAE on crops of rendered pieces, then measure the latents' statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn

from animatic_export.blockout.vae import VideoVae
from animatic_training.arithmetic import autocast
from animatic_training.budget import Budget, longest_step, never, seed_noise
from animatic_training.coding import AT_ONCE, to_video
from animatic_training.learner import Learner, kernels
from animatic_training.transfer import to_device

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from animatic_training.config import Config
    from animatic_training.pixels import PixelShard

EDGES_FROM: Final = 0.2
"""Share of the training after which differences between pixels begin to count."""
STREAM: Final = 1
"""Of random numbers; every stage has its own."""
MEASURED: Final = 256
"""Pieces that the latents' statistics are taken from."""


def _edges(video: Tensor) -> tuple[Tensor, Tensor]:
    return video[..., 1:] - video[..., :-1], video[..., 1:, :] - video[..., :-1, :]


class VaeObjective(nn.Module):
    """The whole forward pass of a training step as one module, so that it compiles as one."""

    def __init__(self, vae: VideoVae, kl_weight: float) -> None:
        super().__init__()
        self.vae = vae
        self.kl_weight = kl_weight

    def forward(self, video: Tensor, noise: Tensor, edge_weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss and the mean squared error of video [B, F, 3, H, W].

        The loss is the error of pixels, of their differences in space, and the latents' KL to
        N(0, 1). The differences may only weigh in once a picture is there: from the start they
        hold the network at plain grey, where they are smallest.
        """
        with autocast(video.device):
            mean, logvar = self.vae.encode(video)
            made = self.vae.decode(mean + noise * (0.5 * logvar).exp())
        made, mean, logvar = made.float(), mean.float(), logvar.float()
        error = (made - video).abs().mean()
        for ours, theirs in zip(_edges(made), _edges(video), strict=True):
            error = error + edge_weight * (ours - theirs).abs().mean()
        kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
        loss = error + 4 * (made - video).square().mean() + self.kl_weight * kl
        return loss, (made.clamp(0, 1) - video).square().mean()


def train_vae(
    config: Config,
    shards: Sequence[PixelShard],
    run: Path,
    device: torch.device,
    beginning: Mapping[str, Tensor],
    *,
    stop: Callable[[], bool] = never,
) -> VideoVae:
    """Train for the configured minutes, resuming from `run/vae.pt`; return the VAE.

    `beginning`: weights to begin with, as many as there are of the right name and shape.
    """
    torch.manual_seed(config.data.seed + STREAM)
    settings = config.vae_training
    vae = VideoVae(config.vae)
    own = vae.state_dict()
    fitting = {n: w for n, w in beginning.items() if n in own and own[n].shape == w.shape}
    vae.load_state_dict({**own, **fitting})
    vae.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    rate = settings.learning_rate
    learner = Learner(vae, kernels(vae), muon_rate=rate, adam_rate=rate)
    budget = Budget(settings.minutes, stop=stop, longest=longest_step(device))
    budget.keep(run / "vae.pt", {"model": vae}, learner.optimisers)
    if budget.done:
        return vae.eval()
    budget.finish = lambda: measure_latents(vae, shards)
    objective = torch.compile(VaeObjective(vae, settings.kl_weight), disable=not config.compile)
    for step in budget:
        rng = np.random.default_rng((config.data.seed, STREAM, step))
        video = draw_crops(config, shards, rng, device)
        seed_noise(config.data.seed, STREAM, step)
        noise = torch.randn(len(video), *crop_latents(config), device=device)
        edge_weight = torch.full((), max(budget.share - EDGES_FROM, 0.0), device=device)
        loss, square = objective(video, noise, edge_weight)
        learner.step(loss, budget.rate())
        budget.note(loss=loss, psnr=-10 * torch.log10(square.detach()))
    return vae.eval()


def crop_latents(config: Config) -> tuple[int, int, int, int]:
    """Return channels, latent frames, rows and columns of a crop's latents."""
    settings, vae = config.vae_training, config.vae
    side = settings.crop // vae.spatial_factor
    return (vae.latent_channels, 1 + (settings.frames - 1) // vae.temporal_factor, side, side)


def draw_crops(
    config: Config, shards: Sequence[PixelShard], rng: np.random.Generator, device: torch.device
) -> Tensor:
    """Draw crops float32 [B, F, 3, H, W] in [0, 1] of one shard's pieces, half of them mirrored."""
    settings = config.vae_training
    pixels = shards[int(rng.integers(len(shards)))].pixels
    _, frames, height, width = pixels.shape[:4]
    crops = []
    for piece in rng.integers(len(pixels), size=settings.batch):
        t, y, x = (
            int(rng.integers(whole - part + 1))
            for whole, part in (
                (frames, settings.frames),
                (height, settings.crop),
                (width, settings.crop),
            )
        )
        crop = pixels[int(piece), t : t + settings.frames]
        crops.append(crop[:, y : y + settings.crop, x : x + settings.crop])
    video = to_video(torch.stack(crops), device)
    mirrored = to_device(torch.from_numpy(rng.random(len(video)) < 0.5), device)
    return torch.where(mirrored[:, None, None, None, None], video.flip(-1), video)


@torch.no_grad()
def measure_latents(vae: VideoVae, shards: Sequence[PixelShard]) -> None:
    """Set the latents' mean and standard deviation per channel from pieces of every shard."""
    device, each = vae.mean.device, max(1, MEASURED // len(shards))
    parts = []
    for shard in shards:
        for pixels in shard.pixels[:each].split(max(1, AT_ONCE // 8)):
            with autocast(device):
                mean, _ = vae.encode(to_video(pixels, device))
            parts.append(mean.float().transpose(0, 1).flatten(1))
    latents = torch.cat(parts, dim=1)
    vae.mean.copy_(latents.mean(1))
    vae.std.copy_(latents.std(1))
