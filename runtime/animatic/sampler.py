"""Few-step sampling of a rectified flow: the rules that lead from level to level.

    x_t = (1 - σ) x0 + σ ε        the model predicts the velocity v = ε - x0, so x0 = x_t - σ v

euler      x = x + (σ' - σ) v                  deterministic
renoise    x = (1 - σ') (x - σ v) + σ' ε_new   with noise that was never used before
unipc      a multistep solver of order 2       deterministic (`animatic.unipc`)

All end at σ' = 0, where they give x0. The levels are a bundle's; `animatic.schedules` has those of
the families. The arithmetic is float64 and its results float32: late steps take the difference of
nearly equal numbers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from animatic.schedules import schedule_of
from animatic.unipc import UniPC

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from animatic.bundle import SamplerSpec

    Latents = npt.NDArray[np.float32]

__all__ = ["Sampler", "Stepper"]


class Stepper(Protocol):
    """The way of one block from noise to latents; it counts its own steps."""

    def step(self, x: Latents, velocity: Latents, fresh: Callable[[], Latents]) -> Latents:
        """Take the next step; the latents after the last one are clean.

        x, velocity: of one shape, at the noise level of this step.
        fresh: gives standard normal noise of that shape; called only where a step re-noises.
        """
        ...


class Sampler:
    """The steps that lead from noise to latents, as a bundle describes them; it never changes."""

    def __init__(self, spec: SamplerSpec, steps: int | None = None) -> None:
        """Take the usual schedule, or that of a number of steps; ShotError as `schedule_of`."""
        schedule = schedule_of(spec, steps)
        scaled = tuple(spec.timestep_scale * sigma for sigma in schedule.sigmas)
        self._kind: Final = spec.kind
        self._timesteps: Final = schedule.timesteps or scaled
        self.sigmas: Final = schedule.sigmas

    def __len__(self) -> int:
        """How many steps there are."""
        return len(self.sigmas)

    def start(self, noise: Latents) -> Latents:
        """Scale noise to the first noise level, where the steps begin (rCM's is below 1).

        noise: standard normal, any shape.
        """
        if self._kind == "unipc":  # begins at 1 in truth: its first level only keeps log(1 - σ)
            return noise
        return (self.sigmas[0] * noise.astype(np.float64)).astype(np.float32)

    def timestep(self, step: int) -> float:
        """Say what the denoiser is told at a step: the noise level on the model's own scale."""
        return self._timesteps[step]

    def begin(self) -> Stepper:
        """Set out from the first level: each block of each clip goes its own way."""
        if self._kind == "unipc":
            return UniPC(self.sigmas)
        return _Straight(self.sigmas, renoise=self._kind == "renoise")


class _Straight:
    """The rules that look at one velocity at a time: "euler" and "renoise"."""

    def __init__(self, sigmas: tuple[float, ...], *, renoise: bool) -> None:
        self._levels = pairwise((*sigmas, 0.0))
        self._renoise = renoise

    def step(self, x: Latents, velocity: Latents, fresh: Callable[[], Latents]) -> Latents:
        sigma, following = next(self._levels)
        x64, v64 = x.astype(np.float64), velocity.astype(np.float64)
        if not self._renoise:
            return (x64 + (following - sigma) * v64).astype(np.float32)
        clean = x64 - sigma * v64
        if following:
            clean = (1 - following) * clean + following * fresh().astype(np.float64)
        return clean.astype(np.float32)
