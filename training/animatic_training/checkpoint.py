"""The released checkpoint: safetensors with everything that the export needs, and nothing else."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import msgspec
from safetensors.torch import save

from animatic_export.blockout.config import ShotConfig
from animatic_training.atomic import whole_file
from animatic_training.config import BLOCK, CONTEXT, FPS
from animatic_training.world.attributes import CLASSES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from animatic_export.blockout.vae import VideoVae
    from animatic_export.blockout.window import WindowDenoiser
    from animatic_training.config import Config

FORMAT: Final = "blockout-2"
"""As `animatic_export.blockout.checkpoint` reads it; that module needs packages that training does
without."""


def shot_config(config: Config) -> ShotConfig:
    """Return what a shot of this model is."""
    return ShotConfig(
        fps=FPS,
        sizes=tuple((size.width, size.height) for size in config.sizes),
        block_latent_frames=BLOCK,
        context_latent_frames=CONTEXT,
    )


def model_card(config: Config, method: str, scores: Mapping[str, float]) -> dict[str, str]:
    """Return sentences on data, training and limits, for the bundle."""
    data, train = config.data, config.train
    pieces = data.piece_shards * data.pieces_per_shard
    stills = data.still_shards * data.stills_per_shard
    ways = {
        "dmd": "distribution matching (DMD2, arXiv:2405.14867, without GAN)",
        "perflow": "piecewise rectified flow (PeRFlow, arXiv:2405.07510)",
    }
    classes = ", ".join(f"{len(own)} of {name}" for name, own in CLASSES.items())
    minutes = {
        "VAE": config.vae_training.minutes,
        "stills": train.still_minutes,
        "windows": train.minutes,
        "distillation": config.distill.minutes,
    }
    spent = ", ".join(f"{name} {value:g}" for name, value in minutes.items())
    pictures = f"{stills} single pictures" if stills else "their single pictures"
    mirrored = ", and their mirror images" if data.mirrored else ""
    begun = "From nothing" if config.init == "nothing" else "Begun with the VAE before it"
    return {
        "data": (
            f"{pieces} pieces of shots of 25 frames and {pictures} of a procedural world"
            f"{mirrored}; nothing photographed. Classes: {classes}."
        ),
        "training": f"{begun}. Minutes: {spent}; distilled by {ways[method]}.",
        "scores": (
            f"{len(scores)} figures, read by a probe off clips of {config.score.prompts} prompts "
            "whose combinations of attributes were kept out of training."
        ),
        "limits": (
            "It knows the words of its own captions and what lies near them; pictures are small "
            "and soft; it draws grey-box stages, not people or places that exist."
        ),
    }


def write_release(
    config: Config, vae: VideoVae, student: WindowDenoiser, run: Path, method: str
) -> Path:
    """Write `run/blockout.safetensors`: VAE and student as float16, their shapes as metadata."""
    tensors = {f"vae.{name}": value for name, value in vae.state_dict().items()}
    tensors |= {f"denoiser.{name}": value for name, value in student.state_dict().items()}
    file = run / "scores.json"
    scores: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}
    metadata = {
        "format": FORMAT,
        "vae": msgspec.json.encode(config.vae).decode(),
        "window": msgspec.json.encode(config.window).decode(),
        "clip": msgspec.json.encode(shot_config(config)).decode(),
        "schedules": json.dumps(config.distill.schedules),
        "scores": json.dumps(scores),
        "card": json.dumps(model_card(config, method, scores)),
        "text_max_tokens": json.dumps(config.text_max_tokens),
    }
    path = run / "blockout.safetensors"
    with whole_file(path) as temporary:
        # Serialised first: the library's own writing reports a full disk as no OSError.
        halves = {n: v.half().contiguous().cpu() for n, v in tensors.items()}
        temporary.write_bytes(save(halves, metadata))
    return path
