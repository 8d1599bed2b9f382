"""Few-step sampling of a rectified flow: the schedules of the families and the two update rules.

    x_t = (1 - σ) x0 + σ ε        the model predicts the velocity v = ε - x0, so x0 = x_t - σ v

euler      x = x + (σ' - σ) v                  deterministic
renoise    x = (1 - σ') (x - σ v) + σ' ε_new   with noise that was never used before

Both end at σ' = 0, where they give x0. The arithmetic is float64 and its results float32: late
steps take the difference of nearly equal numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from animatic.bundle import SamplerSpec

    Latents = npt.NDArray[np.float32]

__all__ = [
    "FASTWAN",
    "LIGHTX2V",
    "LTX2",
    "LTX2_STAGE_2",
    "LTX_PASS_1",
    "LTX_PASS_2",
    "RCM",
    "SELF_FORCING",
    "Sampler",
    "shift",
]


def shift(sigma: float, k: float) -> float:
    """Move a noise level towards 1, as larger pictures need: k σ / (1 + (k - 1) σ)."""
    return k * sigma / (1 + (k - 1) * sigma)


def _nearest(timesteps: tuple[float, ...], k: float) -> tuple[float, ...]:
    """Find the noise levels nearest to timesteps on a grid of 1000 levels shifted by k."""
    grid = [shift(step / 1000, k) for step in range(1, 1001)]
    return tuple(min(grid, key=lambda sigma: abs(1000 * sigma - step)) for step in timesteps)


def _trigflow(angles: tuple[float, ...]) -> tuple[float, ...]:
    """Turn TrigFlow angles in radians into noise levels: sin / (sin + cos)."""
    return tuple(math.sin(a) / (math.sin(a) + math.cos(a)) for a in angles)


# The schedules, each without its final 0. Sources: the models' published code and configurations.
SELF_FORCING: Final = tuple(shift(sigma, 5.0) for sigma in (1.0, 0.75, 0.5, 0.25))  # re-noise
FASTWAN: Final = _nearest((1000, 757, 522), 8.0)  # re-noise; CausVid too
RCM: Final = _trigflow((math.atan(80), 1.5, 1.4, 1.0))  # re-noise; the atan is of σmax
LIGHTX2V: Final = SELF_FORCING  # the same levels, Euler
LTX_PASS_1: Final = (1.0, 0.9937, 0.9875, 0.9812, 0.975, 0.9094, 0.725)  # Euler; LTX-Video 0.9.8
LTX_PASS_2: Final = (0.9094, 0.725, 0.4219)  # Euler, after upscaling
LTX2: Final = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875)  # Euler
LTX2_STAGE_2: Final = (0.909375, 0.725, 0.421875)  # Euler


class Sampler:
    """The steps that lead from noise to latents, as a bundle describes them."""

    def __init__(self, spec: SamplerSpec) -> None:
        self._renoise = spec.kind == "renoise"
        self._timestep_scale = spec.timestep_scale
        self.sigmas: Final = spec.sigmas

    def __len__(self) -> int:
        """How many steps there are; the denoiser is called once for each."""
        return len(self.sigmas)

    def start(self, noise: Latents) -> Latents:
        """Scale noise to the first noise level, where the steps begin (rCM's is below 1).

        noise: standard normal, any shape.
        """
        return (self.sigmas[0] * noise.astype(np.float64)).astype(np.float32)

    def timestep(self, step: int) -> float:
        """Say what the denoiser is told at a step: the noise level on the model's own scale."""
        return self._timestep_scale * self.sigmas[step]

    def step(
        self, step: int, x: Latents, velocity: Latents, fresh: Callable[[], Latents]
    ) -> Latents:
        """Take a step; the latents after the last one are clean.

        x, velocity: of one shape, at the noise level sigmas[step].
        fresh: gives standard normal noise of that shape; called only where a step re-noises.
        """
        sigma = self.sigmas[step]
        following = self.sigmas[step + 1] if step + 1 < len(self.sigmas) else 0.0
        x64, v64 = x.astype(np.float64), velocity.astype(np.float64)
        if not self._renoise:
            return (x64 + (following - sigma) * v64).astype(np.float32)
        clean = x64 - sigma * v64
        if following:
            clean = (1 - following) * clean + following * fresh().astype(np.float64)
        return clean.astype(np.float32)
