"""Subjects in the air: balloon, helicopter, rocket, bird, airplane, drone."""

from __future__ import annotations

from dataclasses import replace
from math import pi
from typing import TYPE_CHECKING, Final

from animatic_training.world.solids import Motion, box, cylinder, ellipsoid
from animatic_training.world.subjects.parts import (
    CLOTH,
    FLAME,
    GLASS,
    METAL,
    STEEL,
    TYRE,
    WICKER,
    Subject,
    X,
    Z,
    accent,
    dark_of,
    rotor,
    shade,
    turned,
    waving,
)

if TYPE_CHECKING:
    from animatic_training.world.solids import Solid, Vector


def _balloon(colour: Vector) -> list[Solid]:
    ropes = [
        turned(box((x, 0.86, z), (0.06, 0.80, 0.06), CLOTH), pitch=-x * 0.9, roll=z * 0.9)
        for x in (-0.34, 0.34)
        for z in (-0.34, 0.34)
    ]
    return [
        ellipsoid((0, 2.22, 0), (2.20, 2.10, 2.20), colour),
        ellipsoid((0, 1.62, 0), (1.44, 1.50, 1.44), colour),
        cylinder((0, 2.22, 0), (2.23, 0.30, 2.23), accent(colour)),
        ellipsoid((0, 3.10, 0), (0.90, 0.40, 0.90), accent(colour)),
        box((0, 0.27, 0), (0.74, 0.54, 0.74), WICKER),
        box((0, 0.52, 0), (0.84, 0.10, 0.84), shade(WICKER, 0.6)),
        ellipsoid((0, 0.95, 0), (0.20, 0.40, 0.20), FLAME),
        *ropes,
    ]


def _helicopter(colour: Vector) -> list[Solid]:
    skids = [box((0.40, 0.06, z), (1.80, 0.10, 0.12), STEEL) for z in (-0.52, 0.52)]
    struts = [box((x, 0.22, 0), (0.10, 0.30, 0.96), STEEL) for x in (0.0, 0.8)]
    tail = Motion(Z, (-2.12, 1.50, -0.16), turns=1.3, always=True)
    return [
        ellipsoid((0.40, 0.90, 0), (2.00, 1.26, 1.20), colour),
        ellipsoid((0.98, 1.02, 0), (0.92, 0.72, 0.92), GLASS),
        turned(cylinder((-1.15, 1.08, 0), (0.26, 2.00, 0.26), colour), pitch=pi / 2),
        turned(box((-2.10, 1.44, 0), (0.40, 0.80, 0.12), colour), pitch=0.3),
        box((-1.90, 1.08, 0), (0.34, 0.08, 0.90), colour),
        replace(box((-2.12, 1.50, -0.16), (0.84, 0.14, 0.06), STEEL), motion=tail),
        box((0.30, 1.52, 0), (0.70, 0.22, 0.44), shade(colour, 0.7)),
        box((0.30, 1.68, 0), (0.14, 0.30, 0.14), STEEL),
        *rotor((0.30, 1.84, 0), 3.7, 0.22, turns=0.75, crossed=True),
        *skids,
        *struts,
    ]


def _rocket(colour: Vector) -> list[Solid]:
    fins = [
        turned(box((side * 0.66, 0.74, 0), (0.62, 0.70, 0.10), colour), pitch=-side * 0.55)
        for side in (-1, 1)
    ]
    fins += [
        turned(box((0, 0.74, side * 0.66), (0.10, 0.70, 0.62), colour), roll=side * 0.55)
        for side in (-1, 1)
    ]
    windows = [
        turned(cylinder((0.0, 2.20, 0), (0.40, 1.04, 0.40), GLASS), roll=pi / 2),
        turned(cylinder((0.0, 2.20, 0), (0.40, 1.04, 0.40), GLASS), pitch=pi / 2),
    ]
    return [
        cylinder((0, 1.60, 0), (1.00, 1.80, 1.00), colour),
        ellipsoid((0, 2.48, 0), (1.00, 1.90, 1.00), colour),
        ellipsoid((0, 3.20, 0), (0.42, 0.64, 0.42), accent(colour)),
        cylinder((0, 1.70, 0), (1.03, 0.18, 1.03), accent(colour)),
        cylinder((0, 0.60, 0), (0.70, 0.30, 0.70), STEEL),
        ellipsoid((0, 0.26, 0), (0.56, 0.90, 0.56), FLAME),
        *windows,
        *fins,
    ]


def _bird(colour: Vector) -> list[Solid]:
    dark = dark_of(colour, 0.5)
    solids = [
        turned(ellipsoid((0, 0.34, 0), (1.60, 0.62, 0.60), colour), pitch=0.12),
        ellipsoid((0.80, 0.60, 0), (0.60, 0.56, 0.52), colour),
        turned(ellipsoid((1.20, 0.56, 0), (0.56, 0.18, 0.20), (0.95, 0.55, 0.05)), pitch=-0.15),
        ellipsoid((0.96, 0.70, -0.20), (0.12, 0.12, 0.12), TYRE),
        ellipsoid((0.96, 0.70, 0.20), (0.12, 0.12, 0.12), TYRE),
        turned(box((-0.98, 0.28, 0), (0.74, 0.07, 0.40), colour), yaw=0.22),
        turned(box((-0.98, 0.27, 0), (0.74, 0.07, 0.40), dark), yaw=-0.22),
    ]
    for side in (-1, 1):
        wing = [
            box((0.05, 0.48, side * 0.72), (0.84, 0.08, 1.10), colour),
            turned(box((-0.10, 0.50, side * 1.52), (0.60, 0.07, 0.80), dark), yaw=side * 0.35),
        ]
        solids += waving(wing, (0.05, 0.46, side * 0.18), 0.60, pi / 2 - side * pi / 2, axis=X)
    return solids


def _airplane(colour: Vector) -> list[Solid]:
    nose = Motion(X, (1.92, 0.92, 0), turns=1.3, always=True)
    wheels = [
        cylinder((0.70, 0.20, side * 0.62), (0.40, 0.16, 0.40), TYRE, roll=pi / 2)
        for side in (-1, 1)
    ]
    struts = [box((0.66, 0.45, side * 0.50), (0.10, 0.50, 0.10), STEEL) for side in (-1, 1)]
    tips = [box((0.30, 0.80, side * 1.86), (0.92, 0.13, 0.36), accent(colour)) for side in (-1, 1)]
    return [
        ellipsoid((-0.10, 0.92, 0), (4.00, 0.84, 0.80), colour),
        cylinder((1.40, 0.92, 0), (0.74, 0.80, 0.74), colour, pitch=pi / 2),
        box((0.30, 0.80, 0), (0.90, 0.11, 4.00), colour),
        *tips,
        ellipsoid((0.20, 1.30, 0), (1.00, 0.50, 0.50), GLASS),
        turned(box((-1.76, 1.46, 0), (0.54, 0.90, 0.10), colour), pitch=0.35),
        box((-1.72, 1.02, 0), (0.54, 0.08, 1.50), colour),
        ellipsoid((1.90, 0.92, 0), (0.44, 0.28, 0.28), accent(colour)),
        replace(box((1.92, 0.92, 0), (0.07, 1.50, 0.16), STEEL), motion=nose),
        *struts,
        *wheels,
    ]


def _drone(colour: Vector) -> list[Solid]:
    arms = [
        turned(box((0, 0.66, 0), (2.60, 0.20, 0.26), colour), yaw=yaw) for yaw in (pi / 4, -pi / 4)
    ]
    solids = [
        box((0, 0.64, 0), (1.20, 0.44, 0.70), colour),
        ellipsoid((0.05, 0.86, 0), (1.05, 0.50, 0.62), colour),
        *arms,
        ellipsoid((0.50, 0.30, 0), (0.42, 0.42, 0.42), TYRE),
        cylinder((0.68, 0.28, 0), (0.20, 0.16, 0.20), METAL, pitch=pi / 2),
    ]
    solids += [box((0, 0.05, z), (1.10, 0.09, 0.09), STEEL) for z in (-0.40, 0.40)]
    solids.append(box((-0.34, 0.26, 0), (0.08, 0.40, 0.86), STEEL))
    for x, z in ((-0.92, -0.92), (-0.92, 0.92), (0.92, -0.92), (0.92, 0.92)):
        solids.append(cylinder((x, 0.72, z), (0.42, 0.46, 0.42), colour))
        solids += rotor((x, 1.00, z), 1.30, 0.16, turns=1.3 if x * z > 0 else -1.3)
    return solids


AIRCRAFT: Final[dict[str, Subject]] = {
    "balloon": Subject(_balloon, height=3.30, length=2.23, extent=3.2, altitude=0.7),
    "helicopter": Subject(_helicopter, height=1.90, length=4.50, extent=2.4, altitude=1.5),
    "rocket": Subject(_rocket, height=3.50, length=2.00, extent=3.5, altitude=0.2),
    "bird": Subject(_bird, height=0.92, length=2.80, extent=2.0, altitude=1.9),
    "airplane": Subject(_airplane, height=1.90, length=4.25, extent=2.5, altitude=1.4),
    "drone": Subject(_drone, height=1.10, length=3.10, extent=2.0, altitude=1.6),
}
