"""The training configuration: one TOML file, read once into frozen structs."""

from __future__ import annotations

from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from animatic_export.blockout.config import ClipConfig, DenoiserConfig, VaeConfig
from animatic_training.world.scene import NATIVE_FPS

if TYPE_CHECKING:
    from collections.abc import Iterator

SPATIAL_FACTOR: Final = 16
"""Pixels a latent cell: the VAE halves the picture four times."""


class DataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rendered set: shards are numbered, and each is made from (seed, number) alone."""

    seed: int
    shards: int
    clips_per_shard: int
    held_out_shards: int


class VaeTraining(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the VAE is trained."""

    minutes: float
    batch: int
    learning_rate: float
    kl_weight: float


class ProbeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The classifier that scores clips."""

    minutes: float
    batch: int
    learning_rate: float


class DenoiserShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size of the denoiser; the latent grid follows from the clip and the VAE."""

    width: int
    depth: int
    heads: int
    text_width: int
    text_queries: int


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rectified-flow training of the teacher."""

    minutes: float
    batch: int
    max_tokens: int
    """Captions are padded (and would be cut) to this many tokens."""
    learning_rate: float
    """Of Muon, on the blocks' matrices."""
    adam_learning_rate: float
    """Of AdamW, on everything else."""
    text_dropout: float
    keyframe_share: float
    timestep_shift: float
    ema: float


class DistillConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Distillation of the guided teacher into few steps without guidance."""

    minutes: float
    batch: int
    sigmas: tuple[float, ...]
    """Noise levels of the student's steps, descending from 1; the last step ends at 0."""
    guidance: float
    """Weight of classifier-free guidance in the teacher; 1 is none."""
    teacher_substeps: tuple[int, ...]
    """Euler steps the teacher takes within each step of the student."""
    learning_rate: float
    adam_learning_rate: float
    ema: float


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One version of Blockout."""

    compile: bool
    """Whether training steps go through torch.compile (needs a C++ compiler on a CPU)."""
    clip: ClipConfig
    data: DataConfig
    vae: VaeConfig
    vae_training: VaeTraining
    probe: ProbeConfig
    denoiser: DenoiserShape
    train: TrainConfig
    distill: DistillConfig

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """Channels, latent frames, rows and columns of one clip's latents."""
        factor = self.vae.spatial_factor
        return (
            self.vae.latent_channels,
            1 + (self.clip.frames - 1) // self.vae.temporal_factor,
            self.clip.height // factor,
            self.clip.width // factor,
        )

    @property
    def denoiser_config(self) -> DenoiserConfig:
        """The denoiser's whole shape."""
        channels, frames, rows, columns = self.latent_shape
        return DenoiserConfig(
            latent_channels=channels,
            frames=frames,
            rows=rows,
            columns=columns,
            width=self.denoiser.width,
            depth=self.denoiser.depth,
            heads=self.denoiser.heads,
            text_width=self.denoiser.text_width,
            text_queries=self.denoiser.text_queries,
        )


class ConfigError(Exception):
    """The configuration cannot be read; the message says where it is wrong."""


def load_config(name_or_path: str) -> Config:
    """Read a shipped configuration by name (``v0``) or any TOML file by path."""
    path = Path(name_or_path)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ConfigError(f"There is no configuration file {path}.")
        text = path.read_bytes()
    else:
        shipped = resources.files("animatic_training") / "configs"
        file = shipped / f"{name_or_path}.toml"
        if not file.is_file():
            names = sorted(f.name[:-5] for f in shipped.iterdir() if f.name.endswith(".toml"))
            raise ConfigError(
                f"There is no configuration named {name_or_path!r}: give one of {names} "
                "or the path of a .toml file."
            )
        text = file.read_bytes()
    try:
        config = msgspec.toml.decode(text, type=Config)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ConfigError(f"The configuration {name_or_path} is not valid: {error}.") from error
    _check(config)
    return config


def _check(config: Config) -> None:
    for problem in _problems(config):
        raise ConfigError(f"The configuration contradicts itself: {problem}.")


def _problems(config: Config) -> Iterator[str]:
    vae, clip = config.vae, config.clip
    if vae.spatial_factor != SPATIAL_FACTOR:
        yield f"the VAE's spatial factor is {SPATIAL_FACTOR} by construction"
    if clip.width % SPATIAL_FACTOR or clip.height % SPATIAL_FACTOR:
        yield f"the clip's {clip.width}x{clip.height} pixels must be multiples of {SPATIAL_FACTOR}"
    if clip.fps != NATIVE_FPS:
        yield (
            f"the world moves at {NATIVE_FPS} frames a second whatever the clip says, so its fps "
            f"cannot be {clip.fps}"
        )
    if (clip.frames - 1) % vae.temporal_factor:
        yield (
            f"the clip's {clip.frames} frames must be 1 more than a multiple of the VAE's "
            f"temporal factor {vae.temporal_factor}"
        )
    a, b, c, d = vae.widths
    pairs = {
        "12 * temporal_factor by widths[0], both ways": (12 * vae.temporal_factor, a),
        "4 * widths[0] by widths[1]": (4 * a, b),
        "4 * widths[1] by widths[2]": (4 * b, c),
        "4 * widths[2] by widths[3]": (4 * c, d),
        "widths[3] by latent_channels": (d, vae.latent_channels),
    }
    for words, (whole, part) in pairs.items():
        if whole % part:
            yield f"the VAE's shortcuts must divide {words}"
    if config.denoiser.width % config.denoiser.heads:
        yield "the denoiser's width must be a multiple of its heads"
    sigmas = config.distill.sigmas
    if len(sigmas) != len(config.distill.teacher_substeps):
        yield "the distillation needs one number of teacher substeps for each sigma"
    if sigmas[:1] != (1.0,) or any(a <= b for a, b in pairwise([*sigmas, 0.0])):
        yield "the distillation's sigmas must descend from 1 and stay above 0"
    stages = (config.vae_training, config.probe, config.train, config.distill)
    if any(stage.minutes <= 0 or stage.batch < 1 for stage in stages):
        yield "every stage needs minutes above 0 and a batch of at least 1"
    if max(config.vae_training.batch, config.probe.batch) > config.data.clips_per_shard:
        yield "a shard must hold at least one batch of the VAE and of the probe"
