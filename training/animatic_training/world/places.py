"""The places: ground, and the props that stand around the subject.

The subject's stage is the disc of three metres around the origin; props stand behind it or to
its sides, never between it and the camera.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from animatic_training.world.solids import Solid, Vector, box, ellipsoid

if TYPE_CHECKING:
    from collections.abc import Callable


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
    props: Callable[[np.random.Generator], list[Solid]]


def _spots(
    rng: np.random.Generator, count: int, *, near: float, far: float, spread: float
) -> list[tuple[float, float]]:
    """Return (x, z) of `count` props behind the stage, spread over the whole width."""
    columns = (np.arange(count) + rng.uniform(0.1, 0.9, count)) / count * 2 - 1
    depths = rng.uniform(near, far, count)
    return [(float(c * (spread + 0.5 * z)), float(z)) for c, z in zip(columns, depths, strict=True)]


def _shade(colour: Vector, rng: np.random.Generator, amount: float = 0.15) -> Vector:
    gain = float(rng.uniform(1 - amount, 1 + amount))
    return (min(colour[0] * gain, 1.0), min(colour[1] * gain, 1.0), min(colour[2] * gain, 1.0))


def _desert(rng: np.random.Generator) -> list[Solid]:
    solids: list[Solid] = []
    for x, z in _spots(rng, 3, near=30, far=50, spread=20):
        height, width = float(rng.uniform(5, 12)), float(rng.uniform(8, 20))
        solids.append(box((x, height / 2, z), (width, height, 8), _shade((0.62, 0.34, 0.18), rng)))
    for x, z in _spots(rng, 4, near=5, far=14, spread=6):
        height = float(rng.uniform(2.0, 3.6))
        green = _shade((0.16, 0.36, 0.14), rng)
        solids.append(box((x, height / 2, z), (0.5, height, 0.5), green))
        solids.append(box((x + 0.35, height * 0.6, z), (1.5, 0.4, 0.4), green))
    for x, z in _spots(rng, 2, near=4, far=9, spread=6):
        size = float(rng.uniform(0.8, 1.8))
        solids.append(ellipsoid((x, 0.1, z), (size * 1.5, size, size), (0.5, 0.38, 0.26)))
    return solids


def _city(rng: np.random.Generator) -> list[Solid]:
    solids: list[Solid] = []
    x = -26.0
    while x < 26.0:
        width, height = float(rng.uniform(4, 8)), float(rng.uniform(6, 20))
        tones = ((0.46, 0.46, 0.50), (0.52, 0.40, 0.34), (0.36, 0.40, 0.46), (0.58, 0.55, 0.50))
        tone = tones[int(rng.integers(len(tones)))]
        z = float(rng.uniform(10, 13))
        colour = _shade(tone, rng)
        solids.append(box((x + width / 2, height / 2, z + 3), (width * 0.94, height, 6), colour))
        windows = (colour[0] * 0.45, colour[1] * 0.5, colour[2] * 0.6)
        for level in range(2):
            y = 2.2 + 2.6 * level
            solids.append(box((x + width / 2, y, z + 0.1), (width * 0.7, 1.1, 0.3), windows))
        x += width + float(rng.uniform(0.2, 1.5))
    for px, _ in _spots(rng, 3, near=4, far=5, spread=8):
        solids.append(box((px, 2.2, 4.6), (0.16, 4.4, 0.16), (0.2, 0.2, 0.22)))
        solids.append(box((px, 4.4, 4.1), (0.4, 0.18, 1.1), (0.75, 0.72, 0.6)))
    return solids


def _forest(rng: np.random.Generator) -> list[Solid]:
    solids: list[Solid] = []
    for x, z in _spots(rng, 7, near=4.5, far=8, spread=6) + _spots(
        rng, 9, near=9, far=20, spread=8
    ):
        height = float(rng.uniform(4, 7))
        crown = float(rng.uniform(2.4, 3.8))
        solids.append(box((x, height * 0.3, z), (0.5, height * 0.6, 0.5), (0.26, 0.17, 0.10)))
        green = _shade((0.08, 0.30, 0.08), rng, 0.35)
        solids.append(ellipsoid((x, height * 0.78, z), (crown, height * 0.7, crown), green))
    return solids


def _beach(rng: np.random.Generator) -> list[Solid]:
    solids: list[Solid] = []
    for x, z in _spots(rng, 3, near=3.6, far=5.5, spread=7):
        height = float(rng.uniform(3.6, 5.2))
        solids.append(box((x, height / 2, z), (0.28, height, 0.28), (0.45, 0.32, 0.18)))
        for yaw in (0.4, 2.0):
            leaf = (0.14, 0.46, 0.14)
            solids.append(box((x, height, z), (2.8, 0.16, 0.6), leaf, yaw=yaw))
    for x, z in _spots(rng, 2, near=3.5, far=5.5, spread=6):
        solids.append(box((x, 0.9, z), (0.1, 1.8, 0.1), (0.8, 0.8, 0.8)))
        solids.append(ellipsoid((x, 1.8, z), (2.2, 0.7, 2.2), (0.85, 0.75, 0.55)))
    return solids


def _snow(rng: np.random.Generator) -> list[Solid]:
    solids: list[Solid] = []
    for x, z in _spots(rng, 3, near=28, far=45, spread=16):
        width, height = float(rng.uniform(18, 34)), float(rng.uniform(9, 20))
        solids.append(ellipsoid((x, 0, z), (width, height, 14), _shade((0.80, 0.84, 0.92), rng)))
    for x, z in _spots(rng, 7, near=4.5, far=16, spread=7):
        height = float(rng.uniform(3, 5.5))
        width = height * 0.38
        green = _shade((0.10, 0.24, 0.20), rng)
        solids.append(ellipsoid((x, height * 0.45, z), (width, height * 0.9, width), green))
        cap = (width * 0.75, height * 0.4, width * 0.75)
        solids.append(ellipsoid((x, height * 0.78, z), cap, (0.9, 0.92, 0.96)))
    return solids


def _canyon(rng: np.random.Generator) -> list[Solid]:
    solids: list[Solid] = []
    for side in (-1, 1):
        for step in range(3):
            x = side * (6.5 + 1.6 * step + float(rng.uniform(0, 1.5)))
            z = 4.0 + 6.5 * step
            height = float(rng.uniform(6, 13))
            red = _shade((0.58, 0.20, 0.10), rng, 0.25)
            solids.append(box((x + side * 3, height / 2, z), (6, height, 6.4), red))
            ledge = (red[0] * 0.72, red[1] * 0.72, red[2] * 0.72)
            solids.append(box((x + side * 2.8, height * 0.45, z), (6, 0.9, 6.6), ledge))
    back = float(rng.uniform(7, 12))
    solids.append(box((float(rng.uniform(-3, 3)), back / 2, 26), (30, back, 6), (0.50, 0.18, 0.10)))
    for x, z in _spots(rng, 2, near=3.5, far=6, spread=3):
        size = float(rng.uniform(0.7, 1.5))
        solids.append(ellipsoid((x, 0.1, z), (size * 1.4, size, size), (0.42, 0.16, 0.09)))
    return solids


REGISTRY: Final[dict[str, Place]] = {
    "desert": Place(Ground((0.80, 0.62, 0.38), (0.70, 0.52, 0.30)), _desert),
    "city": Place(
        Ground((0.50, 0.50, 0.50), (0.42, 0.42, 0.43), 2.0, (0.17, 0.17, 0.19), -4.0, 3.0), _city
    ),
    "forest": Place(Ground((0.16, 0.30, 0.10), (0.20, 0.20, 0.09)), _forest),
    "beach": Place(
        Ground((0.90, 0.80, 0.58), (0.82, 0.71, 0.50), 2.0, (0.05, 0.38, 0.52), 6.5, 1e9), _beach
    ),
    "snow": Place(Ground((0.92, 0.94, 0.98), (0.80, 0.84, 0.92), 3.0), _snow),
    "canyon": Place(Ground((0.62, 0.28, 0.15), (0.50, 0.21, 0.11)), _canyon),
}
