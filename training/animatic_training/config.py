"""The training configuration: one TOML file, read once into frozen structs."""

from __future__ import annotations

from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from animatic.sentences import listed
from animatic_export.blockout.config import VaeConfig, WindowConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

SPATIAL_FACTOR: Final = 16
"""Pixels a latent cell: the VAE halves the picture four times."""
TEMPORAL_FACTOR: Final = 4
"""Frames a latent frame, but for the first, which stands for one."""
PIECE_FRAMES: Final = 25
"""Frames of a piece of a shot: 7 latent frames, a window and the one that begins a shot."""
PIECE_LATENTS: Final = 1 + (PIECE_FRAMES - 1) // TEMPORAL_FACTOR
FPS: Final = 8
"""Frames a second of the world."""
BLOCK: Final = 4
"""Latent frames that are made together."""
CONTEXT: Final = 2
"""Latent frames of what went before that a further block sees."""


class Size(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One shape of picture, in pixels, and how often it is seen."""

    width: int
    height: int
    share: float

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of latent cells."""
        return self.height // SPATIAL_FACTOR, self.width // SPATIAL_FACTOR

    @property
    def aspect(self) -> float:
        """Width by height."""
        return self.width / self.height


class DataConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rendered set: shards are numbered, and each is made from (seed, number) alone."""

    seed: int
    piece_shards: int
    pieces_per_shard: int
    still_shards: int
    """Of single pictures: cheap, and all of a shot but its motion is learnt from them. 0: the
    pieces' own pictures do, three of each."""
    stills_per_shard: int
    pixel_shards: int
    """The first so many shards of pieces are also kept as pixels: the VAE and the probe learn
    from them."""
    held_out_shards: int
    """Further shards of pieces, of held-out combinations, kept as pixels: what scores are read
    from."""
    mirrored: bool
    """Whether mirror images are learnt from too: they need no rendering, but encoding."""
    captions: int
    """Written for every piece and still, and as many for its mirror image."""
    begin_share: float
    """Of pieces that begin their shot; the others start anywhere up to `latest_start`."""
    latest_start: float
    """Seconds."""


class VaeTraining(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the VAE is trained: on crops of `crop` x `crop` pixels and `frames` frames."""

    minutes: float
    batch: int
    crop: int
    frames: int
    learning_rate: float
    kl_weight: float


class ProbeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The classifier that scores clips."""

    minutes: float
    batch: int
    learning_rate: float


class DenoiserShape(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size of the denoiser."""

    width: int
    depth: int
    heads: int
    text_width: int
    text_queries: int


class ReadingConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the prompt's pool learns to read captions, before the first picture (see `reading`)."""

    captions: int
    """How many are encoded for it."""
    steps: int
    """Few enough that the captions are not learnt by heart."""
    batch: int
    learning_rate: float


class Patterns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a batch shows each pattern of given and made latent frames (see `windows`)."""

    plain: float
    further: float
    first: float
    before: float
    join: float


class TrainConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rectified-flow training of the teacher: first on single pictures, then on windows."""

    still_minutes: float
    still_batch: int
    minutes: float
    batch: int
    views: int
    """Windows of one pattern, with noise of their own, that are cut from each piece of a batch:
    their caption is encoded once."""
    learning_rate: float
    """Of Muon, on the blocks' matrices."""
    adam_learning_rate: float
    """Of AdamW, on everything else."""
    text_dropout: float
    timestep_shift: float
    token_share: float
    """Of each latent frame's tokens that are looked at in the first three quarters of a phase."""
    subject_weight: float
    """What a cell that the subject fills counts beside one without, less 1."""
    ema: float
    still_share: float
    """Of batches whose windows also hold one or two stills."""
    patterns: Patterns


class DistillConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Distillation of the guided teacher into few steps without guidance."""

    method: Literal["dmd", "perflow"]
    """The one whose student is released; `--method` trains the other."""
    minutes: float
    batch: int
    guidance: float
    """Weight of classifier-free guidance in the teacher; 1 is none."""
    schedules: tuple[tuple[float, ...], ...]
    """Noise levels of the student's steps, descending from 1, the usual schedule first; the last
    step of each ends at 0."""
    schedule_shares: tuple[float, ...]
    """How often each is trained."""
    teacher_substeps: tuple[int, ...]
    """perflow: Euler steps of the teacher within each step of the usual schedule; the other
    schedules use levels of that walk."""
    critic_steps: int
    """dmd: steps of the network that scores the student's clips, for each of the student's."""
    learning_rate: float
    adam_learning_rate: float
    critic_rate: float
    """dmd: learning rates of the critic, relative to the student's."""
    ema: float


class ScoreConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many prompts the scores are read from."""

    prompts: int
    shots: int
    """Prompts of long shots, loops and given pictures, each of which costs several clips."""
    teacher_steps: int


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One version of Blockout."""

    compile: bool
    """Whether networks go through torch.compile (needs a C++ compiler)."""
    init: Literal["nothing", "bundle"]
    """What the VAE begins as: random, or the built-in model's. The denoiser always begins random:
    version 0's trunk was ahead for three minutes and then in the way (docs/log.md)."""
    text_max_tokens: int
    """Captions are padded (and would be cut) to this many tokens."""
    sizes: tuple[Size, ...]
    """The first is the default."""
    data: DataConfig
    vae: VaeConfig
    vae_training: VaeTraining
    probe: ProbeConfig
    denoiser: DenoiserShape
    reading: ReadingConfig
    train: TrainConfig
    distill: DistillConfig
    score: ScoreConfig

    @property
    def window(self) -> WindowConfig:
        """The denoiser's whole shape."""
        shape = self.denoiser
        return WindowConfig(
            latent_channels=self.vae.latent_channels,
            width=shape.width,
            depth=shape.depth,
            heads=shape.heads,
            text_width=shape.text_width,
            text_queries=shape.text_queries,
        )


class ConfigError(Exception):
    """The configuration cannot be read; the message says where it is wrong."""


def load_config(name_or_path: str) -> Config:
    """Read a shipped configuration by name (``v1``) or any TOML file by path."""
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
                f"There is no configuration named {name_or_path!r}: give {listed(names)}, or the "
                "path of a .toml file."
            )
        text = file.read_bytes()
    try:
        config = msgspec.toml.decode(text, type=Config)
    except (msgspec.ValidationError, msgspec.DecodeError) as error:
        raise ConfigError(f"The configuration {name_or_path} is not valid: {error}.") from error
    for problem in (*_picture_problems(config), *_stage_problems(config)):
        raise ConfigError(f"The configuration contradicts itself: {problem}.")
    return config


def _picture_problems(config: Config) -> Iterator[str]:
    vae = config.vae
    if vae.spatial_factor != SPATIAL_FACTOR or vae.temporal_factor != TEMPORAL_FACTOR:
        yield f"the VAE's factors are {SPATIAL_FACTOR} and {TEMPORAL_FACTOR} by construction"
    if not config.sizes or any(size.share <= 0 for size in config.sizes):
        yield "there must be at least one size, and every share must be above 0"
    for size in config.sizes:
        if size.width % SPATIAL_FACTOR or size.height % SPATIAL_FACTOR:
            yield f"{size.width}x{size.height} pixels must be multiples of {SPATIAL_FACTOR}"
        if config.vae_training.crop > min(size.width, size.height):
            yield f"a crop of {config.vae_training.crop} does not fit {size.width}x{size.height}"
    if config.vae_training.crop % SPATIAL_FACTOR:
        yield f"the VAE's crop must be a multiple of {SPATIAL_FACTOR}"
    frames = config.vae_training.frames
    if (frames - 1) % TEMPORAL_FACTOR or not 1 < frames <= PIECE_FRAMES:
        yield f"the VAE's frames must be 1 more than a multiple of 4, and at most {PIECE_FRAMES}"
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


def _stage_problems(config: Config) -> Iterator[str]:
    data, distill, train = config.data, config.distill, config.train
    if config.denoiser.width % config.denoiser.heads:
        yield "the denoiser's width must be a multiple of its heads"
    for schedule in distill.schedules:
        if schedule[:1] != (1.0,) or any(a <= b for a, b in pairwise([*schedule, 0.0])):
            yield "the distillation's schedules must descend from 1 and stay above 0"
    if not distill.schedules or len(distill.schedules) != len(distill.schedule_shares):
        yield "the distillation needs one share for each schedule"
    elif len(distill.schedules[0]) != len(distill.teacher_substeps):
        yield "the distillation needs one number of teacher substeps for each usual sigma"
    minutes = (train.still_minutes, train.minutes, distill.minutes, config.probe.minutes)
    batches = (train.still_batch, train.batch, distill.batch, config.probe.batch)
    if min(*minutes, config.vae_training.minutes) <= 0:
        yield "every stage needs minutes above 0"
    divided = train.views > 0 and not (train.batch % train.views or train.still_batch % train.views)
    if min(*batches, config.vae_training.batch) < 1 or not divided:
        yield "every batch needs at least 1, and the views must divide the denoiser's batches"
    if not 0 < train.token_share <= 1:
        yield "the share of tokens must be above 0 and at most 1"
    if not 0 < data.pixel_shards <= data.piece_shards or data.held_out_shards < 1:
        yield "some shards must be kept as pixels, no more than there are, and one be held out"
