"""Piecewise rectified flow (PeRFlow, arXiv:2405.07510) on the guided teacher's own paths.

A schedule's noise levels cut the teacher's path into pieces. In each the guided teacher takes
several Euler steps; the student, at the piece's start, learns the one straight velocity that lands
where the teacher did. Every piece starts at a point of the teacher's path, not where the student's
own steps led: its later errors are not trained against. Schedules of fewer steps use the levels of
the same walk; at the levels that schedules share the student learns what is best for both.
"""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from animatic_training.arithmetic import autocast
from animatic_training.learner import Ema, Learner, block_matrices, compile_blocks
from animatic_training.objective import made_weights
from animatic_training.sampling import GuidedVelocity, euler, guided, level_of, start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from animatic_export.blockout.window import WindowDenoiser
    from animatic_training.batches import Batch
    from animatic_training.config import Config
    from animatic_training.windows import Window


class Lesson(NamedTuple):
    """One step of the student: where it stands, and the velocity that leads where it must go."""

    sigma: float
    latents: Tensor
    """float32 [B, C, T, h, w] on the teacher's path."""
    velocity: Tensor
    """Shaped as the latents: straight to where the teacher lands."""


def teacher_levels(sigmas: Sequence[float], substeps: Sequence[int]) -> list[float]:
    """Return the noise levels of the teacher's walk, the final 0 included."""
    levels = [1.0]
    for (a, b), count in zip(itertools.pairwise([*sigmas, 0.0]), substeps, strict=True):
        levels += np.linspace(a, b, count + 1)[1:].tolist()
    return levels


def walk(
    velocity: GuidedVelocity, window: Window, noise: Tensor, levels: Sequence[float]
) -> dict[float, Tensor]:
    """Return where the teacher is at each level, from noise to the clip."""
    places = {levels[0]: start(window, noise)}
    for pair in itertools.pairwise(levels):
        places[pair[1]] = euler(velocity, window, places[pair[0]], pair)
    return places


def lessons(places: Mapping[float, Tensor], schedule: Sequence[float]) -> Iterator[Lesson]:
    """Yield the lessons of a schedule; between its levels stand the teacher's nearest."""
    known = np.array(list(places))
    near = [float(known[np.abs(known - sigma).argmin()]) for sigma in (*schedule, 0.0)]
    for begin, end in itertools.pairwise(near):
        straight = (places[begin] - places[end]) / (begin - end)
        yield Lesson(begin, places[begin], straight)


class PiecewiseFlow:
    """The student and its teacher."""

    def __init__(self, config: Config, teacher: WindowDenoiser) -> None:
        self.settings = config.distill
        self.teacher = teacher
        self.student = copy.deepcopy(teacher).requires_grad_().train()
        self.ema = Ema(self.student, self.settings.ema)
        self.learner = Learner(
            self.student,
            block_matrices(self.student),
            muon_rate=self.settings.learning_rate,
            adam_rate=self.settings.adam_learning_rate,
        )

    def modules(self) -> Mapping[str, nn.Module]:
        """Student and its average."""
        return {"student": self.student, "ema": self.ema.module}

    def optimisers(self) -> Sequence[torch.optim.Optimizer]:
        """Those of the student."""
        return self.learner.optimisers

    def compile(self) -> None:
        """Compile both networks' blocks."""
        compile_blocks(self.teacher)
        compile_blocks(self.student)

    def step(
        self, batch: Batch, rng: np.random.Generator, step: int, rate: float
    ) -> dict[str, Tensor]:
        """Walk the teacher once, and learn every step of one schedule from it."""
        settings = self.settings
        chosen = settings.schedules[draw_schedule(rng, settings.schedule_shares)]
        velocity = guided(self.teacher, batch, settings.guidance)
        levels = teacher_levels(settings.schedules[0], settings.teacher_substeps)
        places = walk(velocity, batch.window, torch.randn_like(batch.window.latents), levels)
        figures = {}
        for lesson in lessons(places, chosen):
            loss = self.loss(batch, lesson)
            self.learner.step(loss, rate)
            self.ema.update(self.student, step)
            figures[f"steps{len(chosen)}_{lesson.sigma:.2f}"] = loss.detach()
        return figures

    def loss(self, batch: Batch, lesson: Lesson) -> Tensor:
        """Return the student's mean squared error over the frames that are made."""
        window = batch.window
        times = 1000 * level_of(window, lesson.sigma)
        with autocast(lesson.latents.device):
            velocity = self.student(
                lesson.latents, times, window.positions, batch.states, batch.mask
            )
        weights = made_weights(window)
        square = (velocity.float() - lesson.velocity).square().mean(1)
        return (square * weights).sum() / (weights > 0).sum()


def draw_schedule(rng: np.random.Generator, shares: Sequence[float]) -> int:
    """Draw which schedule a step trains."""
    return int(rng.choice(len(shares), p=np.array(shares) / sum(shares)))
