"""A training run small enough for a test: 9 frames of 32x32, a clock that ticks by itself."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence

TOML = """
compile = false

[clip]
width = 32
height = 32
frames = 9
fps = 8

[data]
seed = 5
shards = 2
clips_per_shard = 8
held_out_shards = 1

[vae]
spatial_factor = 16
temporal_factor = 4
latent_channels = 8
widths = [48, 48, 48, 48]

[vae_training]
minutes = 0.04
batch = 4
learning_rate = 5e-3
kl_weight = 1e-4

[probe]
minutes = 0.02
batch = 4
learning_rate = 2e-3

[denoiser]
width = 32
depth = 2
heads = 2
text_width = 384
text_queries = 2

[train]
minutes = 0.06
batch = 8
max_tokens = 12
learning_rate = 5e-3
adam_learning_rate = 5e-3
text_dropout = 0.1
keyframe_share = 0.15
timestep_shift = 2.0
ema = 0.9

[distill]
minutes = 0.01
batch = 2
sigmas = [1.0, 0.625]
guidance = 2.0
teacher_substeps = [1, 2]
learning_rate = 5e-4
adam_learning_rate = 2e-4
ema = 0.9
"""


class Clock:
    """Stands in for the module `time`: every look at it takes `tick` seconds."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now = 0.0
        self.tick = tick

    def monotonic(self) -> float:
        self.now += self.tick
        return self.now


class WordEncoder:
    """Stands in for `CaptionEncoder`: every word has a state of its own, whatever its context."""

    def __init__(self, max_tokens: int, device: torch.device) -> None:
        self.max_tokens = max_tokens
        self.device = device

    def __call__(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        states = torch.zeros(len(captions), self.max_tokens, 384)
        mask = torch.zeros(len(captions), self.max_tokens, dtype=torch.bool)
        for row, caption in enumerate(captions):
            for column, word in enumerate(["[CLS]", *caption.split()][: self.max_tokens]):
                generator = torch.Generator().manual_seed(zlib.crc32(word.encode()))
                states[row, column] = torch.randn(384, generator=generator)
                mask[row, column] = True
        return states.to(self.device), mask.to(self.device)


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
