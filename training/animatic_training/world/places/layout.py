"""How a place is laid out: its ground, and where its props may stand.

The subject and the camera need room. Around the origin nothing stands within `BACK` times the
shot's distance behind the subject (an orbiting camera passes there) and within `FRONT` times on
the camera's side; what lies flat (`FLAT` metres at most) may be anywhere, and makes the place
known from above and beside a close-up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import cos, pi, sin
from typing import TYPE_CHECKING, Final

import numpy as np

from animatic_training.world.solids import Solid, Vector, box, cylinder, ellipsoid

if TYPE_CHECKING:
    from collections.abc import Callable

BACK: Final = 1.15
FRONT: Final = 1.6
MARGIN: Final = 1.0
"""Metres beyond those, for the subject's own size."""
FLAT: Final = 0.1
"""Metres above the ground that something may lie where the subject moves."""
REAR: Final = pi / 2
"""Radians from +z at which the camera's side begins."""


@dataclass(frozen=True)
class Ground:
    """The ground plane y = 0; colours are linear albedo."""

    light: Vector
    dark: Vector
    """The two colours that its patches vary between."""
    cell: float = 2.5
    """Size of a patch, metres."""
    band: Vector = (0.0, 0.0, 0.0)
    """Colour of the band between `band_near` and `band_far` (a road, the sea)."""
    band_near: float = 1e9
    band_far: float = 1e9
    """Metres along z; no band by default."""


@dataclass(frozen=True)
class Place:
    """Ground and props of one place."""

    ground: Ground
    props: Callable[[np.random.Generator, float], list[Solid]]
    """Random stream and distance (metres between eye and subject) -> what stands around."""


def clear(distance: float, angle: float = 0.0) -> float:
    """Return the metres from the origin at which props may begin, `angle` radians from +z."""
    return (BACK if abs(angle) <= REAR else FRONT) * distance + MARGIN


def grown(distance: float, power: float = 0.6) -> float:
    """Return how much larger props are than at 6 m, so that a wide shot still shows them."""
    return float(np.clip((distance / 6) ** power, 0.8, 3.0))


def ring(
    rng: np.random.Generator,
    count: int,
    distance: float,
    *,
    near: float,
    far: float,
    arc: float = 1.25,
) -> list[tuple[float, float]]:
    """Return (x, z) of `count` props spread over `arc` radians to either side of +z.

    They stand `near` to `far` metres beyond the clear room.
    """
    slots = (rng.permutation(count) + rng.uniform(0.15, 0.85, count)) / count * 2 - 1
    spots = []
    for angle, depth in zip(arc * slots, rng.uniform(near, far, count), strict=True):
        radius = clear(distance, float(angle)) + float(depth)
        spots.append((radius * sin(angle), radius * cos(angle)))
    return spots


def strewn(rng: np.random.Generator, count: int, distance: float) -> list[tuple[float, float]]:
    """Return (x, z) of `count` flat things over what the camera sees around the subject."""
    columns = (rng.permutation(count) + rng.uniform(0.1, 0.9, count)) / count * 2 - 1
    depths = rng.uniform(-0.5, 0.7, count)
    return [
        (float(x * 0.8 * distance), float(z * distance))
        for x, z in zip(columns, depths, strict=True)
    ]


def shade(colour: Vector, rng: np.random.Generator, amount: float = 0.15) -> Vector:
    """Return a colour made lighter or darker by up to `amount`."""
    gain = float(rng.uniform(1 - amount, 1 + amount))
    return (min(colour[0] * gain, 1.0), min(colour[1] * gain, 1.0), min(colour[2] * gain, 1.0))


def disc(x: float, z: float, size: tuple[float, float], colour: Vector, top: float = 0.04) -> Solid:
    """Return a flat round patch on the ground, its size in x and z, metres."""
    return ellipsoid((x, 0.0, z), (size[0], 2 * top, size[1]), colour)


def slab(
    x: float, z: float, size: tuple[float, float], colour: Vector, *, top: float = 0.02,
    yaw: float = 0.0,
) -> Solid:  # fmt: skip
    """Return a flat rectangle on the ground, its size in x and z, metres."""
    return box((x, top - 0.05, z), (size[0], 0.1, size[1]), colour, yaw=yaw)


def pole(x: float, z: float, height: float, width: float, colour: Vector) -> Solid:
    """Return an upright round pole."""
    return cylinder((x, height / 2, z), (width, height, width), colour)


def glowing(solid: Solid, fill: float = 0.9) -> Solid:
    """Return a solid that shines by itself: a lamp, a lit window."""
    return replace(solid, fill=fill)
