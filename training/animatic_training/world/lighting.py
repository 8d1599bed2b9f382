"""The light of a shot: sun, sky, haze and what falls, by place, time of day and weather.

Colours are linear radiance, 1 = a white wall at noon.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, radians, sin
from typing import TYPE_CHECKING, Final

import numpy as np

from animatic_training.world.attributes import INTERIORS

if TYPE_CHECKING:
    from animatic_training.world.solids import Vector

MOON: Final = "moon"
STUDIO: Final = "studio"


@dataclass(frozen=True)
class Light:
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
    disc: float = 1.0
    """1 where the sun's disc is seen."""


OUTDOORS: Final[dict[str, Light]] = {
    "dawn": Light(
        (0.42, 0.46, 0.78), (0.98, 0.70, 0.78), (0.80, 0.62, 0.60), (0.44, 0.38, 0.46),
        (12, 22), 0.010, 0.35,
    ),
    "day": Light(
        (0.18, 0.42, 0.92), (0.68, 0.84, 1.00), (0.85, 0.84, 0.78), (0.36, 0.39, 0.44),
        (45, 65), 0.004, 0.25,
    ),
    "sunset": Light(
        (0.34, 0.20, 0.42), (1.00, 0.42, 0.12), (1.00, 0.52, 0.24), (0.38, 0.27, 0.25),
        (8, 18), 0.008, 0.80,
    ),
    "night": Light(
        (0.012, 0.018, 0.06), (0.045, 0.06, 0.15), (0.14, 0.17, 0.28), (0.085, 0.095, 0.15),
        (35, 60), 0.008, 0.10,
    ),
}  # fmt: skip

INDOORS: Final[dict[str, Light]] = {
    "dawn": Light(
        (0.46, 0.40, 0.52), (0.95, 0.66, 0.78), (0.50, 0.36, 0.42), (0.40, 0.33, 0.44),
        (50, 60), 0.0, 0.0, 0.0,
    ),
    "day": Light(
        (0.80, 0.84, 0.86), (0.70, 0.86, 1.00), (0.62, 0.62, 0.58), (0.46, 0.48, 0.50),
        (55, 65), 0.0, 0.0, 0.0,
    ),
    "sunset": Light(
        (0.52, 0.26, 0.14), (1.00, 0.45, 0.12), (0.78, 0.36, 0.14), (0.40, 0.24, 0.16),
        (50, 60), 0.0, 0.0, 0.0,
    ),
    "night": Light(
        (0.030, 0.028, 0.040), (0.016, 0.024, 0.075), (0.20, 0.135, 0.075), (0.080, 0.080, 0.120),
        (55, 65), 0.0, 0.0, 0.0,
    ),
}  # fmt: skip
"""Rooms: the zenith is their ceiling, the horizon what a window shows; a lamp is their sun."""

_BACKDROP: Final[dict[str, Vector]] = {
    "dawn": (0.78, 0.62, 0.76),
    "day": (0.82, 0.83, 0.85),
    "sunset": (0.96, 0.52, 0.24),
    "night": (0.075, 0.08, 0.14),
}
"""The studio's cove, lit for the time of day."""

_BARE_SUN: Final[dict[str, Vector]] = {
    "dawn": (0.66, 0.42, 0.58),
    "day": (1.00, 1.00, 0.97),
    "sunset": (1.00, 0.48, 0.20),
    "night": (0.14, 0.17, 0.28),
}
"""The sun on the moon, where no sky tells the time."""

_CLOUD: Final[dict[str, Vector]] = {
    "dawn": (0.60, 0.47, 0.56),
    "day": (0.64, 0.68, 0.74),
    "sunset": (0.66, 0.42, 0.32),
    "night": (0.050, 0.055, 0.085),
}
"""Colour of a closed layer of cloud."""


def light_of(
    place: str, time: str, weather: str, distance: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return a scene's light, float32 [6, 3], and air, float32 [4], as `Scene` has them.

    `distance`, metres between eye and subject, is what fog is measured on.
    """
    light = _clear_light(place, time)
    rain = snow = 0.0
    if weather == "overcast":
        light = _clouded(light, _CLOUD[time], 0.16, 1.10)
    elif weather == "rain":
        cloud = _mixed(_CLOUD[time], (0.30, 0.36, 0.44), 0.0 if time == "night" else 0.35)
        light = replace(_clouded(light, cloud, 0.14, 0.85), haze=light.haze + 0.12 / distance)
        rain = float(rng.uniform(0.6, 1.0))
    elif weather == "snowfall":
        pale = _mixed(_CLOUD[time], (0.86, 0.88, 0.92), 0.0 if time == "night" else 0.35)
        light = replace(_clouded(light, pale, 0.25, 1.10), haze=light.haze + 0.15 / distance)
        snow = float(rng.uniform(0.6, 1.0))
    elif weather == "fog":
        veil = _mixed(_CLOUD[time], (0.80, 0.82, 0.84), 0.0 if time == "night" else 0.30)
        light = replace(_clouded(light, veil, 0.30, 1.00), zenith=veil, haze=0.52 / distance)
    wind = float(rng.uniform(-1.5, 1.5)) * (2.0 if rain else 1.0)
    rows = [
        _sun_direction(light, rng),
        light.sun,
        light.ambient,
        light.zenith,
        light.horizon,
        (light.haze, light.glow, light.disc),
    ]
    air = [rain, snow, wind, float(rng.integers(1000))]
    return np.array(rows, np.float32), np.array(air, np.float32)


def _clear_light(place: str, time: str) -> Light:
    """Return the light of a place at a time of day under a clear sky."""
    if place == STUDIO:
        cove = _BACKDROP[time]
        return replace(INDOORS[time], zenith=cove, horizon=cove, haze=0.004)
    if place in INTERIORS:
        return INDOORS[time]
    if place == MOON:
        black = (0.004, 0.004, 0.007)
        light = replace(OUTDOORS[time], zenith=black, horizon=black, haze=0.0, glow=0.0)
        return replace(light, sun=_BARE_SUN[time], ambient=_scaled(light.ambient, 0.55))
    return OUTDOORS[time]


def _clouded(light: Light, cloud: Vector, sun: float, ambient: float) -> Light:
    """Return a light behind cloud: what is left of the sun, and the sky's light in its colour."""
    grey = sum(light.ambient) / 3
    tone = sum(cloud) / 3
    soft = _mixed(light.ambient, _scaled(cloud, grey / tone), 0.6)
    return replace(
        light,
        zenith=_scaled(cloud, 0.82),
        horizon=cloud,
        sun=_scaled(light.sun, sun),
        ambient=_scaled(soft, ambient * 1.25),
        glow=0.0,
        disc=0.0,
    )


def _mixed(one: Vector, other: Vector, share: float) -> Vector:
    return (
        one[0] + (other[0] - one[0]) * share,
        one[1] + (other[1] - one[1]) * share,
        one[2] + (other[2] - one[2]) * share,
    )


def _scaled(colour: Vector, gain: float) -> Vector:
    return (colour[0] * gain, colour[1] * gain, colour[2] * gain)


def _sun_direction(light: Light, rng: np.random.Generator) -> Vector:
    """Return the unit vector towards the sun: from the sides, more often behind the camera."""
    elevation = radians(float(rng.uniform(*light.elevation)))
    azimuth = radians(float(rng.uniform(35, 140)) * float(rng.choice((-1.0, 1.0))))
    return (sin(azimuth) * cos(elevation), sin(elevation), cos(azimuth) * cos(elevation))
