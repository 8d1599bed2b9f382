"""Distribution matching without a GAN (DMD2, arXiv:2405.14867, as in Self-Forcing and FastVideo).

The student makes a clip as it will when it samples: from noise, by its own few Euler steps, up to
one of them (backward simulation). There its clip is noised again, and two networks say which way
to clean it: the guided teacher, and a critic that is trained beside on the student's clips. Where
they disagree, the student's clips are unlike the teacher's, and the difference is their gradient.
A step of any schedule makes a whole clip, so one student serves schedules of 4, 2 and 1 steps.
"""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING

import torch

from animatic_training.arithmetic import autocast
from animatic_training.learner import Ema, Learner, block_matrices, compile_blocks
from animatic_training.objective import draw_level, made_weights, shifted
from animatic_training.perflow import draw_schedule
from animatic_training.sampling import guided, level_of, start

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from torch import Tensor, nn

    from animatic_export.blockout.window import WindowDenoiser
    from animatic_training.batches import Batch
    from animatic_training.config import Config

RENOISED = (0.02, 0.98)
"""Noise levels, before their shift, at which teacher and critic are asked (as in DMD2)."""


class DistributionMatching:
    """Student, critic and teacher."""

    def __init__(self, config: Config, teacher: WindowDenoiser) -> None:
        self.settings = settings = config.distill
        self.shift = config.train.timestep_shift
        self.teacher = teacher
        self.student = copy.deepcopy(teacher).requires_grad_().train()
        self.critic = copy.deepcopy(teacher).requires_grad_().train()
        self.ema = Ema(self.student, settings.ema)
        self.learner, self.critic_learner = (
            Learner(
                network,
                block_matrices(network),
                muon_rate=settings.learning_rate * factor,
                adam_rate=settings.adam_learning_rate * factor,
            )
            for network, factor in ((self.student, 1.0), (self.critic, settings.critic_rate))
        )

    def modules(self) -> Mapping[str, nn.Module]:
        """Student, its average, and the critic."""
        return {"student": self.student, "ema": self.ema.module, "critic": self.critic}

    def optimisers(self) -> Sequence[torch.optim.Optimizer]:
        """Those of student and critic."""
        return [*self.learner.optimisers, *self.critic_learner.optimisers]

    def compile(self) -> None:
        """Compile the blocks of all three networks."""
        for network in (self.teacher, self.student, self.critic):
            compile_blocks(network)

    def step(
        self, batch: Batch, rng: np.random.Generator, step: int, rate: float
    ) -> dict[str, Tensor]:
        """Train the critic on the student's clips, then the student by their difference."""
        critic = torch.zeros(())
        for _ in range(self.settings.critic_steps):
            with torch.no_grad():
                clip = self.make(batch, *self._drawn(rng))
            critic = self.critic_loss(batch, clip)
            self.critic_learner.step(critic, rate)
        student = self.student_loss(batch, self.make(batch, *self._drawn(rng)))
        self.learner.step(student, rate)
        self.ema.update(self.student, step)
        return {"critic": critic.detach(), "student": student.detach()}

    def _drawn(self, rng: np.random.Generator) -> tuple[tuple[float, ...], int]:
        schedule = self.settings.schedules[draw_schedule(rng, self.settings.schedule_shares)]
        return schedule, int(rng.integers(len(schedule)))

    def make(self, batch: Batch, schedule: Sequence[float], last: int) -> Tensor:
        """Return the student's clip [B, C, T, h, w] at one step of a schedule.

        The steps before it are taken as the runtime takes them; only this one has a gradient.
        """
        window = batch.window
        latents = start(window, torch.randn_like(window.latents))
        for now, following in itertools.pairwise(schedule[: last + 1]):
            with torch.no_grad():
                slope = self._velocity(self.student, batch, latents, level_of(window, now))
            latents = window.keep(latents + (following - now) * slope)
        sigma = schedule[last]
        slope = self._velocity(self.student, batch, latents, level_of(window, sigma))
        return window.keep(latents - sigma * slope)

    def _velocity(
        self, network: WindowDenoiser, batch: Batch, latents: Tensor, sigma: Tensor
    ) -> Tensor:
        with autocast(latents.device):
            velocity = network(
                latents, 1000 * sigma, batch.window.positions, batch.states, batch.mask
            )
        return velocity.float()

    def _noised(self, batch: Batch, clip: Tensor, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the clip noised where it is made, the noise, and the levels [B, T]."""
        noise = torch.randn_like(clip)
        sigma = batch.window.sigma(level)
        wide = sigma[:, None, :, None, None]
        return batch.window.keep((1 - wide) * clip + wide * noise), noise, sigma

    def critic_loss(self, batch: Batch, clip: Tensor) -> Tensor:
        """Return the critic's flow loss on a clip of the student's."""
        level = draw_level(len(clip), self.shift, clip.device)
        noisy, noise, sigma = self._noised(batch, clip, level)
        velocity = self._velocity(self.critic, batch, noisy, sigma)
        square = (velocity - (noise - clip)).square().mean(1)
        weights = made_weights(batch.window)
        return (square * weights).sum() / (weights > 0).sum()

    def student_loss(self, batch: Batch, clip: Tensor) -> Tensor:
        """Return a loss whose gradient is where critic and guided teacher would clean a clip to.

        Scaled by how far the teacher would change it, so that all noise levels count alike.
        """
        window = batch.window
        with torch.no_grad():
            low, high = RENOISED
            level = low + (high - low) * torch.rand(len(clip), 1, device=clip.device)
            level = shifted(level, self.shift)
            noisy, _, sigma = self._noised(batch, clip.detach(), level)
            wide = sigma[:, None, :, None, None]
            teacher = guided(self.teacher, batch, self.settings.guidance)
            real = noisy - wide * teacher(noisy, sigma, window.positions)
            fake = noisy - wide * self._velocity(self.critic, batch, noisy, sigma)
            made = window.made[:, None, :, None, None].float()
            change = (made * (clip - real).abs()).mean((1, 2, 3, 4), keepdim=True)
            share = made.mean((1, 2, 3, 4), keepdim=True)
            gradient = made * (fake - real) / (change / share).clamp(min=1e-4)
            target = clip - gradient
        weights = made_weights(window)
        square = (clip - target).square().mean(1)
        return 0.5 * (square * weights).sum() / (weights > 0).sum()
