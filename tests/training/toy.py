"""A training run small enough for a test: pieces of 64x32, a clock that ticks by itself."""

from __future__ import annotations

import zlib
from concurrent.futures import Executor, Future
from importlib import resources
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

TOML = (resources.files("animatic_training") / "configs" / "toy.toml").read_text("utf-8")


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
