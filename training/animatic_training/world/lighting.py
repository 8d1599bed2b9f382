"""The times of day: sun, sky and haze. Colours are linear radiance, 1 = a white wall at noon."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, radians, sin
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np

    from animatic_training.world.solids import Vector


@dataclass(frozen=True)
class TimeOfDay:
    """Light of one time of day."""

    zenith: Vector
    horizon: Vector
    sun: Vector
    ambient: Vector
    elevation: tuple[float, float]
    """Range of the sun's (at night the moon's) height above the horizon, degrees."""
    haze: float
    """Share of light lost to haze per metre."""
    glow: float
    """Strength of the halo around the sun in the sky."""


REGISTRY: Final[dict[str, TimeOfDay]] = {
    "dawn": TimeOfDay(
        (0.42, 0.46, 0.78), (0.98, 0.70, 0.78), (0.80, 0.62, 0.60), (0.44, 0.38, 0.46),
        (12, 22), 0.014, 0.35,
    ),
    "day": TimeOfDay(
        (0.18, 0.42, 0.92), (0.68, 0.84, 1.00), (0.85, 0.84, 0.78), (0.36, 0.39, 0.44),
        (45, 70), 0.004, 0.25,
    ),
    "sunset": TimeOfDay(
        (0.34, 0.20, 0.42), (1.00, 0.42, 0.12), (1.00, 0.52, 0.24), (0.38, 0.27, 0.25),
        (8, 18), 0.008, 0.80,
    ),
    "night": TimeOfDay(
        (0.012, 0.018, 0.06), (0.045, 0.06, 0.15), (0.14, 0.17, 0.28), (0.085, 0.095, 0.15),
        (35, 60), 0.010, 0.10,
    ),
}  # fmt: skip


def sun_direction(time: TimeOfDay, rng: np.random.Generator) -> Vector:
    """Return the unit vector towards the sun: from the sides, more often behind the camera."""
    elevation = radians(float(rng.uniform(*time.elevation)))
    azimuth = radians(float(rng.uniform(35, 140)) * float(rng.choice((-1.0, 1.0))))
    return (sin(azimuth) * cos(elevation), sin(elevation), cos(azimuth) * cos(elevation))
