"""Shards kept as pixels on the disk: what VAE and probe learn from and are scored on.

A shard is two files: `pixels-0007.npy`, uint8 [pieces, frames, height, width, 3], which is mapped
and not read, and `shots-0007.safetensors`, labels, starts and the subject's share of every cell.
The second is written last, so a shard whose shots exist is whole; rendering goes on where it
stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import load_file, save

from animatic_training.atomic import whole_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from animatic_training.pieces import Shard
    from animatic_training.renders import Chunk


@dataclass(frozen=True)
class PixelShard:
    """A shard as it lies on the disk; N pieces."""

    pixels: Tensor
    """uint8 [N, F, H, W, 3]: the file itself, mapped, or a copy on an accelerator."""
    labels: Tensor
    """int64 [N, 13]."""
    starts: Tensor
    """float32 [N], seconds since each shot began."""
    shares: Tensor
    """float16 [N, T, h, w] of subject in each latent cell."""


def _paths(folder: Path, shard: Shard) -> tuple[Path, Path]:
    name = f"{shard.number:04d}"
    return folder / f"pixels-{name}.npy", folder / f"shots-{name}.safetensors"


def is_there(folder: Path, shard: Shard) -> bool:
    """Whether a shard is kept as pixels, whole."""
    return shard.kind == "piece" and _paths(folder, shard)[1].exists()


def keep_pixels(folder: Path, shard: Shard, chunks: Sequence[Chunk]) -> None:
    """Write a rendered shard."""
    pixels, shots = _paths(folder, shard)
    with whole_file(pixels, sync=False) as temporary, temporary.open("wb") as file:
        np.save(file, torch.cat([chunk.pixels for chunk in chunks]).cpu().numpy())
    tensors = {
        "labels": torch.from_numpy(np.concatenate([chunk.labels for chunk in chunks])),
        "starts": torch.from_numpy(np.concatenate([chunk.starts for chunk in chunks])),
        "shares": torch.cat([chunk.shares for chunk in chunks]).cpu(),
    }
    with whole_file(shots, sync=False) as temporary:
        temporary.write_bytes(save(tensors))


def open_pixels(folder: Path, shard: Shard, device: torch.device) -> PixelShard:
    """Open a shard that is there; an accelerator gets a copy of its own."""
    pixels, shots = _paths(folder, shard)
    tensors = load_file(shots)
    # Mapped copy-on-write: torch warns of arrays that may not be written to, and nobody writes.
    mapped = torch.from_numpy(np.load(pixels, mmap_mode="c")).to(device)
    return PixelShard(mapped, tensors["labels"], tensors["starts"], tensors["shares"])
