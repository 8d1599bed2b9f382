"""The probe: a small classifier that reads a clip's attributes off its pixels.

It is trained on renders (half of them passed through the VAE, as every generated clip is) and
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
from animatic_training.world.attributes import CLASSES, ShotAttributes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from animatic_export.blockout.vae import VideoVae
    from animatic_training.config import Config

WIDTHS = (40, 80, 128, 160)


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


def _augment(video: Tensor, vae: VideoVae | None) -> Tensor:
    """Roughen renders a little, so that the probe looks at shapes and not at render texture.

    Half of the batch goes through the VAE (a generated clip always does), and all of it gets a
    slight change of brightness and noise.
    """
    if vae is not None:
        half = len(video) // 2
        with torch.no_grad():
            made = vae.decode(vae.encode(video[:half])[0]).clamp(0, 1)
        video = torch.cat([made.to(video.dtype), video[half:]])
    gain = 1 + 0.06 * (torch.rand(len(video), 1, 1, 1, 1, device=video.device) - 0.5)
    return (video * gain + 0.01 * torch.randn_like(video)).clamp(0, 1)


def train_probe(
    config: Config, data: Path, run: Path, vae: VideoVae | None, device: torch.device
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
    numbers = ready_shards(config, data)
    shards = [np.load(clips_path(data, n), mmap_mode="r") for n in numbers]
    labels = [np.load(labels_path(data, n)) for n in numbers]
    probe.train()
    for _ in budget:
        video, wanted = _draw(shards, labels, config.probe.batch, rng, device)
        for group in optimiser.param_groups:
            group["lr"] = config.probe.learning_rate * budget.rate()
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = probe(_augment(video, vae))
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


def _draw(
    shards: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    count: int,
    rng: np.random.Generator,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Draw clips from one shard, half of the batches mirrored."""
    pick = int(rng.integers(len(shards)))
    rows = np.sort(rng.choice(len(shards[pick]), count, replace=False))
    pixels, wanted = np.array(shards[pick][rows]), labels[pick][rows]
    if rng.random() < 0.5:
        pixels, wanted = np.ascontiguousarray(pixels[:, :, :, ::-1]), mirrored_labels(wanted)
    # A mirror image may fall on a combination of the score set: it is not learnt from.
    kept = np.flatnonzero([not ShotAttributes(*row).held_out for row in wanted.tolist()])
    # Shuffled: `_augment` treats the halves of a batch differently.
    kept = rng.permutation(kept)
    pixels, wanted = pixels[kept], wanted[kept]
    video = torch.from_numpy(pixels).to(device).permute(0, 1, 4, 2, 3).float() / 255
    return video, torch.from_numpy(wanted).to(device)
