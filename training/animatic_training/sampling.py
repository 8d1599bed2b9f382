"""Euler sampling of the denoiser in torch, with classifier-free guidance: teacher and scores.

The runtime has its own sampler; this one batches prompts of different lengths and guides.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from animatic import schedules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from animatic_export.blockout.denoiser import Denoiser
    from animatic_training.text import CaptionEncoder


@dataclass(frozen=True)
class Prompts:
    """Encoded prompts of a batch, read once by a denoiser."""

    text: Tensor
    vector: Tensor
    mask: Tensor


def shifted_sigmas(steps: int, shift: float) -> list[float]:
    """Return `steps` noise levels from 1 downwards, without the final 0, spaced by `shift`."""
    return [schedules.shift(1 - n / steps, shift) for n in range(steps)]


class GuidedVelocity:
    """Velocity of a denoiser under classifier-free guidance for one batch of prompts."""

    def __init__(
        self,
        denoiser: Denoiser,
        encoder: CaptionEncoder,
        captions: Sequence[str],
        guidance: float,
        *,
        velocity: Callable[..., Tensor] | None = None,
    ) -> None:
        """Encode and read the prompts.

        velocity: `denoiser.velocity` compiled, for whoever samples many batches of one size.
        """
        self.velocity = velocity or denoiser.velocity
        self.guidance = guidance
        wanted = list(captions) if guidance == 1.0 else [*captions, *[""] * len(captions)]
        states, mask = encoder(wanted)
        self.device = states.device
        with torch.no_grad(), torch.autocast(self.device.type, dtype=torch.bfloat16):
            text, vector = denoiser.read(states, mask)
        self.prompts = Prompts(text, vector, mask)

    @torch.no_grad()
    def __call__(self, latents: Tensor, sigma: float) -> Tensor:
        """Return the guided velocity float32 [B, C, T, h, w] of `latents` at one noise level."""
        both = latents if self.guidance == 1.0 else torch.cat([latents, latents])
        times = torch.full((len(both), latents.shape[2]), 1000 * sigma, device=self.device)
        prompts = self.prompts
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            velocity = self.velocity(both, times, prompts.text, prompts.vector, prompts.mask)
        velocity = velocity.float()
        if self.guidance == 1.0:
            return velocity
        conditional, free = velocity.chunk(2)
        return free + self.guidance * (conditional - free)


def euler(velocity: GuidedVelocity, latents: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Integrate from the first noise level to the last; `sigmas` includes the end."""
    for now, following in itertools.pairwise(sigmas):
        latents = latents + (following - now) * velocity(latents, now)
    return latents
