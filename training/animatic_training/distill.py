"""Distil the guided many-step teacher into a few Euler steps without guidance.

Two methods behind one interface, compared by the scores: piecewise rectified flow (`perflow`) and
distribution matching (`dmd`). Both begin with the teacher, see the windows that it was trained on,
given frames and stills included, and train one student for every schedule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import torch

from animatic_training.budget import Budget, longest_step, never, seed_noise
from animatic_training.dmd import DistributionMatching
from animatic_training.perflow import PiecewiseFlow
from animatic_training.train_denoiser import draw_pattern_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from animatic_export.blockout.window import WindowDenoiser
    from animatic_training.batches import Batch, Batches
    from animatic_training.config import Config

STREAM: Final = 4
"""Of random numbers; every stage has its own."""


class Method(Protocol):
    """A way to train a student."""

    def modules(self) -> Mapping[str, nn.Module]:
        """Everything that a checkpoint keeps; "ema" is the student that is released."""

    def optimisers(self) -> Sequence[torch.optim.Optimizer]:
        """Everything else that it keeps."""

    def compile(self) -> None:
        """Compile what is run often."""

    def step(
        self, batch: Batch, rng: np.random.Generator, step: int, rate: float
    ) -> dict[str, Tensor]:
        """Learn from one batch, at a share of the learning rates; return figures to note."""


METHODS: Final[Mapping[str, Callable[[Config, WindowDenoiser], Method]]] = {
    "dmd": DistributionMatching,
    "perflow": PiecewiseFlow,
}


def student_file(method: str) -> str:
    """Return the name of a method's checkpoint in a run's folder."""
    return f"student-{method}.pt"


def distil(
    config: Config,
    method: str,
    teacher: WindowDenoiser,
    batches: Batches,
    run: Path,
    *,
    stop: Callable[[], bool] = never,
) -> None:
    """Train a method's student for the configured minutes, resuming from its checkpoint."""
    torch.manual_seed(config.data.seed + STREAM)
    made = METHODS[method](config, teacher)
    device = teacher.begin.device
    budget = Budget(config.distill.minutes, stop=stop, longest=longest_step(device))
    budget.keep(run / student_file(method), made.modules(), made.optimisers())
    if budget.done:
        return
    if config.compile:
        made.compile()
    for step in budget:
        rng = np.random.default_rng((config.data.seed, STREAM, step))
        pattern, stills = draw_pattern_of(config, rng)
        batch = batches.draw(rng, config.distill.batch, pattern, stills)
        seed_noise(config.data.seed, STREAM, step)
        budget.note(**made.step(batch, rng, step, budget.rate()))
