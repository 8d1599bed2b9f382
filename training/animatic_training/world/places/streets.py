"""Places with a road: city and highway."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from animatic_training.world.places.layout import (
    Ground,
    Place,
    clear,
    disc,
    glowing,
    grown,
    pole,
    ring,
    shade,
    slab,
)
from animatic_training.world.solids import Solid, Vector, box, ellipsoid

if TYPE_CHECKING:
    import numpy as np

_TONES: Final[tuple[Vector, ...]] = (
    (0.44, 0.45, 0.50), (0.52, 0.34, 0.26), (0.34, 0.40, 0.48), (0.60, 0.56, 0.48),
)  # fmt: skip
_LIT: Final[Vector] = (0.95, 0.80, 0.45)
_PAINT: Final[Vector] = (0.90, 0.90, 0.88)


def _city(rng: np.random.Generator, distance: float) -> list[Solid]:
    grow = grown(distance, 0.8)
    solids: list[Solid] = []
    row = clear(distance) + 2.5
    half = 1.5 * row + 4
    count = 5
    for number in range(count):
        width = 2 * half / count
        x = (number + 0.5) * width - half
        height = grow * float(rng.uniform(7, 16))
        tone = shade(_TONES[int(rng.integers(len(_TONES)))], rng)
        z = row + float(rng.uniform(0, 1.5)) + 3
        solids.append(box((x, height / 2, z), (width * 0.92, height, 6), tone))
        dark = (tone[0] * 0.25, tone[1] * 0.32, tone[2] * 0.45)
        for level in range(3):
            lit = rng.random() < 0.3  # some offices work late
            y = grow * (1.9 + 2.2 * level)
            band = box((x, y, z), (width * 0.74, 1.1 * grow, 6.2), _LIT if lit else dark)
            solids.append(glowing(band, 0.35) if lit else band)
    for x, z in ring(rng, 2, distance, near=0.5 * grow, far=1.0 * grow, arc=0.8):
        high = 3.6 * grow
        solids.append(pole(x, z, high, 0.16 * grow, (0.16, 0.17, 0.19)))
        lamp = ellipsoid((x, high, z), (0.6 * grow, 0.5 * grow, 0.6 * grow), _LIT)
        solids.append(glowing(lamp, 0.8))
    stripe = 0.075 * distance + 0.1
    crossing = float(rng.choice((-1.0, 1.0))) * 0.40 * distance
    for number in range(5):
        z = (number - 2) * 2.4 * stripe - 0.5
        if _KERB[0] + stripe < z < _KERB[1] - stripe:
            solids.append(slab(crossing, z, (0.36 * distance, 1.2 * stripe), _PAINT))
    solids.append(disc(-0.8 * crossing, -0.9, (0.9, 0.9), (0.06, 0.06, 0.07), 0.03))
    solids.append(slab(0, _KERB[1], (400, 0.35), (0.62, 0.61, 0.58), top=0.05))
    solids.append(slab(0, _KERB[0], (400, 0.35), (0.62, 0.61, 0.58), top=0.05))
    return solids


_KERB: Final = (-5.0, 3.6)
"""Metres along z between which the street lies."""


def _highway(rng: np.random.Generator, distance: float) -> list[Solid]:
    grow = grown(distance)
    solids: list[Solid] = []
    for x, z in ring(rng, 3, distance, near=30 * grow, far=44 * grow, arc=1.5):
        width, height = grow * float(rng.uniform(26, 40)), grow * float(rng.uniform(4, 8))
        solids.append(ellipsoid((x, 0, z), (width, height, 14), shade((0.34, 0.42, 0.20), rng)))
    edge = (400, 0.16 + 0.012 * distance)
    solids += [slab(0, z, edge, (0.95, 0.72, 0.10)) for z in (_ROAD[0] + 0.4, _ROAD[1] - 0.4)]
    pitch, dash = 0.42 * distance + 0.8, (0.22 * distance + 0.4, 0.14 + 0.014 * distance)
    offset = float(rng.uniform(-0.5, 0.5)) * pitch
    solids += [
        slab((number - 3) * pitch + offset, z, dash, _PAINT)
        for number in range(7)
        for z in (-1.7, 1.7)
    ]
    rail = max(clear(distance) + 0.3, _ROAD[1] + 0.8)
    steel = (0.66, 0.68, 0.70)
    solids.append(box((0, 0.75 * grow, rail), (400, 0.34 * grow, 0.12), steel))
    for number in range(5):
        x = (number - 2) * 0.8 * distance + offset
        solids.append(box((x, 0.36 * grow, rail + 0.1), (0.16 * grow, 0.72 * grow, 0.1), steel))
    for x, z in ring(rng, 2, distance, near=1.5 * grow, far=3.0 * grow, arc=0.85):
        high = 5.2 * grow
        solids.append(pole(x, z, high, 0.18 * grow, (0.30, 0.24, 0.18)))
        solids.append(box((x, high * 0.93, z), (1.5 * grow, 0.14 * grow, 0.14), (0.30, 0.24, 0.18)))
    for x, z in ring(rng, 1, distance, near=1.7 * grow, far=2.2 * grow, arc=0.55):
        solids += _sign(x, z, grow)
    return solids


def _sign(x: float, z: float, grow: float) -> list[Solid]:
    board = box((x, 3.2 * grow, z), (3.0 * grow, 1.5 * grow, 0.14), (0.02, 0.34, 0.16))
    posts = [pole(x + side * 1.1 * grow, z + 0.1, 3.2 * grow, 0.16, (0.5, 0.5, 0.52))
             for side in (-1, 1)]  # fmt: skip
    rim = replace(board, half=(1.58 * grow, 0.83 * grow, 0.05), colour=_PAINT)
    line = box((x, 3.3 * grow, z), (2.0 * grow, 0.24 * grow, 0.2), _PAINT)
    return [rim, board, line, *posts]


_ROAD: Final = (-4.4, 4.4)
"""Metres along z between which the road lies."""

STREETS: Final[dict[str, Place]] = {
    "city": Place(
        Ground((0.52, 0.51, 0.50), (0.43, 0.42, 0.42), 2.0, (0.15, 0.15, 0.17), *_KERB), _city
    ),
    "highway": Place(
        Ground((0.44, 0.46, 0.22), (0.36, 0.34, 0.18), 2.5, (0.13, 0.13, 0.14), *_ROAD), _highway
    ),
}
