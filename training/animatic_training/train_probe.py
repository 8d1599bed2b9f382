"""Train the probe on renders, a part of them as the VAE decodes them.

A generated clip always went through the decoder: the probe must not stumble over its blur. Only if
it is right about renders of held-out combinations does its verdict on generated clips mean
anything.

What passes in a shot is read off its beginning alone: after some seconds a whip pan is a static
shot, and after a dolly the size is another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from animatic_training.arithmetic import autocast
from animatic_training.budget import Budget, longest_step, never, seed_noise
from animatic_training.coding import decode_again
from animatic_training.pieces import mirrored_labels
from animatic_training.probe import FRAMES, Probe, to_probe
from animatic_training.transfer import to_device
from animatic_training.world.attributes import CLASSES, ShotAttributes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from animatic_export.blockout.vae import VideoVae
    from animatic_training.config import Config
    from animatic_training.pixels import PixelShard

STREAM: Final = 5
"""Of random numbers; every stage has its own."""
DECODED_EVERY: Final = 5
"""One batch in so many is seen as the VAE decodes it."""
PASSING: Final = frozenset({"camera", "size", "angle", "lens"})
"""Attributes that the pictures of a later piece need not show any more."""


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
        begins = (shard.starts == 0).numpy()
        self.openings = tuple(rows[begins[rows]] for rows in self.rows)

    def draw(self, count: int, rng: np.random.Generator, *, opening: bool) -> tuple[Tensor, Tensor]:
        """Return 13 frames of pieces, uint8 [count, 13, H, W, 3], and their labels.

        opening: the first frames of shots, and not any. Half of the draws are mirrored.
        """
        mirrored = int(rng.random() < 0.5)
        within = self.openings if opening else self.rows
        rows = torch.from_numpy(rng.choice(within[mirrored], count))
        first = 0 if opening else int(rng.integers(self.pixels.shape[1] - FRAMES + 1))
        pixels = self.pixels[to_device(rows, self.pixels.device), first : first + FRAMES]
        labels = torch.from_numpy(self.labels[mirrored])[rows]
        return pixels.flip(3) if mirrored else pixels, labels


def train_probe(
    config: Config,
    shards: Sequence[PixelShard],
    run: Path,
    vae: VideoVae,
    device: torch.device,
    *,
    stop: Callable[[], bool] = never,
) -> Probe:
    """Train for the configured minutes, resuming from `run/probe.pt`."""
    torch.manual_seed(config.data.seed + STREAM)
    settings = config.probe
    probe = Probe().to(device)
    probe.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(probe.parameters(), lr=settings.learning_rate, weight_decay=0.02)
    budget = Budget(settings.minutes, stop=stop, longest=longest_step(device))
    path = run / "probe.pt"
    budget.keep(path, {"model": probe}, [optimiser])
    if budget.done:
        return probe.eval()
    renders = [Renders(shard) for shard in shards]
    forward = torch.compile(probe, disable=not config.compile)
    probe.train()
    for step in budget:
        rng = np.random.default_rng((config.data.seed, STREAM, step))
        opening = bool(rng.random() < 0.5)
        shard = renders[int(rng.integers(len(renders)))]
        pixels, labels = shard.draw(settings.batch, rng, opening=opening)
        if step % DECODED_EVERY == 0:
            pixels = decode_again(vae, pixels)
        seed_noise(config.data.seed, STREAM, step)
        video, wanted = to_probe(pixels, device), to_device(labels, device)
        # A little brighter or darker, so that colours are read in any light.
        gain = 1 + 0.06 * (torch.rand(len(video), 1, 1, 1, 1, device=device) - 0.5)
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * budget.rate()
        with autocast(device):
            logits = forward((video * gain).clamp(0, 1))
        optimiser.zero_grad(set_to_none=True)
        loss(logits, wanted, opening=opening).backward()
        optimiser.step()
        right = {
            name: (logits[n].argmax(1) == wanted[:, n]).float().mean() for n, name in shown(opening)
        }
        budget.note(**right)
    return probe.eval()


def shown(opening: bool) -> list[tuple[int, str]]:  # noqa: FBT001, it says all there is to say
    """Return number and name of the attributes that pieces show: of later ones not all."""
    return [(n, name) for n, name in enumerate(CLASSES) if opening or name not in PASSING]


def loss(logits: Sequence[Tensor], labels: Tensor, *, opening: bool) -> Tensor:
    """Return the summed cross-entropy against labels int64 [B, 13], smoothed a little.

    Of later pieces only that of what they show.
    """
    losses = [
        F.cross_entropy(logits[n].float(), labels[:, n], label_smoothing=0.02)
        for n, _ in shown(opening)
    ]
    return torch.stack(losses).sum()
