"""Subjects that neither roll, walk nor fly by themselves: ball, sailboat, crate."""

from __future__ import annotations

from dataclasses import replace
from math import pi
from typing import TYPE_CHECKING, Final

from animatic_training.world.solids import Motion, box, cylinder, ellipsoid
from animatic_training.world.subjects.parts import (
    WOOD,
    Subject,
    Z,
    accent,
    shade,
    tint,
    turned,
)

if TYPE_CHECKING:
    from animatic_training.world.solids import Solid, Vector


def _ball(colour: Vector) -> list[Solid]:
    stripe = accent(colour)
    motion = Motion(Z, (0, 1.0, 0), turns=-0.45)
    parts = [
        ellipsoid((0, 1.0, 0), (2.0, 2.0, 2.0), colour),
        cylinder((0, 1.0, 0), (2.02, 0.24, 2.02), stripe),
        cylinder((0, 1.0, 0), (2.02, 0.24, 2.02), stripe, pitch=pi / 2),
        cylinder((0, 1.0, 0), (2.02, 0.24, 2.02), stripe, roll=pi / 2),
        ellipsoid((0, 1.0, -0.93), (0.70, 0.70, 0.20), stripe),
        ellipsoid((0, 1.0, 0.93), (0.70, 0.70, 0.20), stripe),
    ]
    return [replace(part, motion=motion) for part in parts]


def _sailboat(colour: Vector) -> list[Solid]:
    main = [
        box((-0.10 - length / 2, 1.30 + 0.36 * row, 0), (length, 0.37, 0.07), colour)
        for row, length in enumerate((1.55, 1.30, 1.05, 0.80, 0.55, 0.28))
    ]
    jib = [
        box((0.16 + length / 2, 1.22 + 0.36 * row, 0), (length, 0.37, 0.06), accent(colour))
        for row, length in enumerate((1.15, 0.86, 0.57, 0.28))
    ]
    return [
        box((-0.30, 0.55, 0), (2.60, 0.62, 1.10), colour),
        turned(box((1.00, 0.55, 0), (0.78, 0.62, 0.78), colour), yaw=pi / 4),
        box((-0.10, 0.20, 0), (2.20, 0.40, 0.50), shade(colour, 0.45)),
        box((-0.30, 0.84, 0), (2.64, 0.08, 1.14), accent(colour)),
        box((-0.35, 0.88, 0), (2.20, 0.06, 0.80), WOOD),
        box((0.02, 2.15, 0), (0.11, 2.70, 0.11), WOOD),
        box((-0.80, 1.06, 0), (1.70, 0.09, 0.09), WOOD),
        *main,
        *jib,
    ]


def _crate(colour: Vector) -> list[Solid]:
    pale, dark = tint(colour, 0.12), shade(colour, 0.72)
    slats = [box((0, y, 0), (1.90, 0.50, 1.90), colour) for y in (0.29, 0.95, 1.61)]
    posts = [
        box((sx * 0.90, 0.95, sz * 0.90), (0.26, 1.90, 0.26), pale)
        for sx in (-1, 1)
        for sz in (-1, 1)
    ]
    boards = [box((0, 1.90, z), (1.96, 0.10, 0.50), colour) for z in (-0.64, 0.0, 0.64)]
    return [
        box((0, 0.95, 0), (1.78, 1.80, 1.78), shade(WOOD, 0.4)),
        *slats,
        *posts,
        *boards,
        turned(box((0, 0.95, 0), (2.15, 0.24, 2.02), dark), pitch=0.72),
        turned(box((0, 0.95, 0), (2.02, 0.24, 2.15), dark), roll=0.72),
    ]


THINGS: Final[dict[str, Subject]] = {
    "ball": Subject(_ball, height=2.01, length=2.02, extent=2.1),
    "sailboat": Subject(_sailboat, height=3.50, length=3.20, extent=3.3),
    "crate": Subject(_crate, height=1.95, length=2.04, extent=2.1),
}
