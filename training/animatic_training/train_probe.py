"""Train the probe on renders, a part of them as the VAE decodes them.

A generated clip always went through the decoder: the probe must not stumble over its blur. Only if
it is right about renders of held-out combinations does its verdict on generated clips mean
anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from animatic_training.arithmetic import autocast
from animatic_training.budget import Budget, seed_noise
from animatic_training.coding import decode_again
from animatic_training.pieces import mirrored_labels
from animatic_training.probe import FRAMES, Probe, to_probe
from animatic_training.world.attributes import CLASSES, ShotAttributes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from animatic_export.blockout.vae import VideoVae
    from animatic_training.config import Config
    from animatic_training.pixels import PixelShard

STREAM: Final = 5
"""Of random numbers; every stage has its own."""
DECODED_EVERY: Final = 5
"""One batch in so many is seen as the VAE decodes it."""


class Renders:
    """A shard's pieces; a mirror image that falls into the score set is left out."""

    def __init__(self, shard: PixelShard) -> None:
        self.pixels = shard.pixels
        labels = shard.labels.numpy()
        self.labels = (labels, mirrored_labels(labels))
        self.rows = tuple(
            np.flatnonzero([not ShotAttributes(*row).held_out for row in own.tolist()])
            for own in self.labels
        )

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return 13 frames of pieces, uint8 [count, 13, H, W, 3], and their labels.

        Half of the draws are mirrored.
        """
        mirrored = int(rng.random() < 0.5)
        rows = torch.from_numpy(rng.choice(self.rows[mirrored], count))
        first = int(rng.integers(self.pixels.shape[1] - FRAMES + 1))
        pixels = self.pixels[rows.to(self.pixels.device), first : first + FRAMES]
        labels = torch.from_numpy(self.labels[mirrored])[rows]
        return pixels.flip(3) if mirrored else pixels, labels


def train_probe(
    config: Config, shards: Sequence[PixelShard], run: Path, vae: VideoVae, device: torch.device
) -> Probe:
    """Train for the configured minutes, resuming from `run/probe.pt`."""
    torch.manual_seed(config.data.seed + STREAM)
    settings = config.probe
    probe = Probe().to(device)
    probe.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(probe.parameters(), lr=settings.learning_rate, weight_decay=0.02)
    budget = Budget(settings.minutes)
    path = run / "probe.pt"
    budget.keep(path, {"model": probe}, [optimiser])
    if budget.done:
        return probe.eval()
    renders = [Renders(shard) for shard in shards]
    forward = torch.compile(probe, disable=not config.compile)
    probe.train()
    for step in budget:
        rng = np.random.default_rng((config.data.seed, STREAM, step))
        pixels, labels = renders[int(rng.integers(len(renders)))].draw(settings.batch, rng)
        if step % DECODED_EVERY == 0:
            pixels = decode_again(vae, pixels)
        seed_noise(config.data.seed, STREAM, step)
        video, wanted = to_probe(pixels, device), labels.to(device)
        # A little brighter or darker, so that colours are read in any light.
        gain = 1 + 0.06 * (torch.rand(len(video), 1, 1, 1, 1, device=device) - 0.5)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * budget.rate()
        with autocast(device):
            logits = forward((video * gain).clamp(0, 1))
        optimiser.zero_grad(set_to_none=True)
        loss(logits, wanted).backward()
        optimiser.step()
        right = [(part.argmax(1) == wanted[:, n]).float().mean() for n, part in enumerate(logits)]
        budget.note(**dict(zip(CLASSES, right, strict=True)))
    return probe.eval()


def loss(logits: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Return the summed cross-entropy against labels int64 [B, 13], smoothed a little."""
    losses = [
        F.cross_entropy(part.float(), labels[:, n], label_smoothing=0.02)
        for n, part in enumerate(logits)
    ]
    return torch.stack(losses).sum()
