"""Places where things grow: forest, beach, meadow."""

from __future__ import annotations

from dataclasses import replace
from math import pi
from typing import TYPE_CHECKING, Final

from animatic_training.world.places.layout import (
    Ground,
    Place,
    clear,
    disc,
    grown,
    pole,
    ring,
    shade,
    slab,
    strewn,
)
from animatic_training.world.solids import Solid, Vector, box, cylinder, ellipsoid

if TYPE_CHECKING:
    import numpy as np

_BARK: Final[Vector] = (0.26, 0.17, 0.10)
_SHORE: Final = 8.0
"""Metres along z at which the sea begins."""


def _forest(rng: np.random.Generator, distance: float) -> list[Solid]:
    grow = grown(distance)
    solids: list[Solid] = []
    spots = ring(rng, 9, distance, near=2.0 * grow, far=5.5 * grow, arc=1.35)
    spots += ring(rng, 4, distance, near=6 * grow, far=12 * grow, arc=0.9)
    for x, z in spots:
        height, crown = grow * float(rng.uniform(4.5, 7)), grow * float(rng.uniform(2.4, 3.6))
        green = shade((0.08, 0.30, 0.08), rng, 0.35)
        solids.append(pole(x, z, height * 0.6, grow * 0.5, _BARK))
        solids.append(ellipsoid((x, height * 0.74, z), (crown, height * 0.62, crown), green))
    for x, z in strewn(rng, 8, distance):
        wide = float(rng.uniform(0.10, 0.24)) * distance
        tones: tuple[Vector, ...] = ((0.30, 0.17, 0.06), (0.06, 0.22, 0.05), (0.10, 0.34, 0.08))
        tone = tones[int(rng.integers(3))]
        solids.append(disc(x, z, (wide, wide * 0.7), shade(tone, rng), 0.06))
    return solids


def _beach(rng: np.random.Generator, distance: float) -> list[Solid]:
    grow = grown(distance)
    solids = [
        slab(0, _SHORE + 0.2, (600, 0.7), (0.92, 0.95, 0.95)),
        slab(float(rng.uniform(-20, 20)), _SHORE + 4 * grow, (60, 0.5 * grow), (0.45, 0.70, 0.75)),
    ]
    for x, z in ring(rng, 3, distance, near=2.1 * grow, far=3.2 * grow, arc=1.1):
        solids += _palm(x, z, grow * float(rng.uniform(4.0, 5.4)), rng)
    for x, z in ring(rng, 1, distance, near=1.4 * grow, far=2.0 * grow, arc=0.5):
        tones: tuple[Vector, ...] = ((0.85, 0.20, 0.12), (0.95, 0.75, 0.15), (0.20, 0.45, 0.80))
        solids += _umbrella(x, z, grow * 2.6, tones[int(rng.integers(3))])
    island = grow * float(rng.uniform(14, 24))
    far = _SHORE + 60 * grow
    x = float(rng.uniform(-40, 40))
    solids.append(ellipsoid((x, 0, far), (island, island * 0.3, 8), (0.14, 0.30, 0.16)))
    spots = strewn(rng, 6, distance)
    size = 0.10 * distance
    for x, z in spots[:4]:
        solids.append(disc(x, z, (size, size * 0.7), shade((0.98, 0.90, 0.80), rng), 0.06))
    towel = slab(*spots[4], (0.34 * distance, 0.17 * distance), (0.10, 0.45, 0.62), yaw=0.5)
    stripe = (towel.half[0], 0.055, towel.half[2] * 0.4)
    return [*solids, towel, replace(towel, half=stripe, colour=(0.95, 0.93, 0.85))]


def _umbrella(x: float, z: float, size: float, colour: Vector) -> list[Solid]:
    top = (size * 0.5, size * 0.2, size * 0.5)
    return [
        pole(x, z, size * 0.72, size * 0.046, (0.85, 0.85, 0.82)),
        ellipsoid((x, size * 0.72, z), (size, size * 0.3, size), colour),
        ellipsoid((x, size * 0.79, z), top, (0.95, 0.93, 0.88)),
    ]


def _palm(x: float, z: float, height: float, rng: np.random.Generator) -> list[Solid]:
    lean = float(rng.uniform(-0.14, 0.14))
    trunk = cylinder(
        (x, height / 2, z), (height * 0.07, height, height * 0.07), (0.45, 0.31, 0.17), pitch=lean
    )
    top = x - lean * height / 2
    leaf = (0.12, 0.44, 0.12)
    size = (height * 0.62, height * 0.05, height * 0.17)
    leaves = [
        replace(
            ellipsoid((top + side * height * 0.24, height * 0.97, z), size, leaf),
            pitch=-side * 0.35,
        )
        for side in (-1, 1)
    ]
    across = replace(
        ellipsoid((top, height * 1.0, z), (height * 0.75, height * 0.05, height * 0.15), leaf),
        yaw=pi / 3,
    )
    return [trunk, *leaves, across, replace(across, yaw=-pi / 3)]


def _meadow(rng: np.random.Generator, distance: float) -> list[Solid]:
    grow = grown(distance)
    solids: list[Solid] = []
    for x, z in ring(rng, 3, distance, near=26 * grow, far=40 * grow, arc=1.5):
        width, height = grow * float(rng.uniform(30, 44)), grow * float(rng.uniform(5, 9))
        solids.append(ellipsoid((x, 0, z), (width, height, 16), shade((0.22, 0.50, 0.12), rng)))
    rail = (0.90, 0.88, 0.82)
    row = clear(distance) + 1.2
    board = (9 * distance, 0.14 * grow, 0.10)
    solids += [box((0, level * grow, row), board, rail) for level in (0.55, 1.0)]
    for step in range(7):
        x = (step - 3 + float(rng.uniform(-0.1, 0.1))) * 0.62 * distance
        solids.append(box((x, 0.6 * grow, row), (0.18 * grow, 1.2 * grow, 0.18), rail))
    (x, z), (mx, mz) = ring(rng, 2, distance, near=3 * grow, far=6 * grow, arc=0.75)
    size = grow * 4.6
    solids.append(pole(x, z, size * 0.6, size * 0.1, _BARK))
    solids.append(
        ellipsoid((x, size * 0.78, z), (size * 0.85, size * 0.66, size * 0.85), (0.16, 0.45, 0.10))
    )
    solids += _windmill(mx, mz + 4 * grow, grow * 5.5, float(rng.uniform(0, pi / 2)))
    petals: tuple[Vector, ...] = ((0.95, 0.82, 0.08), (0.90, 0.15, 0.20), (0.96, 0.94, 0.96),
                                  (0.55, 0.22, 0.80))  # fmt: skip
    for number, (x, z) in enumerate(strewn(rng, 13, distance)):
        wide = float(rng.uniform(0.035, 0.06)) * distance
        solids.append(disc(x, z, (wide, wide), petals[number % 4], 0.09))
    return solids


def _windmill(x: float, z: float, height: float, turn: float) -> list[Solid]:
    white, red = (0.88, 0.85, 0.78), (0.55, 0.16, 0.10)
    front = z - height * 0.18
    sail = box((x, height * 0.95, front), (height * 1.0, height * 0.10, 0.1), (0.45, 0.30, 0.16))
    return [
        cylinder((x, height / 2, z), (height * 0.30, height, height * 0.30), white),
        ellipsoid((x, height, z), (height * 0.36, height * 0.30, height * 0.36), red),
        replace(sail, pitch=turn),
        replace(sail, pitch=turn + pi / 2),
    ]


GREEN: Final[dict[str, Place]] = {
    "forest": Place(Ground((0.16, 0.30, 0.10), (0.20, 0.19, 0.08)), _forest),
    "beach": Place(
        Ground((0.92, 0.83, 0.62), (0.84, 0.74, 0.53), 2.0, (0.04, 0.38, 0.52), _SHORE, 1e9), _beach
    ),
    "meadow": Place(Ground((0.34, 0.62, 0.16), (0.24, 0.50, 0.10), 1.5), _meadow),
}
