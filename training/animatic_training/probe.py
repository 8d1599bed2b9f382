"""The probe: a small classifier that reads a clip's attributes off its pixels.

A clip's frames are stacked as channels: motion is then a difference between channels, which the
first convolution sees. It reads 13 frames, those of a shot's first block; of a longer run the last
13, and a picture of another size is brought to the usual one.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

import msgspec
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional as F

from animatic_training.atomic import whole_file
from animatic_training.world.attributes import CLASSES

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

FRAMES: Final = 13
HEIGHT: Final = 144
WIDTH: Final = 256


class ProbeShape(msgspec.Struct, frozen=True):
    """Shape of a probe, stored with its weights."""

    frames: int
    height: int
    width: int
    """Pixels; clips of another size are brought to it."""
    widths: tuple[int, ...]
    """Channels at 1/2, 1/4, … of the frame."""
    hidden: int
    classes: tuple[int, ...]
    """Of each attribute that it reads: the first so many, in the order of `CLASSES`."""


SHAPE: Final = ProbeShape(
    frames=FRAMES,
    height=HEIGHT,
    width=WIDTH,
    widths=(48, 96, 160, 224, 256),
    hidden=384,
    classes=tuple(len(classes) for classes in CLASSES.values()),
)
FIRST_SHAPE: Final = ProbeShape(
    frames=9,
    height=80,
    width=144,
    widths=(40, 80, 128, 160),
    hidden=256,
    classes=(8, 8, 6, 4, 4, 6, 3),
)
"""Of version 0's probe, whose file does not say it."""


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

    def __init__(self, shape: ProbeShape = SHAPE) -> None:
        super().__init__()
        self.shape = shape
        widths = (3 * shape.frames, *shape.widths)
        self.stages = nn.Sequential(*(_Stage(a, b) for a, b in itertools.pairwise(widths)))
        self.hidden = nn.Linear(2 * widths[-1], shape.hidden)
        self.heads = nn.ModuleList(nn.Linear(shape.hidden, count) for count in shape.classes)

    def forward(self, video: Tensor) -> list[Tensor]:
        """Return the logits in the order of `CLASSES`."""
        x = self.stages(video.flatten(1, 2) * 4 - 2)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], dim=1)
        hidden = F.relu(self.hidden(pooled))
        return [head(hidden) for head in self.heads]


def to_probe(pixels: Tensor, device: torch.device, shape: ProbeShape = SHAPE) -> Tensor:
    """Return what a probe sees of uint8 pixels [B, F, H, W, 3]: their last frames, resized."""
    video = pixels[:, -shape.frames :].to(device).permute(0, 1, 4, 2, 3).float() / 255
    size = (shape.height, shape.width)
    if video.shape[-2:] == size:
        return video
    flat = F.interpolate(video.flatten(0, 1), size, mode="bilinear", antialias=True)
    return flat.unflatten(0, video.shape[:2])


@torch.no_grad()
def read_clips(probe: Probe, pixels: Tensor) -> np.ndarray:
    """Return the attributes int64 [N, A] that a probe reads off uint8 pixels [N, F, H, W, 3]."""
    device = next(probe.parameters()).device
    readings = []
    for part in pixels.split(32):
        logits = probe(to_probe(part, device, probe.shape))
        readings.append(torch.stack([own.argmax(1) for own in logits], dim=1).cpu())
    return torch.cat(readings).numpy()


def accuracy(readings: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the share of clips read right, per attribute and for all attributes at once.

    What the second subject is counts only where there is one; `all` asks for everything.
    """
    right = readings == labels
    names = list(CLASSES)
    paired = labels[:, names.index("relation")] != 0
    shares = {}
    for n, name in enumerate(names):
        own = right[paired, n] if name.startswith("second") else right[:, n]
        if len(own):
            shares[name] = float(own.mean())
    return {**shares, "all": float(right.all(axis=1).mean())}


def save_probe(probe: Probe, path: Path) -> None:
    """Write the weights as float16 safetensors; a file of that name is always whole."""
    weights = {k: v.half().contiguous().cpu() for k, v in probe.state_dict().items()}
    with whole_file(path) as temporary:
        # Serialised first: the library's own writing reports a full disk as no OSError.
        temporary.write_bytes(save(weights, {"shape": msgspec.json.encode(probe.shape).decode()}))


def load_probe(path: Path) -> Probe:
    """Read what `save_probe` wrote, or version 0's probe."""
    with safe_open(path, framework="pt") as file:
        said = (file.metadata() or {}).get("shape")
        weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    probe = Probe(msgspec.json.decode(said, type=ProbeShape) if said else FIRST_SHAPE)
    probe.load_state_dict(weights)
    return probe.eval()
