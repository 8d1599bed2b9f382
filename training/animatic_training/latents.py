"""The rendered set as normalised latents: encoded once, kept beside the shards."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from animatic_training.dataset import clips_path, labels_path, mirrored_labels, save_array
from animatic_training.train_vae import encode_clips

if TYPE_CHECKING:
    from pathlib import Path

    from animatic_export.blockout.vae import VideoVae


@dataclass(frozen=True)
class LatentSet:
    """Clips as latents with their labels; mirrored clips stand among them."""

    latents: Tensor
    """float16 [N, C, T, h, w], zero mean and unit variance per channel."""
    labels: np.ndarray
    """int64 [N, 7], in the order of `world.attributes.CLASSES`."""


def encode_shard(vae: VideoVae, data: Path, shard: int, device: torch.device) -> None:
    """Write one shard's latents, float16 [2N, C, T, h, w]: the clips, then their mirror images."""
    path = latents_path(data, shard, vae)
    if path.exists():
        return
    clips = np.load(clips_path(data, shard), mmap_mode="r")
    parts = []
    for mirrored in (False, True):
        for n in range(0, len(clips), 25):
            part = clips[n : n + 25]
            pixels = part[:, :, :, ::-1] if mirrored else part
            latents = vae.normalise(encode_clips(vae, pixels, device))
            parts.append(latents.half().cpu())
    save_array(path, torch.cat(parts).numpy())


def latents_path(folder: Path, shard: int, vae: VideoVae) -> Path:
    """Return where a shard's latents by this very VAE are; another VAE's are another file."""
    weights = (tensor.detach().cpu().numpy().tobytes() for tensor in vae.state_dict().values())
    digest = hashlib.sha256(b"".join(weights)).hexdigest()[:8]
    return folder / f"latents-{digest}-{shard:04d}.npy"


def load_latents(data: Path, shards: list[int], vae: VideoVae) -> LatentSet:
    """Read the latents of rendered shards; FileNotFoundError if one (or every one) lacks them."""
    paths = {shard: latents_path(data, shard, vae) for shard in shards}
    missing = [shard for shard, path in paths.items() if not path.exists()]
    if missing or not paths:
        which = f" of the shards {missing}" if len(missing) < len(paths) else ""
        raise FileNotFoundError(f"{data} holds no latents{which} by this VAE.")
    latents, labels = [], []
    for shard, path in paths.items():
        latents.append(torch.from_numpy(np.load(path)))
        own = np.load(labels_path(data, shard))
        labels.append(np.concatenate([own, mirrored_labels(own)]))
    return LatentSet(torch.cat(latents), np.concatenate(labels))
