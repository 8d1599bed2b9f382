"""Euler sampling of a window in torch, with classifier-free guidance: teacher and scores.

The runtime has its own sampler; this one batches prompts of different lengths and guides. What is
given stays as it is.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import torch

from animatic import schedules
from animatic_training.arithmetic import autocast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from animatic_export.blockout.window import WindowDenoiser
    from animatic_training.batches import Batch
    from animatic_training.windows import Window


def shifted_sigmas(steps: int, shift: float) -> list[float]:
    """Return `steps` noise levels from 1 downwards, without the final 0, spaced by `shift`."""
    return [schedules.shift(1 - n / steps, shift) for n in range(steps)]


class GuidedVelocity:
    """Velocity of a denoiser under classifier-free guidance for the prompts of one batch."""

    def __init__(
        self,
        denoiser: WindowDenoiser,
        prompts: tuple[Tensor, Tensor],
        free: tuple[Tensor, Tensor] | None,
        guidance: float,
    ) -> None:
        """Read the prompts: states [B, L, 384] and mask [B, L]; `free` are those of no prompt."""
        self.denoiser = denoiser
        self.guidance = 1.0 if free is None else guidance
        states, self.mask = prompts
        if free is not None and self.guidance != 1.0:
            states, self.mask = (
                torch.cat([own, none]) for own, none in zip(prompts, free, strict=True)
            )
        with torch.no_grad(), autocast(states.device):
            self.text, self.vector = denoiser.read(states, self.mask)

    @torch.no_grad()
    def __call__(self, latents: Tensor, sigma: Tensor, positions: Tensor) -> Tensor:
        """Return the velocity float32 [B, C, T, h, w] of latents at noise levels [B, T]."""
        times = 1000 * sigma
        if self.guidance != 1.0:
            latents, times, positions = (
                torch.cat([part, part]) for part in (latents, times, positions)
            )
        with autocast(latents.device):
            velocity = self.denoiser.velocity(
                latents, times, positions, self.text, self.vector, self.mask
            )
        velocity = velocity.float()
        if self.guidance == 1.0:
            return velocity
        conditional, free = velocity.chunk(2)
        return free + self.guidance * (conditional - free)


def guided(denoiser: WindowDenoiser, batch: Batch, guidance: float) -> GuidedVelocity:
    """Return the guided velocity for the captions of a training batch."""
    return GuidedVelocity(denoiser, (batch.states, batch.mask), batch.free, guidance)


def start(window: Window, noise: Tensor) -> Tensor:
    """Return pure noise in the frames that are made, and the given ones as they are."""
    return window.keep(noise)


def level_of(window: Window, sigma: float) -> Tensor:
    """Return one noise level for every frame that is made, [B, T]."""
    return window.made.float() * sigma


def euler(
    velocity: GuidedVelocity, window: Window, latents: Tensor, sigmas: Sequence[float]
) -> Tensor:
    """Integrate latents from the first noise level to the last; `sigmas` includes the end."""
    for now, following in itertools.pairwise(sigmas):
        slope = velocity(latents, level_of(window, now), window.positions)
        latents = window.keep(latents + (following - now) * slope)
    return latents
