"""Places of sand, rock and snow: desert, snow, canyon, mountains, moon."""

from __future__ import annotations

from dataclasses import replace
from math import atan2, pi
from typing import TYPE_CHECKING, Final

from animatic_training.world.places.layout import (
    Ground,
    Place,
    disc,
    glowing,
    grown,
    ring,
    shade,
    strewn,
)
from animatic_training.world.solids import Solid, Vector, box, cylinder, ellipsoid

if TYPE_CHECKING:
    import numpy as np

_SNOW: Final[Vector] = (0.90, 0.93, 0.98)


def _desert(rng: np.random.Generator, distance: float) -> list[Solid]:
    grow = grown(distance)
    solids: list[Solid] = []
    for x, z in ring(rng, 5, distance, near=14 * grow, far=30 * grow, arc=1.7):
        width, height = grow * float(rng.uniform(16, 28)), grow * float(rng.uniform(3, 7))
        solids.append(ellipsoid((x, 0, z), (width, height, 10), shade((0.80, 0.58, 0.34), rng)))
    for x, z in ring(rng, 2, distance, near=40 * grow, far=55 * grow):
        width, height = grow * float(rng.uniform(9, 16)), grow * float(rng.uniform(9, 15))
        solids.append(box((x, height / 2, z), (width, height, 8), shade((0.62, 0.32, 0.17), rng)))
    for x, z in ring(rng, 4, distance, near=1.2 * grow, far=6 * grow):
        solids += _cactus(x, z, grow * float(rng.uniform(2.4, 3.6)), rng)
    for x, z in ring(rng, 2, distance, near=1.3 * grow, far=2.5 * grow, arc=0.9):
        size = grow * float(rng.uniform(0.8, 1.6))
        solids.append(ellipsoid((x, 0.1, z), (size * 1.5, size, size), (0.50, 0.36, 0.24)))
    for x, z in strewn(rng, 6, distance):
        wide = float(rng.uniform(0.25, 0.45)) * distance
        solids.append(disc(x, z, (wide, wide * 0.16), (0.62, 0.44, 0.24), 0.05))
    return solids


def _cactus(x: float, z: float, height: float, rng: np.random.Generator) -> list[Solid]:
    green = shade((0.13, 0.36, 0.13), rng)
    width = height * 0.17
    reach, side = height * 0.24, 1.0 if rng.random() < 0.5 else -1.0
    arm = x + side * reach
    return [
        ellipsoid((x, height * 0.46, z), (width, height * 1.08, width), green),
        box((x + side * reach / 2, height * 0.45, z), (reach, width * 0.6, width * 0.6), green),
        ellipsoid((arm, height * 0.62, z), (width * 0.7, height * 0.46, width * 0.7), green),
        ellipsoid(
            (x - side * reach * 0.7, height * 0.66, z), (reach, height * 0.12, width * 0.7), green
        ),
    ]


def _snow(rng: np.random.Generator, distance: float) -> list[Solid]:
    grow = grown(distance)
    solids: list[Solid] = []
    for x, z in ring(rng, 4, distance, near=20 * grow, far=34 * grow, arc=1.6):
        width, height = grow * float(rng.uniform(22, 34)), grow * float(rng.uniform(6, 12))
        solids.append(
            ellipsoid((x, 0, z), (width, height, 14), shade((0.80, 0.84, 0.92), rng, 0.08))
        )
    for x, z in ring(rng, 7, distance, near=1.3 * grow, far=7 * grow, arc=1.3):
        height = grow * float(rng.uniform(3.4, 5.4))
        solids += _fir(x, z, height, shade((0.08, 0.24, 0.19), rng))
        cap = (height * 0.22, height * 0.30, height * 0.22)
        solids.append(ellipsoid((x, height * 0.83, z), cap, _SNOW))
    for x, z in strewn(rng, 7, distance):
        wide = float(rng.uniform(0.22, 0.46)) * distance
        solids.append(disc(x, z, (wide, wide * 0.42), (0.62, 0.69, 0.84), 0.04))
    return solids


def _fir(x: float, z: float, height: float, colour: Vector) -> list[Solid]:
    low, top = (height * 0.46, height * 0.56), (height * 0.32, height * 0.60)
    return [
        ellipsoid((x, height * 0.30, z), (low[0], low[1], low[0]), colour),
        ellipsoid((x, height * 0.64, z), (top[0], top[1], top[0]), colour),
    ]


def _canyon(rng: np.random.Generator, distance: float) -> list[Solid]:
    grow = grown(distance, 0.8)
    solids: list[Solid] = []
    for side in (-1, 1):
        for step in range(3):
            depth = (0.45 + 0.85 * step) * distance + 3.0 * step
            x = side * (1.30 * distance + 2.0 + 0.4 * step + float(rng.uniform(0, 1.0)))
            height = grow * float(rng.uniform(7, 12))
            red = shade((0.60, 0.21, 0.10), rng, 0.2)
            length = 0.85 * distance + 4.0
            for level, (share, inset) in enumerate(((0.38, 0.0), (0.72, 0.7), (1.0, 1.5))):
                tone = (red[0] * (1 - 0.16 * (level % 2)), red[1] * (1 + 0.3 * level), red[2])
                centre = (
                    x + side * (3 * grow + inset * grow),
                    height * share / 2,
                    depth + length / 2,
                )
                solids.append(box(centre, (6 * grow, height * share, length), tone))
    end = 3.2 * distance + 18
    for x, deep, width, share in ((-9, -9, 14, 0.9), (8, 8, 12, 1.2), (0, 0, 30, 0.5)):
        height = 9 * grow * share
        solids.append(
            box(
                (x * grow, height / 2, end + deep),
                (width * grow, height, 5),
                shade((0.56, 0.22, 0.12), rng),
            )
        )
    for x, z in ring(rng, 3, distance, near=1.0 * grow, far=2 * grow, arc=0.6):
        size = grow * float(rng.uniform(0.7, 1.3))
        solids.append(ellipsoid((x, 0.1, z), (size * 1.4, size, size), (0.42, 0.16, 0.09)))
    for x, z in strewn(rng, 8, distance):
        wide = float(rng.uniform(0.06, 0.3)) * distance
        solids.append(disc(x, z, (wide, wide * 0.5), shade((0.40, 0.14, 0.07), rng, 0.3), 0.07))
    return solids


def _mountains(rng: np.random.Generator, distance: float) -> list[Solid]:
    grow = grown(distance, 0.8)
    solids: list[Solid] = []
    for x, z in ring(rng, 5, distance, near=26 * grow, far=44 * grow, arc=1.45):
        solids += _peak(x, z, grow * float(rng.uniform(11, 18)), rng)
    for x, z in ring(rng, 4, distance, near=2.2 * grow, far=5 * grow, arc=1.2):
        size = grow * float(rng.uniform(1.2, 2.4))
        grey = shade((0.36, 0.36, 0.38), rng)
        rock = box((x, size * 0.3, z), (size * 1.5, size, size), grey, yaw=float(rng.uniform(0, 3)))
        solids.append(replace(rock, pitch=float(rng.uniform(0.15, 0.5))))
    for x, z in ring(rng, 5, distance, near=1.0 * grow, far=7 * grow, arc=1.2):
        height = grow * float(rng.uniform(3.0, 4.6))
        solids += _fir(x, z, height, shade((0.06, 0.20, 0.11), rng))
    for x, z in strewn(rng, 8, distance):
        wide = float(rng.uniform(0.06, 0.16)) * distance
        solids.append(disc(x, z, (wide, wide * 0.7), shade((0.48, 0.48, 0.50), rng, 0.25), 0.09))
    return solids


def _peak(x: float, z: float, height: float, rng: np.random.Generator) -> list[Solid]:
    """Return a mountain: a box stood on its edge, and its white cap."""
    grey = shade((0.24, 0.25, 0.31), rng, 0.12)
    yaw = -atan2(x, z)
    side = height * 0.7071
    rock = replace(box((x, 0, z), (2 * side, 2 * side, height * 0.9), grey, yaw=yaw), pitch=pi / 4)
    cap = side * 0.46
    top = height - cap * 1.4142 + 0.01 * height
    white = box((x, top, z), (2 * cap, 2 * cap, height * 0.92), _SNOW, yaw=yaw)
    return [rock, replace(white, pitch=pi / 4)]


def _moon(rng: np.random.Generator, distance: float) -> list[Solid]:
    grow = grown(distance)
    solids: list[Solid] = []
    for x, z in ring(rng, 4, distance, near=20 * grow, far=36 * grow, arc=1.6):
        width, height = grow * float(rng.uniform(18, 30)), grow * float(rng.uniform(3, 7))
        solids.append(ellipsoid((x, 0, z), (width, height, 12), shade((0.42, 0.42, 0.44), rng)))
    x, far = float(rng.uniform(-0.5, 0.5)), 3.2 * distance + 40
    high, size = 0.27 * far, 0.17 * far
    x *= far
    solids.append(glowing(ellipsoid((x, high, far), (size, size, size), (0.08, 0.28, 0.75)), 0.35))
    for dx, dy, land in ((-0.12, 0.12, (0.16, 0.45, 0.16)), (0.14, -0.10, (0.85, 0.90, 0.95))):
        spot = (x + dx * size, high + dy * size, far - 0.33 * size)
        solids.append(glowing(ellipsoid(spot, (size * 0.5, size * 0.3, size * 0.4), land), 0.35))
    for x, z in ring(rng, 1, distance, near=1.8 * grow, far=3.2 * grow, arc=0.6):
        solids += _lander(x, z, grow * 1.1)
    for x, z in ring(rng, 5, distance, near=1.2 * grow, far=3.5 * grow, arc=1.2):
        size = grow * float(rng.uniform(0.6, 1.6))
        solids.append(ellipsoid((x, 0.1, z), (size * 1.4, size, size), (0.30, 0.30, 0.32)))
    for x, z in strewn(rng, 6, distance):
        wide = float(rng.uniform(0.14, 0.36)) * distance
        solids.append(disc(x, z, (wide, wide), (0.60, 0.60, 0.62), 0.05))
        solids.append(disc(x, z, (wide * 0.8, wide * 0.8), (0.16, 0.16, 0.18), 0.07))
    return solids


def _lander(x: float, z: float, size: float) -> list[Solid]:
    gold, grey = (0.85, 0.58, 0.14), (0.62, 0.63, 0.66)
    legs = [
        replace(
            box(
                (x + side * 1.1 * size, 0.6 * size, z), (0.12 * size, 1.5 * size, 0.12 * size), grey
            ),
            pitch=side * 0.5,
        )
        for side in (-1, 1)
    ]
    return [
        cylinder((x, 1.2 * size, z), (2.0 * size, 0.9 * size, 2.0 * size), gold),
        ellipsoid((x, 2.0 * size, z), (1.5 * size, 1.3 * size, 1.5 * size), grey),
        *legs,
        box((x, 2.9 * size, z), (0.06 * size, 0.8 * size, 0.06 * size), grey),
    ]


BARREN: Final[dict[str, Place]] = {
    "desert": Place(Ground((0.80, 0.62, 0.38), (0.70, 0.52, 0.30)), _desert),
    "snow": Place(Ground((0.82, 0.85, 0.91), (0.71, 0.76, 0.86), 3.0), _snow),
    "canyon": Place(Ground((0.62, 0.28, 0.15), (0.50, 0.21, 0.11)), _canyon),
    "mountains": Place(Ground((0.36, 0.40, 0.30), (0.30, 0.30, 0.29), 2.0), _mountains),
    "moon": Place(Ground((0.46, 0.46, 0.47), (0.34, 0.34, 0.36), 1.6), _moon),
}
