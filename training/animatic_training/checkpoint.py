"""The released checkpoint: safetensors with everything that the export needs, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
from safetensors.torch import save

from animatic_export.blockout.checkpoint import FORMAT
from animatic_training.atomic import whole_file

if TYPE_CHECKING:
    from pathlib import Path

    from animatic_export.blockout.denoiser import Denoiser
    from animatic_export.blockout.vae import VideoVae
    from animatic_training.config import Config


def write_release(config: Config, vae: VideoVae, student: Denoiser, run: Path) -> Path:
    """Write `run/blockout.safetensors`: VAE and student as float16, their shapes as metadata."""
    tensors = {f"vae.{name}": value for name, value in vae.state_dict().items()}
    tensors |= {f"denoiser.{name}": value for name, value in student.state_dict().items()}
    scores = run / "scores.json"
    metadata = {
        "format": FORMAT,
        "vae": msgspec.json.encode(config.vae).decode(),
        "denoiser": msgspec.json.encode(config.denoiser_config).decode(),
        "clip": msgspec.json.encode(config.clip).decode(),
        "sigmas": json.dumps(config.distill.sigmas),
        "scores": scores.read_text() if scores.exists() else "{}",
    }
    path = run / "blockout.safetensors"
    with whole_file(path) as temporary:
        # Serialised first: the library's own writing reports a full disk as no OSError.
        halves = {n: v.half().contiguous().cpu() for n, v in tensors.items()}
        temporary.write_bytes(save(halves, metadata))
    return path
