"""The noise levels of the families, and how those of a model that was not distilled are spaced.

    x_t = (1 - σ) x0 + σ ε        levels σ descend from about 1, and none lists its final 0

`animatic.sampler` has the rules by which a clip goes from level to level.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Final

from animatic.bundle import Schedule
from animatic.errors import ShotError

if TYPE_CHECKING:
    from animatic.bundle import SamplerSpec

__all__ = [
    "FASTWAN",
    "FASTWAN_TIMESTEPS",
    "LIGHTX2V",
    "LTX2",
    "LTX2_STAGE_2",
    "LTX_PASS_1",
    "LTX_PASS_2",
    "NEARLY_ONE",
    "RCM",
    "SELF_FORCING",
    "flow_schedule",
    "schedule_of",
    "shift",
]

TRAINED_LEVELS: Final = 1000
"""Noise levels that models of these families are trained on: 1/1000, 2/1000, … 1."""

_GUARD: Final = 1e-6
"""How far below 1 "unipc" begins, as log(1 - σ) must be finite; diffusers takes this much off."""


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


def _single(value: float) -> float:
    """Round to single precision."""
    rounded: float = struct.unpack("f", struct.pack("f", value))[0]
    return rounded


# Sources: the models' published code and configurations.
SELF_FORCING: Final = tuple(shift(sigma, 5.0) for sigma in (1.0, 0.75, 0.5, 0.25))  # re-noise
FASTWAN_TIMESTEPS: Final = (1000.0, 757.0, 522.0)  # what its reference gives the model, rounded
FASTWAN: Final = _nearest(FASTWAN_TIMESTEPS, 8.0)  # re-noise; CausVid too
RCM: Final = _trigflow((math.atan(80), 1.5, 1.4, 1.0))  # re-noise; the atan is of σmax
LIGHTX2V: Final = SELF_FORCING  # the same levels, Euler
LTX_PASS_1: Final = (1.0, 0.9937, 0.9875, 0.9812, 0.975, 0.9094, 0.725)  # Euler; LTX-Video 0.9.8
LTX_PASS_2: Final = (0.9094, 0.725, 0.4219)  # Euler, after upscaling
LTX2: Final = (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875)  # Euler
LTX2_STAGE_2: Final = (0.909375, 0.725, 0.421875)  # Euler

NEARLY_ONE: Final = _single(1 - _GUARD)
"""The highest level of "unipc", whatever a schedule says: where `flow_schedule` begins."""


def flow_schedule(steps: int, k: float) -> Schedule:
    """Space the levels of a model that was not distilled, for "unipc".

    They are those of diffusers' UniPCMultistepScheduler with use_flow_sigmas and flow_shift = k
    (3 for Wan at 480p): levels evenly from 1 down to 1/1000, which is left out, shifted; the first
    is held below 1, where log(1 - σ) would be infinite; in single precision. Its timesteps are
    whole numbers, rounded down.
    """
    apart = (1 / TRAINED_LEVELS - 1) / steps
    shifted = [shift(1 + step * apart, k) for step in range(steps)]
    shifted[0] -= _GUARD
    return Schedule(
        sigmas=tuple(map(_single, shifted)),
        timesteps=tuple(float(math.floor(sigma * TRAINED_LEVELS)) for sigma in shifted),
    )


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
