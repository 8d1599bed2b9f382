"""The probe: a small classifier that reads a clip's attributes off its pixels.

It is trained on renders (a part of them passed through the VAE, as every generated clip is) and
scored on renders of held-out combinations; only if it is right
there does its verdict on generated clips mean anything. A clip's frames are stacked as channels:
motion is then a difference between channels, which the first convolution sees.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from animatic_training.atomic import whole_file
from animatic_training.budget import Budget, read_checkpoint, seed_noise, write_checkpoint
from animatic_training.dataset import clips_path, labels_path, mirrored_labels, ready_shards
from animatic_training.train_vae import decode_again, to_video
from animatic_training.world.attributes import CLASSES, ShotAttributes

if TYPE_CHECKING:
    from pathlib import Path

    from animatic_export.blockout.vae import VideoVae
    from animatic_training.config import Config

WIDTHS = (40, 80, 128, 160)
DECODED_EVERY = 5
"""One shard in so many is also learnt from as the VAE decodes it."""


class _Stage(nn.Module):
    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(before, width, 4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.down(x)))
        return F.relu(x + self.norm2(self.conv(x)))


class Probe(nn.Module):
    """Clips float [B, F, 3, H, W] in [0, 1] to logits, one tensor [B, classes] an attribute."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        widths = (3 * frames, *WIDTHS)
        self.stages = nn.Sequential(*(_Stage(a, b) for a, b in itertools.pairwise(widths)))
        self.hidden = nn.Linear(2 * WIDTHS[-1], 256)
        self.heads = nn.ModuleList(nn.Linear(256, len(c)) for c in CLASSES.values())

    def forward(self, video: Tensor) -> list[Tensor]:
        """Return the logits in the order of `CLASSES`."""
        x = self.stages(video.flatten(1, 2) * 4 - 2)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        hidden = F.relu(self.hidden(pooled))
        return [head(hidden) for head in self.heads]


@torch.no_grad()
def read_clips(probe: Probe, clips: np.ndarray, device: torch.device) -> np.ndarray:
    """Return the attributes int64 [N, 7] that the probe reads off uint8 clips [N, F, H, W, 3]."""
    readings = []
    for n in range(0, len(clips), 64):
        video = torch.from_numpy(np.array(clips[n : n + 64])).to(device)
        logits = probe(video.permute(0, 1, 4, 2, 3).float() / 255)
        readings.append(torch.stack([part.argmax(1) for part in logits], dim=1).cpu())
    return torch.cat(readings).numpy()


def accuracy(readings: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the share of clips read right, per attribute and for all attributes at once."""
    right = readings == labels
    shares = {name: float(right[:, n].mean()) for n, name in enumerate(CLASSES)}
    return {**shares, "all": float(right.all(axis=1).mean())}


def save_probe(probe: Probe, path: Path) -> None:
    """Write the weights as float16 safetensors; a file of that name is always whole."""
    weights = {k: v.half().contiguous().cpu() for k, v in probe.state_dict().items()}
    with whole_file(path) as temporary:
        # Serialised first: the library's own writing reports a full disk as no OSError.
        temporary.write_bytes(save(weights))


def load_probe(path: Path, frames: int) -> Probe:
    """Read what `save_probe` wrote."""
    probe = Probe(frames)
    probe.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return probe.eval()


class _Renders:
    """Clips to learn from; a mirror image that falls into the score set is left out."""

    def __init__(self, pixels: np.ndarray, labels: np.ndarray) -> None:
        self.pixels = pixels
        self.labels = (labels, mirrored_labels(labels))
        self.rows = tuple(
            np.flatnonzero([not ShotAttributes(*row).held_out for row in own.tolist()])
            for own in self.labels
        )

    def draw(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return uint8 clips [count, F, H, W, 3], half of the draws mirrored, and their labels."""
        mirrored = int(rng.random() < 0.5)
        rows = np.sort(rng.choice(self.rows[mirrored], count))
        pixels = self.pixels[rows]
        return pixels[:, :, :, ::-1] if mirrored else pixels, self.labels[mirrored][rows]


def _renders(config: Config, data: Path, vae: VideoVae) -> list[_Renders]:
    """Return every shard, and a share of them once more as the VAE decodes them.

    A generated clip always went through the decoder: the probe must not stumble over its blur.
    """
    numbers = ready_shards(config, data)
    made = []
    for place, number in enumerate(numbers):
        pixels = np.load(clips_path(data, number), mmap_mode="r")
        labels = np.load(labels_path(data, number))
        made.append(_Renders(pixels, labels))
        if place % DECODED_EVERY == 0:
            made.append(_Renders(decode_again(vae, pixels), labels))
    return made


def train_probe(
    config: Config, data: Path, run: Path, vae: VideoVae, device: torch.device
) -> Probe:
    """Train for the configured minutes, resuming from `run/probe.pt`."""
    torch.manual_seed(config.data.seed + 3)
    probe = Probe(config.clip.frames).to(device)
    probe.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(
        probe.parameters(), lr=config.probe.learning_rate, weight_decay=0.02
    )
    budget = Budget(config.probe.minutes)
    path = run / "probe.pt"
    if state := read_checkpoint(path):
        probe.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        budget.resume(state)
    if budget.done:
        return probe.eval()
    seed_noise(config.data.seed, 3, budget.step)
    budget.save = lambda: write_checkpoint(
        path,
        {
            "model": probe.state_dict(),
            "optimiser": optimiser.state_dict(),
            **budget.progress(),
        },
    )
    rng = np.random.default_rng((config.data.seed, 3, budget.step))
    renders = _renders(config, data, vae)
    forward = torch.compile(probe, disable=not config.compile)
    probe.train()
    for _ in budget:
        pixels, labels = renders[int(rng.integers(len(renders)))].draw(config.probe.batch, rng)
        video, wanted = to_video(pixels, device), torch.from_numpy(labels).to(device)
        # A little brighter or darker, so that colours are read in any light.
        gain = 1 + 0.06 * (torch.rand(len(video), 1, 1, 1, 1, device=device) - 0.5)
        for group in optimiser.param_groups:
            group["lr"] = config.probe.learning_rate * budget.rate()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = forward((video * gain).clamp(0, 1))
        losses = [
            F.cross_entropy(part.float(), wanted[:, n], label_smoothing=0.02)
            for n, part in enumerate(logits)
        ]
        optimiser.zero_grad(set_to_none=True)
        total: Tensor = torch.stack(losses).sum()
        total.backward()
        optimiser.step()
        right = [(part.argmax(1) == wanted[:, n]).float().mean() for n, part in enumerate(logits)]
        budget.note(**{name: float(share) for name, share in zip(CLASSES, right, strict=True)})
    return probe.eval()
