"""Distil the guided many-step teacher into a few Euler steps without guidance.

The student's noise levels cut the teacher's path into windows. In each window the guided teacher
takes several Euler steps; the student, at the window's start, learns the one straight velocity
that lands where the teacher did (piecewise rectified flow, PeRFlow, arXiv:2405.07510). The path
starts at pure noise and no clip of the data is needed. Every window starts at a point of the
teacher's, not where the student's own steps led: only the first is just what the student will see
when it samples, and its later errors are not trained against.
"""

from __future__ import annotations

import copy
import logging
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from animatic_training.budget import Budget, seed_noise
from animatic_training.muon import optimisers, set_rates
from animatic_training.sampling import GuidedVelocity, euler
from animatic_training.text import CaptionEncoder
from animatic_training.train_denoiser import Ema, block_matrices
from animatic_training.world.attributes import sample_attributes
from animatic_training.world.captions import write_caption

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from animatic_export.blockout.denoiser import Denoiser
    from animatic_training.config import Config

log = logging.getLogger("animatic_training")


class _Objective(nn.Module):
    def __init__(self, student: Denoiser) -> None:
        super().__init__()
        self.student = student

    def forward(
        self, latents: Tensor, sigma: Tensor, states: Tensor, mask: Tensor, target: Tensor
    ) -> Tensor:
        times = (1000 * sigma).expand(len(latents), latents.shape[2])
        with torch.autocast(latents.device.type, dtype=torch.bfloat16):
            velocity = self.student(latents, times, states, mask)
        return F.mse_loss(velocity.float(), target)


class Lesson(NamedTuple):
    """One step of the student: where it stands, for which prompts, and where it must go."""

    window: int
    sigma: float
    latents: Tensor  # float32 [B, C, T, h, w] on the teacher's path
    states: Tensor  # float32 [B, L, 384]
    mask: Tensor  # bool [B, L]
    velocity: Tensor  # shaped as the latents: straight to where the teacher lands


def lessons(
    config: Config, teacher: Denoiser, encoder: CaptionEncoder, rng: np.random.Generator
) -> Iterator[Lesson]:
    """Walk the guided teacher from noise to clips, batch after batch; a lesson each window."""
    settings = config.distill
    # The teacher takes ten steps, each for two prompts, for four of the student.
    compiled = torch.compile(teacher.velocity, disable=not config.compile)
    while True:
        captions = [write_caption(sample_attributes(rng), rng) for _ in range(settings.batch)]
        velocity = GuidedVelocity(teacher, encoder, captions, settings.guidance, velocity=compiled)
        states, mask = encoder(captions)
        latents = torch.randn(settings.batch, *config.latent_shape, device=states.device)
        for window, (start, end) in enumerate(pairwise([*settings.sigmas, 0.0])):
            levels = np.linspace(start, end, settings.teacher_substeps[window] + 1).tolist()
            landed = euler(velocity, latents, levels)
            straight = (latents - landed) / (start - end)
            yield Lesson(window, start, latents, states, mask, straight)
            latents = landed


def distill(config: Config, teacher: Denoiser, run: Path, device: torch.device) -> Denoiser:
    """Train the student for the configured minutes, resuming from `run/student.pt`."""
    torch.manual_seed(config.data.seed + 4)
    settings = config.distill
    student = copy.deepcopy(teacher).train()
    objective = _Objective(student)
    ema = Ema(student, settings.ema)
    optimiser_list = optimisers(
        student,
        muon_rate=settings.learning_rate,
        adam_rate=settings.adam_learning_rate,
        matrices=block_matrices(student),
    )
    budget = Budget(settings.minutes)
    path = run / "student.pt"
    budget.keep(path, {"student": student, "ema": ema.module}, optimiser_list)
    if budget.done:
        return ema.module
    seed_noise(config.data.seed, 4, budget.step)
    rng = np.random.default_rng((config.data.seed, 4, budget.step))
    encoder = CaptionEncoder(config.train.max_tokens, device)
    step_loss = torch.compile(objective, disable=not config.compile)
    walk = lessons(config, teacher, encoder, rng)
    for step, lesson in zip(budget, walk, strict=False):
        sigma = torch.tensor(lesson.sigma, device=device)
        loss = step_loss(lesson.latents, sigma, lesson.states, lesson.mask, lesson.velocity)
        set_rates(optimiser_list, budget.rate())
        student.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for optimiser in optimiser_list:
            optimiser.step()
        ema.update(student, step)
        budget.note(**{f"window{lesson.window}": loss.item()})
    return ema.module
