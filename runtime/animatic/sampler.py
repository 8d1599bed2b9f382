"""Few-step sampling of a rectified flow: the schedules of the families and the update rules.

    x_t = (1 - σ) x0 + σ ε        the model predicts the velocity v = ε - x0, so x0 = x_t - σ v

euler      x = x + (σ' - σ) v                  deterministic
renoise    x = (1 - σ') (x - σ v) + σ' ε_new   with noise that was never used before
unipc      a multistep solver of order 2       deterministic (`animatic.unipc`)

All end at σ' = 0, where they give x0. The arithmetic is float64 and its results float32: late
steps take the difference of nearly equal numbers.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from animatic.bundle import Schedule
from animatic.errors import ShotError
from animatic.unipc import UniPC

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from animatic.bundle import SamplerSpec

    Latents = npt.NDArray[np.float32]

__all__ = [
    "FASTWAN",
    "FASTWAN_TIMESTEPS",
    "LIGHTX2V",
    "LTX2",
    "LTX2_STAGE_2",
    "LTX_PASS_1",
    "LTX_PASS_2",
    "RCM",
    "SELF_FORCING",
    "Sampler",
    "Stepper",
    "euler_schedule",
    "flow_schedule",
    "schedule_of",
    "shift",
]

TRAINED_LEVELS: Final = 1000
"""Noise levels that models of these families are trained on: 1/1000, 2/1000, … 1."""


def shift(sigma: float, k: float) -> float:
    """Move a noise level towards 1, as larger pictures need: k σ / (1 + (k - 1) σ)."""
    return k * sigma / (1 + (k - 1) * sigma)


def _nearest(timesteps: tuple[float, ...], k: float) -> tuple[float, ...]:
    """Find the noise levels nearest to timesteps on a grid of 1000 levels shifted by k."""
    grid = [shift(step / TRAINED_LEVELS, k) for step in range(1, TRAINED_LEVELS + 1)]
    return tuple(
        min(grid, key=lambda sigma: abs(TRAINED_LEVELS * sigma - step)) for step in timesteps
    )


def _trigflow(angles: tuple[float, ...]) -> tuple[float, ...]:
    """Turn TrigFlow angles in radians into noise levels: sin / (sin + cos)."""
    return tuple(math.sin(a) / (math.sin(a) + math.cos(a)) for a in angles)


# The schedules, each without its final 0. Sources: the models' published code and configurations.
SELF_FORCING: Final = tuple(shift(sigma, 5.0) for sigma in (1.0, 0.75, 0.5, 0.25))  # re-noise
FASTWAN_TIMESTEPS: Final = (1000.0, 757.0, 522.0)  # what its reference gives the model, rounded
FASTWAN: Final = _nearest(FASTWAN_TIMESTEPS, 8.0)  # re-noise; CausVid too
RCM: Final = _trigflow((math.atan(80), 1.5, 1.4, 1.0))  # re-noise; the atan is of σmax
LIGHTX2V: Final = SELF_FORCING  # the same levels, Euler
LTX_PASS_1: Final = (1.0, 0.9937, 0.9875, 0.9812, 0.975, 0.9094, 0.725)  # Euler; LTX-Video 0.9.8
LTX_PASS_2: Final = (0.9094, 0.725, 0.4219)  # Euler, after upscaling
LTX2: Final = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875)  # Euler
LTX2_STAGE_2: Final = (0.909375, 0.725, 0.421875)  # Euler


def flow_schedule(steps: int, k: float) -> Schedule:
    """Space the levels of a model that was not distilled, for "unipc".

    They are those of diffusers' UniPCMultistepScheduler with use_flow_sigmas and flow_shift = k
    (3 for Wan at 480p): levels evenly from 1 down to 1/1000, which is left out, shifted; the first
    is held below 1, where log(1 - σ) would be infinite; in single precision. Its timesteps are
    whole numbers, rounded down.
    """
    spaced = np.linspace(1, 1 / TRAINED_LEVELS, steps + 1)[:-1]
    shifted = k * spaced / (1 + (k - 1) * spaced)
    shifted[0] -= 1e-6
    return Schedule(
        sigmas=tuple(shifted.astype(np.float32).tolist()),
        timesteps=tuple(np.floor(shifted * TRAINED_LEVELS).tolist()),
    )


def euler_schedule(steps: int, k: float) -> Schedule:
    """Space the levels of a model that was not distilled, for "euler".

    They are those of diffusers' FlowMatchEulerDiscreteScheduler with shift = k: evenly from 1 down
    to the shifted 1/1000, which is in, and shifted once more.
    """
    spaced = np.linspace(1, shift(1 / TRAINED_LEVELS, k), steps)
    return Schedule(sigmas=tuple((k * spaced / (1 + (k - 1) * spaced)).tolist()))


def schedule_of(spec: SamplerSpec, steps: int | None = None) -> Schedule:
    """Return the schedule of so many steps, or the usual one; ShotError if it is not offered."""
    usual = Schedule(sigmas=spec.sigmas, timesteps=spec.timesteps)
    offered = {len(schedule.sigmas): schedule for schedule in (usual, *spec.schedules)}
    if steps is None:
        return usual
    if steps not in offered:
        *others, last = map(str, sorted(offered))
        choices = f"{', '.join(others)} or {last}" if others else f"{last}, or leave the steps out"
        raise ShotError(f"This model does not make a clip in that many steps; choose {choices}.")
    return offered[steps]


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
