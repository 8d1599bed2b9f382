"""Subjects on wheels: truck, car, bus, motorcycle, tractor."""

from __future__ import annotations

from dataclasses import replace
from math import pi
from typing import TYPE_CHECKING, Final

from animatic_training.world.solids import Motion, box, cylinder, ellipsoid
from animatic_training.world.subjects.parts import (
    BRAKE,
    GLASS,
    LAMP,
    METAL,
    STEEL,
    TYRE,
    Subject,
    Z,
    accent,
    axle,
    shade,
    turned,
)

if TYPE_CHECKING:
    from animatic_training.world.solids import Solid, Vector


def _lights(x: float, y: float, z: float, back: float) -> list[Solid]:
    """Return two head lamps at (x, y, +-z) and one bar of tail lights at x = back."""
    lamps = [box((x, y, side * z), (0.12, 0.20, 0.28), LAMP) for side in (-1, 1)]
    return [*lamps, box((back, y, 0), (0.08, 0.16, 2 * z + 0.2), BRAKE)]


def _truck(colour: Vector) -> list[Solid]:
    return [
        box((-0.62, 1.50, 0), (2.45, 1.75, 1.6), colour),
        box((-0.62, 0.86, 0), (2.49, 0.20, 1.64), accent(colour)),
        box((-0.62, 2.37, 0), (2.05, 0.06, 1.10), shade(colour, 0.7)),
        box((0.0, 0.52, 0), (3.5, 0.22, 1.2), STEEL),
        box((1.24, 1.14, 0), (1.05, 1.20, 1.46), colour),
        turned(box((1.70, 1.44, 0), (0.12, 0.56, 1.30), GLASS), pitch=0.16),
        box((1.30, 1.44, 0), (0.52, 0.46, 1.50), GLASS),
        box((1.80, 0.56, 0), (0.16, 0.24, 1.46), METAL),
        *_lights(1.76, 0.84, 0.52, -1.82),
        *axle(1.18, 0.66, 0.44, 0.32),
        *axle(-1.12, 0.66, 0.44, 0.32),
    ]


def _car(colour: Vector) -> list[Solid]:
    return [
        box((0, 0.60, 0), (3.45, 0.46, 1.56), colour),
        ellipsoid((0.95, 0.74, 0), (1.70, 0.52, 1.46), colour),
        ellipsoid((-1.20, 0.76, 0), (1.10, 0.46, 1.46), colour),
        box((-0.25, 1.08, 0), (1.50, 0.50, 1.30), GLASS),
        turned(box((0.60, 1.03, 0), (0.86, 0.06, 1.28), GLASS), pitch=-0.70),
        turned(box((-1.06, 1.04, 0), (0.72, 0.06, 1.28), GLASS), pitch=0.75),
        box((-0.25, 1.36, 0), (1.50, 0.10, 1.36), colour),
        box((-0.20, 1.06, 0), (0.10, 0.54, 1.34), colour),
        box((0, 0.42, 0), (3.55, 0.12, 1.50), STEEL),
        *_lights(1.70, 0.66, 0.55, -1.71),
        *axle(1.08, 0.68, 0.40, 0.30),
        *axle(-1.08, 0.68, 0.40, 0.30),
    ]


def _bus(colour: Vector) -> list[Solid]:
    pillars = [box((x, 1.52, 0), (0.13, 0.64, 1.66), colour) for x in (-1.1, -0.2, 0.7)]
    return [
        box((0, 0.82, 0), (4.2, 0.88, 1.64), colour),
        box((0, 1.52, 0), (4.1, 0.60, 1.58), GLASS),
        box((0, 1.98, 0), (4.2, 0.34, 1.64), colour),
        box((-0.30, 2.17, 0), (1.90, 0.14, 0.80), accent(colour)),
        box((0, 0.78, 0), (4.22, 0.14, 1.67), accent(colour)),
        box((-1.98, 1.52, 0), (0.24, 0.64, 1.66), colour),
        *pillars,
        box((2.06, 1.48, 0), (0.12, 0.64, 1.40), GLASS),
        box((2.09, 1.98, 0), (0.10, 0.22, 1.00), LAMP),
        *_lights(2.08, 0.66, 0.58, -2.09),
        *axle(1.25, 0.70, 0.40, 0.30),
        *axle(-1.25, 0.70, 0.40, 0.30),
    ]


def _motorcycle(colour: Vector) -> list[Solid]:
    wheels: list[Solid] = []
    for x in (-1.0, 1.05):
        motion = Motion(Z, (x, 0.55, 0), turns=-1.0)
        tyre = cylinder((x, 0.55, 0), (1.10, 0.24, 1.10), TYRE, roll=pi / 2)
        rim = cylinder((x, 0.55, 0), (0.80, 0.28, 0.80), colour, roll=pi / 2)
        spoke = box((x, 0.55, 0), (0.78, 0.13, 0.32), STEEL)
        wheels += [replace(part, motion=motion) for part in (tyre, rim, spoke)]
    return [
        *wheels,
        turned(ellipsoid((0.20, 1.18, 0), (1.10, 0.56, 0.50), colour), pitch=0.15),
        turned(box((-0.58, 1.12, 0), (0.80, 0.16, 0.38), TYRE), pitch=-0.10),
        turned(ellipsoid((-1.12, 1.24, 0), (0.90, 0.32, 0.40), colour), pitch=-0.30),
        box((0.02, 0.54, 0), (0.80, 0.40, 0.40), STEEL),
        box((-0.05, 0.86, 0), (1.20, 0.34, 0.44), colour),
        turned(box((0.84, 1.02, 0), (0.11, 1.20, 0.34), METAL), pitch=0.38),
        turned(ellipsoid((0.78, 1.32, 0), (0.50, 0.72, 0.62), colour), pitch=0.38),
        ellipsoid((1.03, 1.40, 0), (0.16, 0.24, 0.28), LAMP),
        box((0.52, 1.58, 0), (0.12, 0.09, 1.16), TYRE),
        turned(box((1.10, 1.14, 0), (0.62, 0.08, 0.30), colour), pitch=-0.10),
        cylinder((-0.60, 0.42, -0.27), (0.17, 1.30, 0.17), METAL, pitch=pi / 2 + 0.10),
        cylinder((-0.60, 0.42, 0.27), (0.17, 1.30, 0.17), METAL, pitch=pi / 2 + 0.10),
    ]


def _tractor(colour: Vector) -> list[Solid]:
    rims = [
        cylinder((-0.75, 0.95, side * 0.88), (1.15, 0.56, 1.15), colour, roll=pi / 2)
        for side in (-1, 1)
    ]
    fenders = [box((-0.75, 1.96, side * 0.86), (1.30, 0.12, 0.56), colour) for side in (-1, 1)]
    return [
        *axle(-0.75, 0.88, 0.95, 0.50),
        *rims,
        *axle(1.30, 0.66, 0.48, 0.32),
        box((0.80, 1.20, 0), (1.70, 0.72, 0.84), colour),
        cylinder((0.80, 1.52, 0), (0.84, 1.70, 0.40), colour, pitch=pi / 2),
        box((1.66, 1.10, 0), (0.08, 0.42, 0.46), STEEL),
        box((-0.70, 1.35, 0), (1.30, 0.90, 1.24), colour),
        box((-0.70, 2.15, 0), (1.10, 0.80, 1.06), GLASS),
        box((-0.70, 2.60, 0), (1.40, 0.14, 1.36), colour),
        *fenders,
        cylinder((1.05, 2.10, 0.18), (0.15, 1.00, 0.15), STEEL),
        box((0.35, 0.75, 0), (1.70, 0.30, 0.50), STEEL),
    ]


VEHICLES: Final[dict[str, Subject]] = {
    "truck": Subject(_truck, height=2.40, length=3.80, extent=2.6),
    "car": Subject(_car, height=1.41, length=3.60, extent=2.2),
    "bus": Subject(_bus, height=2.24, length=4.30, extent=2.7),
    "motorcycle": Subject(_motorcycle, height=1.65, length=3.20, extent=2.1),
    "tractor": Subject(_tractor, height=2.67, length=3.50, extent=2.8),
}
