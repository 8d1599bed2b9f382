"""The rendered set as latents: encoded once, kept shard by shard, then in memory as a whole.

The pictures are rendered for it (or read, where they are kept) and not kept. Mirror images are
encoded for themselves: the VAE does not know that they are the same world. Of every piece two
pictures are also encoded alone, as stills that a window may be given: one of its first block, one
of the further one.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from safetensors.torch import load_file, save

from animatic_training.atomic import whole_file
from animatic_training.coding import encode
from animatic_training.config import TEMPORAL_FACTOR
from animatic_training.pieces import mirrored_labels
from animatic_training.world.attributes import ShotAttributes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

    from animatic_export.blockout.vae import VideoVae
    from animatic_training.config import Config
    from animatic_training.pieces import Shard
    from animatic_training.renders import Chunk
    from animatic_training.text import CaptionEncoder

STILL_RANGES: Final = ((1, 12), (13, 24))
"""First and last frame among which each of a piece's stills is drawn."""


@dataclass(frozen=True)
class LatentSet:
    """N pieces, or stills, of one size; mirror images stand among them."""

    latents: Tensor
    """float16 [N, C, T, h, w], zero mean and unit variance per channel."""
    shares: Tensor
    """float16 [N, T, h, w] of subject in each cell."""
    labels: Tensor
    """int64 [N, 13], in the order of `world.attributes.CLASSES`."""
    starts: Tensor
    """float32 [N], seconds."""
    tokens: Tensor
    """int32 [N, captions, L], token ids of captions."""
    stills: Tensor
    """float16 [N, 2, C, h, w]; [N, 0, C, h, w] of stills themselves."""
    still_frames: Tensor
    """int64 [N, 2]: which frames of the piece those are."""

    def __len__(self) -> int:
        """How many there are."""
        return len(self.latents)


def vae_digest(vae: VideoVae) -> str:
    """Return what tells one VAE's latents from another's."""
    weights = (tensor.detach().cpu().numpy().tobytes() for tensor in vae.state_dict().values())
    return hashlib.sha256(b"".join(weights)).hexdigest()[:8]


def latents_path(folder: Path, shard: Shard, digest: str) -> Path:
    """Return where a shard's latents by the VAE of that digest are."""
    return folder / f"latents-{digest}-{shard.kind}-{shard.number:04d}.safetensors"


def encode_shard(
    config: Config, vae: VideoVae, shard: Shard, chunks: Sequence[Chunk], encoder: CaptionEncoder
) -> dict[str, Tensor]:
    """Return a rendered shard, then its mirror image if wanted, as a `LatentSet`'s tensors.

    Mirror images that fall into the score set are left out.
    """
    rng = np.random.default_rng((config.data.seed, 4, shard.number))
    views: list[list[dict[str, Tensor]]] = [[] for _ in range(1 + config.data.mirrored)]
    for chunk in chunks:
        frames = torch.from_numpy(_still_frames(rng, shard, len(chunk.labels)))
        captions = encoder.tokens([text for own in chunk.captions for text in own])
        tokens = torch.from_numpy(captions).unflatten(0, (len(chunk.labels), 2, -1))
        for mirrored, parts in enumerate(views):
            pixels = chunk.pixels.flip(3) if mirrored else chunk.pixels
            labels = mirrored_labels(chunk.labels) if mirrored else chunk.labels
            parts.append(
                {
                    "latents": encode(vae, pixels).half(),
                    "shares": chunk.shares.flip(3) if mirrored else chunk.shares,
                    "labels": torch.from_numpy(labels),
                    "starts": torch.from_numpy(chunk.starts),
                    "tokens": tokens[:, mirrored],
                    "stills": _encode_stills(vae, pixels, frames),
                    "still_frames": frames,
                }
            )
    whole = [part for parts in views for part in parts]
    tensors = {name: torch.cat([part[name] for part in whole]).cpu() for name in whole[0]}
    own = np.concatenate([chunk.labels for chunk in chunks])
    allowed = may_be_learnt(own, tensors["labels"].numpy())
    return {name: value[torch.from_numpy(allowed)] for name, value in tensors.items()}


def may_be_learnt(own: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Say which labels `shown` [V * N, A] of N pieces and their mirror images are not held out.

    `own` [N, A] never are. Looking takes 0.14 ms (measured), so those that a mirror leaves as they
    are are not looked at.
    """
    changed = (shown != np.tile(own, (len(shown) // len(own), 1))).any(axis=1)
    allowed = np.ones(len(shown), bool)
    for row in np.flatnonzero(changed):
        allowed[row] = not ShotAttributes(*shown[row].tolist()).held_out
    return allowed


def _still_frames(rng: np.random.Generator, shard: Shard, count: int) -> np.ndarray:
    if shard.kind == "still":
        return np.zeros((count, 0), np.int64)
    return np.stack([rng.integers(a, b + 1, count) for a, b in STILL_RANGES], axis=1)


def _encode_stills(vae: VideoVae, pixels: Tensor, frames: Tensor) -> Tensor:
    """Encode frames int64 [N, S] of each piece alone: float16 [N, S, C, h, w]."""
    count, own = frames.shape
    rows = torch.arange(count, device=pixels.device)[:, None]
    chosen = pixels[rows, frames.to(pixels.device)].flatten(0, 1)[:, None]
    if own == 0:
        height, width = (length // 16 for length in pixels.shape[2:4])
        return torch.zeros(count, 0, vae.mean.numel(), height, width, dtype=torch.float16)
    return encode(vae, chosen)[:, :, 0].half().unflatten(0, (count, own))


def keep_latents(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write what `encode_shard` returned."""
    with whole_file(path, sync=False) as temporary:
        temporary.write_bytes(save({name: value.contiguous() for name, value in tensors.items()}))


def load_latents(
    config: Config, folder: Path, shards: Sequence[Shard], digest: str, device: torch.device
) -> list[LatentSet]:
    """Read the latents of shards on to a device, a set for each size.

    FileNotFoundError if a shard lacks them.
    """
    missing = [s.number for s in shards if not latents_path(folder, s, digest).exists()]
    if missing or not shards:
        raise FileNotFoundError(f"{folder} holds no latents of the shards {missing} by this VAE.")
    by_size: dict[tuple[int, int], list[dict[str, Tensor]]] = {}
    for shard in shards:
        tensors = load_file(latents_path(folder, shard, digest))
        own = {name: value.to(device) for name, value in tensors.items()}
        by_size.setdefault(shard.size(config).grid, []).append(own)
    return [
        LatentSet(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})
        for parts in by_size.values()
    ]


def as_stills(data: LatentSet) -> LatentSet:
    """Return the pictures of pieces that were encoded alone as stills of their own.

    They are each piece's first one and its two stills, whose cells are as much subject as those of
    the latent frame about them.
    """
    rows = torch.arange(len(data), device=data.latents.device)[:, None]
    about = (data.still_frames + TEMPORAL_FACTOR - 1) // TEMPORAL_FACTOR
    first, firsts = data.latents[:, :, 0], data.shares[:, :1]
    latents = torch.cat([first[:, None], data.stills], dim=1)
    each = latents.shape[1]
    return LatentSet(
        latents=latents.flatten(0, 1)[:, :, None],
        shares=torch.cat([firsts, data.shares[rows, about]], dim=1).flatten(0, 1)[:, None],
        labels=data.labels.repeat_interleave(each, dim=0),
        starts=data.starts.repeat_interleave(each),
        tokens=data.tokens.repeat_interleave(each, dim=0),
        stills=data.stills[:, :0].repeat_interleave(each, dim=0),
        still_frames=data.still_frames[:, :0].repeat_interleave(each, dim=0),
    )
