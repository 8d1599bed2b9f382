"""A training run small enough for a test: pieces of 64x32, a clock that ticks by itself."""

from __future__ import annotations

import zlib
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from animatic_training.config import PIECE_LATENTS, load_config
from animatic_training.latents import LatentSet
from animatic_training.text import CaptionEncoder
from animatic_training.world.attributes import sample_attributes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from animatic_training.config import Config

TOML = """
compile = false
init = "nothing"
text_max_tokens = 12

[[sizes]]
width = 64
height = 32
share = 0.6

[[sizes]]
width = 48
height = 48
share = 0.4

[data]
seed = 5
piece_shards = 3
pieces_per_shard = 6
still_shards = 2
stills_per_shard = 12
pixel_shards = 2
held_out_shards = 1
mirrored = true
captions = 2
begin_share = 0.6
latest_start = 8.0

[vae]
spatial_factor = 16
temporal_factor = 4
latent_channels = 8
widths = [48, 48, 48, 48]

[vae_training]
minutes = 0.02
batch = 2
crop = 32
frames = 9
learning_rate = 5e-3
kl_weight = 1e-4

[probe]
minutes = 0.004
batch = 2
learning_rate = 2e-3

[denoiser]
width = 48
depth = 2
heads = 2
text_width = 384
text_queries = 2

[train]
still_minutes = 0.025
still_batch = 8
minutes = 0.03
batch = 8
views = 2
learning_rate = 5e-3
adam_learning_rate = 5e-3
text_dropout = 0.1
timestep_shift = 2.0
subject_weight = 4.0
ema = 0.9
still_share = 0.3

[train.patterns]
plain = 0.4
further = 0.25
first = 0.1
before = 0.1
join = 0.15

[distill]
method = "dmd"
minutes = 0.01
batch = 2
guidance = 2.0
schedules = [[1.0, 0.625], [1.0]]
schedule_shares = [0.7, 0.3]
teacher_substeps = [1, 2]
critic_steps = 1
learning_rate = 5e-4
adam_learning_rate = 2e-4
critic_rate = 1.0
ema = 0.9

[score]
prompts = 2
shots = 1
teacher_steps = 2
"""


class Clock:
    """Stands in for the module `time`: every look at it takes `tick` seconds."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now = 0.0
        self.tick = tick

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now


class WordEncoder(CaptionEncoder):
    """Stands in for `CaptionEncoder`: every word has a state of its own, whatever its context."""

    def __init__(self, max_tokens: int, device: torch.device) -> None:
        self.max_tokens = max_tokens
        self.device = device
        self.empty = self.tokens([""])[0]
        table = torch.randn(4096, 384, generator=torch.Generator().manual_seed(0))
        self.table = table.to(device)

    def tokens(self, captions: Sequence[str]) -> np.ndarray:
        ids = np.zeros((len(captions), self.max_tokens), np.int32)
        for row, caption in enumerate(captions):
            words = ["[CLS]", *caption.split()][: self.max_tokens]
            ids[row, : len(words)] = [1 + zlib.crc32(word.encode()) % 4095 for word in words]
        return ids

    def encode(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        ids = ids.to(self.device)
        return self.table[ids.long()], ids != 0


class InTurn(Executor):
    """Stands in for a pool of processes: every job is done at once, here."""

    def submit(self, job: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(job(*arguments, **named))
        return done


def read_toml(folder: Path, text: str = TOML) -> Config:
    """Write a configuration and load it."""
    path = folder / "toy.toml"
    path.write_text(text)
    return load_config(str(path))


def latent_set(config: Config, count: int = 12, *, kind: str = "piece") -> LatentSet:
    """Return latents of nothing in particular; every other piece begins its shot."""
    generator = torch.Generator().manual_seed(count)
    frames, stills = (PIECE_LATENTS, 2) if kind == "piece" else (1, 0)
    channels, (rows, columns) = config.vae.latent_channels, config.sizes[0].grid

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, rows, columns, generator=generator).half()

    rng = np.random.default_rng(count)
    labels = np.stack([sample_attributes(rng).labels() for _ in range(count)])
    captions = [f"caption {n} of {kind}" for n in range(2 * count)]
    tokens = WordEncoder(config.text_max_tokens, torch.device("cpu")).tokens(captions)
    return LatentSet(
        latents=normal(channels, frames),
        shares=torch.rand(count, frames, rows, columns, generator=generator).half(),
        labels=torch.from_numpy(labels),
        starts=torch.arange(count).float() % 2,
        tokens=torch.from_numpy(tokens).unflatten(0, (count, 2)),
        stills=normal(stills, channels),
        still_frames=torch.tensor([[7, 20][:stills]]).expand(count, -1),
    )


@torch.no_grad()
def shake(module: nn.Module, seed: int = 0) -> None:
    """Give every parameter a random value: fresh networks hold zeros that hide their branches."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        fan = parameter[0].numel() if parameter.dim() > 1 else 16
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan**-0.5)


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    """Assert equality but for rounding, which the size of a batch may change."""
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
