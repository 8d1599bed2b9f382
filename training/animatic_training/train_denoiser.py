"""Train the denoiser: first on single pictures, then on windows of shots.

Subject, colour, place, time, weather, size and angle are learnt from pictures of one latent frame,
at a sixth of a window's cost; action, camera and everything that is given from windows.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import torch

from animatic_export.blockout.window import PAIR, WindowDenoiser
from animatic_training.budget import Budget, longest_step, never, seed_noise
from animatic_training.learner import Ema, Learner, block_matrices, compile_blocks
from animatic_training.objective import FlowObjective, draw_level
from animatic_training.reading import learn_to_read
from animatic_training.windows import STILL, draw_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from animatic_training.batches import Batch, Batches
    from animatic_training.config import Config
    from animatic_training.windows import Pattern

log = logging.getLogger("animatic_training")

READER_WEIGHT: Final = 0.05
WHOLE: Final = 0.75
"""Share of a phase's minutes after which all tokens are looked at."""


@dataclass(frozen=True)
class Phase:
    """One of the two phases."""

    number: int
    """Of its stream of random numbers."""
    minutes: float
    file: str
    stills: bool
    """Whether it sees single pictures, and not windows."""


def still_phase(config: Config) -> Phase:
    """Single pictures."""
    return Phase(2, config.train.still_minutes, "stills.pt", stills=True)


def window_phase(config: Config) -> Phase:
    """Windows of shots."""
    return Phase(3, config.train.minutes, "denoiser.pt", stills=False)


def train_denoiser(
    config: Config,
    phase: Phase,
    batches: Batches,
    run: Path,
    device: torch.device,
    beginning: Mapping[str, Tensor],
    *,
    stop: Callable[[], bool] = never,
) -> WindowDenoiser:
    """Train for the phase's minutes, resuming from its file; return the average.

    `beginning`: weights to begin with (see `begin_with`), as many as there are of the right name
    and shape.
    """
    torch.manual_seed(config.data.seed + phase.number)
    settings = config.train
    denoiser = WindowDenoiser(config.window)
    objective = FlowObjective(denoiser, settings.subject_weight)
    taken = begin_with(objective, beginning)
    objective.to(device)
    begins = not (run / phase.file).exists()
    if begins and "spectrum.basis" not in taken:
        denoiser.spectrum.measure(batches.cells())
    reads = taken >= {name for name in denoiser.state_dict() if name.startswith("pool.")}
    if begins and phase.stills and not reads:
        learn_to_read(objective, batches.encoder, config.reading, config.data.seed)
    ema = Ema(denoiser, settings.ema)
    learner = Learner(
        objective,
        block_matrices(denoiser),
        muon_rate=settings.learning_rate,
        adam_rate=settings.adam_learning_rate,
    )
    budget = Budget(phase.minutes, stop=stop, longest=longest_step(device))
    budget.keep(run / phase.file, {"objective": objective, "ema": ema.module}, learner.optimisers)
    if budget.done:
        return ema.module
    if config.compile:
        compile_blocks(denoiser)
    count = sum(parameter.numel() for parameter in denoiser.parameters())
    log.info("%d pictures; %d parameters; %d weights begun with", len(batches), count, len(taken))
    for step in budget:
        batch = draw_batch(config, phase, batches, step)
        seed_noise(config.data.seed, phase.number, step)
        noise = torch.randn_like(batch.window.latents)
        level = draw_level(len(noise), settings.timestep_shift, noise.device)
        kept = draw_tokens(noise, settings.token_share) if budget.share < WHOLE else None
        flow, reading = objective(batch, noise, level, kept)
        learner.step(flow + READER_WEIGHT * reading, budget.rate())
        ema.update(denoiser, step)
        budget.note(flow=flow, reading=reading)
    return ema.module


def draw_batch(config: Config, phase: Phase, batches: Batches, step: int) -> Batch:
    """Draw the batch of a step: the same whether or not the training was stopped before it."""
    settings = config.train
    rng = np.random.default_rng((config.data.seed, phase.number, step))
    if phase.stills:
        return batches.draw(rng, settings.still_batch, STILL, views=settings.views)
    pattern, stills = draw_pattern_of(config, rng)
    return batches.draw(rng, settings.batch, pattern, stills, views=settings.views)


def draw_pattern_of(config: Config, rng: np.random.Generator) -> tuple[Pattern, tuple[int, ...]]:
    """Draw a batch's pattern, and which of each piece's stills it also holds."""
    shares = msgspec.structs.asdict(config.train.patterns)
    return draw_pattern(rng, shares, config.train.still_share)


def draw_tokens(latents: Tensor, share: float) -> Tensor | None:
    """Draw which tokens of each latent frame of [B, C, T, h, w] are looked at: int64 [T, K].

    None stands for all. Neighbours say much the same: half of them cost two thirds of a step on two
    cores and teach nearly as much (MaskDiT, arXiv:2306.09305; measured in docs/log.md).
    """
    if share >= 1:
        return None
    frames, rows, columns = latents.shape[2:]
    tokens = rows * ((columns + PAIR - 1) // PAIR)
    order = torch.rand(frames, tokens, device=latents.device).argsort(dim=1)
    return order[:, : max(1, round(share * tokens))].sort(dim=1).values


def begin_with(objective: FlowObjective, weights: Mapping[str, Tensor]) -> set[str]:
    """Take over weights whose names and shapes agree; return their names.

    Names are the denoiser's own, and the reader's after "reader.".
    """
    own = objective.denoiser.state_dict() | reader_weights(objective.state_dict())
    fitting = {n: w for n, w in weights.items() if n in own and own[n].shape == w.shape}
    with torch.no_grad():
        for name, weight in fitting.items():
            own[name].copy_(weight)
    return set(fitting)


def reader_weights(objective: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the reader's share of an objective's weights: a fresh one would pull at the pool."""
    return {name: weight for name, weight in objective.items() if name.startswith("reader.")}
