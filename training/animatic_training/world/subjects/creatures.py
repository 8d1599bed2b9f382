"""Subjects on legs: person, horse, dog, elephant, dinosaur, robot."""

from __future__ import annotations

from math import pi
from typing import TYPE_CHECKING, Final

from animatic_training.world.solids import box, cylinder, ellipsoid
from animatic_training.world.subjects.parts import (
    BRAKE,
    CLOTH,
    IVORY,
    LAMP,
    METAL,
    SKIN,
    STEEL,
    Subject,
    X,
    dark_of,
    limb,
    shade,
    tint,
    turned,
    waving,
)

if TYPE_CHECKING:
    from animatic_training.world.solids import Solid, Vector

_TROT: Final = ((-1, -1, 0.0), (-1, 1, pi), (1, -1, pi), (1, 1, 0.0))
"""Four legs as (rear or fore, near or far, phase): diagonal pairs go together."""


def _eyes(x: float, y: float, z: float, size: float) -> list[Solid]:
    return [ellipsoid((x, y, side * z), (size, size, size), CLOTH) for side in (-1, 1)]


def _person(colour: Vector) -> list[Solid]:
    solids = [
        box((0, 1.66, 0), (0.46, 0.78, 0.86), colour),
        box((0, 1.12, 0), (0.52, 0.46, 0.74), colour),
        box((0, 1.30, 0), (0.54, 0.10, 0.78), CLOTH),
        ellipsoid((0.02, 2.36, 0), (0.56, 0.62, 0.54), SKIN),
        cylinder((0, 2.60, 0), (0.56, 0.20, 0.56), colour),
        box((0.30, 2.53, 0), (0.36, 0.06, 0.44), colour),
    ]
    for side, phase in ((-1, 0.0), (1, pi)):
        leg = [
            box((0, 0.55, side * 0.20), (0.30, 0.90, 0.28), CLOTH),
            box((0.09, 0.08, side * 0.20), (0.50, 0.16, 0.28), shade(colour, 0.6)),
        ]
        arm = [
            box((0, 1.58, side * 0.55), (0.24, 0.84, 0.22), colour),
            ellipsoid((0.02, 1.09, side * 0.55), (0.24, 0.26, 0.22), SKIN),
        ]
        solids += limb(leg, (0, 1.0, side * 0.20), 0.55, phase)
        solids += limb(arm, (0, 1.95, side * 0.55), 0.55, phase + pi)
    return solids


def _horse(colour: Vector) -> list[Solid]:
    dark = dark_of(colour, 0.35)
    solids = [
        ellipsoid((0, 1.42, 0), (2.30, 0.92, 0.84), colour),
        ellipsoid((-0.78, 1.46, 0), (0.90, 0.94, 0.86), colour),
        turned(box((1.05, 1.92, 0), (0.46, 1.15, 0.36), colour), pitch=-0.55),
        turned(box((0.83, 2.06, 0), (0.14, 1.10, 0.16), dark), pitch=-0.55),
        turned(box((1.56, 2.26, 0), (0.86, 0.36, 0.34), colour), pitch=-0.50),
        turned(box((1.86, 2.10, 0), (0.26, 0.32, 0.36), dark), pitch=-0.50),
    ]
    solids += [box((1.24, 2.56, side * 0.12), (0.12, 0.26, 0.09), dark) for side in (-1, 1)]
    tail = turned(box((-1.36, 1.18, 0), (0.18, 0.98, 0.20), dark), pitch=-0.35)
    solids += waving([tail], (-1.15, 1.65, 0), 0.4, axis=X)
    for end, side, phase in _TROT:
        x, z = end * 0.80, side * 0.27
        leg = [
            box((x, 0.70, z), (0.26, 1.10, 0.24), colour),
            box((x, 0.12, z), (0.30, 0.24, 0.28), dark),
        ]
        solids += limb(leg, (x, 1.30, z), 0.50, phase)
    return solids


def _dog(colour: Vector) -> list[Solid]:
    dark = dark_of(colour, 0.45)
    solids = [
        box((-0.05, 0.98, 0), (1.55, 0.58, 0.60), colour),
        ellipsoid((0.55, 1.02, 0), (0.80, 0.78, 0.70), colour),
        box((0.80, 1.34, 0), (0.34, 0.44, 0.40), BRAKE if colour[0] < 0.4 else (0.1, 0.3, 0.7)),
        ellipsoid((0.98, 1.66, 0), (0.80, 0.68, 0.66), colour),
        box((1.42, 1.54, 0), (0.52, 0.28, 0.34), tint(colour, 0.35)),
        ellipsoid((1.68, 1.64, 0), (0.18, 0.16, 0.20), CLOTH),
        *_eyes(1.28, 1.80, 0.18, 0.13),
    ]
    solids += [
        turned(box((0.86, 1.58, side * 0.38), (0.30, 0.58, 0.12), dark), roll=side * 0.15)
        for side in (-1, 1)
    ]
    tail = turned(box((-0.98, 1.52, 0), (0.17, 0.80, 0.17), colour), pitch=0.45)
    solids += waving([tail], (-0.80, 1.15, 0), 0.55, axis=X)
    for end, side, phase in _TROT:
        x, z = end * 0.60, side * 0.22
        leg = [
            box((x, 0.42, z), (0.25, 0.72, 0.23), colour),
            box((x + 0.05, 0.08, z), (0.34, 0.16, 0.25), dark),
        ]
        solids += limb(leg, (x, 0.80, z), 0.50, phase)
    return solids


def _elephant(colour: Vector) -> list[Solid]:
    trunk = [
        turned(ellipsoid((1.84, 1.66, 0), (0.46, 1.05, 0.46), colour), pitch=0.42),
        turned(ellipsoid((2.16, 1.00, 0), (0.36, 0.90, 0.36), colour), pitch=0.20),
        turned(ellipsoid((2.42, 0.66, 0), (0.66, 0.28, 0.28), colour), pitch=0.45),
    ]
    solids = [
        ellipsoid((-0.30, 1.66, 0), (2.70, 1.76, 1.56), colour),
        ellipsoid((1.18, 2.05, 0), (1.16, 1.20, 1.02), colour),
        *waving(trunk, (1.60, 2.00, 0), 0.14),
        *_eyes(1.58, 2.26, 0.36, 0.14),
    ]
    for side in (-1, 1):
        ear = turned(
            ellipsoid((0.86, 2.08, side * 0.82), (0.96, 1.22, 0.14), shade(colour, 0.72)),
            yaw=side * 0.45,
        )
        solids += waving([ear], (1.1, 2.1, side * 0.45), 0.22, pi / 2 - side * pi / 2)
        solids.append(
            turned(ellipsoid((1.86, 1.42, side * 0.34), (0.86, 0.14, 0.14), IVORY), pitch=-0.25)
        )
    solids += waving(
        [box((-1.66, 1.40, 0), (0.10, 0.90, 0.10), colour)], (-1.6, 1.9, 0), 0.3, axis=X
    )
    for end, side, phase in _TROT:
        x, z = -0.25 + end * 0.75, side * 0.42
        leg = [cylinder((x, 0.55, z), (0.52, 1.10, 0.52), colour)]
        solids += limb(leg, (x, 1.40, z), 0.35, phase)
    return solids


def _dinosaur(colour: Vector) -> list[Solid]:
    pale, dark = tint(colour, 0.35), shade(colour, 0.5)
    tail = [
        ellipsoid((-1.05, 1.45, 0), (1.50, 0.62, 0.56), colour),
        turned(ellipsoid((-1.85, 1.30, 0), (1.20, 0.34, 0.32), colour), pitch=0.20),
    ]
    head = [
        box((1.22, 2.52, 0), (1.00, 0.40, 0.56), colour),
        box((1.16, 2.20, 0), (0.84, 0.16, 0.50), pale),
        box((1.24, 2.32, 0), (0.88, 0.08, 0.50), IVORY),
        ellipsoid((0.76, 2.46, 0), (0.66, 0.68, 0.58), colour),
        *_eyes(1.05, 2.70, 0.24, 0.16),
    ]
    spikes = [
        turned(box((x, y, 0), (0.26, 0.26, 0.08), dark), pitch=pi / 4)
        for x, y in ((0.28, 2.42), (-0.12, 2.02), (-0.62, 1.80), (-1.20, 1.68))
    ]
    solids = [
        turned(ellipsoid((0.02, 1.50, 0), (1.60, 1.05, 0.86), colour), pitch=0.55),
        turned(ellipsoid((0.46, 2.10, 0), (0.54, 0.95, 0.50), colour), pitch=-0.40),
        *head,
        *spikes,
        *waving(tail, (-0.45, 1.45, 0), 0.38),
    ]
    for side, phase in ((-1, 0.0), (1, pi)):
        leg = [
            ellipsoid((-0.08, 1.02, side * 0.36), (0.70, 1.00, 0.40), colour),
            box((-0.04, 0.40, side * 0.38), (0.26, 0.72, 0.24), colour),
            box((0.12, 0.09, side * 0.38), (0.66, 0.18, 0.36), dark),
        ]
        solids += limb(leg, (-0.1, 1.35, side * 0.36), 0.45, phase)
        arm = turned(box((0.72, 1.52, side * 0.36), (0.46, 0.13, 0.13), colour), pitch=-0.55)
        solids += limb([arm], (0.5, 1.65, side * 0.36), 0.3, phase)
    return solids


def _robot(colour: Vector) -> list[Solid]:
    solids = [
        box((0, 1.52, 0), (0.66, 0.96, 1.00), colour),
        box((0.32, 1.60, 0), (0.08, 0.46, 0.62), STEEL),
        box((0.35, 1.66, -0.12), (0.08, 0.14, 0.14), LAMP),
        box((0.35, 1.66, 0.14), (0.08, 0.14, 0.14), BRAKE),
        cylinder((0, 2.06, 0), (0.34, 0.16, 0.34), STEEL),
        box((0, 2.42, 0), (0.66, 0.58, 0.78), colour),
        box((0.31, 2.46, 0), (0.10, 0.20, 0.62), (0.30, 0.95, 1.00)),
        cylinder((0, 2.86, 0), (0.06, 0.36, 0.06), STEEL),
        ellipsoid((0, 3.06, 0), (0.18, 0.18, 0.18), BRAKE),
        box((0, 0.98, 0), (0.48, 0.16, 0.66), STEEL),
    ]
    for side, phase in ((-1, 0.0), (1, pi)):
        leg = [
            box((0, 0.60, side * 0.26), (0.32, 0.72, 0.32), METAL),
            box((0.08, 0.15, side * 0.28), (0.70, 0.30, 0.44), colour),
        ]
        arm = [
            ellipsoid((0, 1.86, side * 0.64), (0.40, 0.40, 0.38), METAL),
            box((0, 1.40, side * 0.66), (0.30, 0.80, 0.28), colour),
            box((0.06, 0.92, side * 0.66), (0.40, 0.24, 0.14), STEEL),
        ]
        solids += limb(leg, (0, 0.95, side * 0.26), 0.42, phase)
        solids += limb(arm, (0, 1.86, side * 0.66), 0.42, phase + pi)
    return solids


CREATURES: Final[dict[str, Subject]] = {
    "person": Subject(_person, height=2.70, length=0.75, extent=2.7),
    "horse": Subject(_horse, height=2.69, length=3.45, extent=2.7),
    "dog": Subject(_dog, height=2.00, length=3.00, extent=2.2),
    "elephant": Subject(_elephant, height=2.70, length=4.50, extent=2.9),
    "dinosaur": Subject(_dinosaur, height=2.80, length=4.20, extent=2.9),
    "robot": Subject(_robot, height=3.15, length=0.90, extent=3.1),
}
