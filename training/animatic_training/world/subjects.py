"""The subjects: what each is built of, facing +x, standing on y = 0, two to four metres long.

Sizes are a toy shop's, not nature's: a person is as tall as a car is long, so that every
subject fills a frame alike and a shot size means the same for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi
from typing import TYPE_CHECKING, Final

from animatic_training.world.solids import Solid, Vector, box, ellipsoid

if TYPE_CHECKING:
    from collections.abc import Callable

PALETTE: Final[dict[str, Vector]] = {
    "red": (0.82, 0.05, 0.05),
    "orange": (0.95, 0.40, 0.02),
    "yellow": (0.95, 0.82, 0.06),
    "green": (0.08, 0.58, 0.12),
    "blue": (0.06, 0.18, 0.85),
    "purple": (0.48, 0.08, 0.65),
    "white": (0.93, 0.93, 0.93),
    "black": (0.04, 0.04, 0.05),
}
TYRE: Final = (0.06, 0.06, 0.07)
GLASS: Final = (0.16, 0.22, 0.28)
SKIN: Final = (0.80, 0.58, 0.44)
CLOTH: Final = (0.20, 0.20, 0.24)
METAL: Final = (0.45, 0.46, 0.48)
WICKER: Final = (0.42, 0.27, 0.13)
FLAME: Final = (1.00, 0.62, 0.12)
FILL: Final = 0.22


@dataclass(frozen=True)
class Subject:
    """One subject's build and how it moves."""

    build: Callable[[Vector], list[Solid]]
    """Colour -> solids in the subject's frame."""
    height: float
    """Metres from the ground (or its flying height) to its top."""
    extent: float
    """Metres it takes of the frame's height when a shot is sized on it."""
    altitude: float = 0.0
    """Metres above the ground that it keeps."""
    strides: float = 1.6
    """Gait cycles per second while it moves."""


def _wheels(x: float, z: float, radius: float) -> list[Solid]:
    return [
        ellipsoid((sx * x, radius, sz * z), (2 * radius, 2 * radius, 0.35), TYRE)
        for sx in (-1, 1)
        for sz in (-1, 1)
    ]


def _truck(colour: Vector) -> list[Solid]:
    return [
        box((-0.55, 1.45, 0), (2.5, 1.75, 1.5), colour),
        box((1.25, 1.05, 0), (0.95, 1.05, 1.4), colour),
        box((1.42, 1.28, 0), (0.66, 0.42, 1.46), GLASS),
        *_wheels(1.15, 0.68, 0.42),
    ]


def _car(colour: Vector) -> list[Solid]:
    return [
        box((0, 0.62, 0), (3.3, 0.62, 1.5), colour),
        box((-0.15, 1.12, 0), (1.7, 0.5, 1.3), GLASS),
        box((-0.15, 1.40, 0), (1.5, 0.12, 1.3), colour),
        *_wheels(1.02, 0.68, 0.40),
    ]


def _person(colour: Vector) -> list[Solid]:
    legs = [
        replace(box((0, 0.52, z), (0.30, 1.04, 0.30), CLOTH), swing=0.34, phase=p)
        for z, p in ((-0.2, 0.0), (0.2, pi))
    ]
    arms = [
        replace(box((0, 1.52, z), (0.22, 0.95, 0.20), colour), swing=0.26, phase=p)
        for z, p in ((-0.52, pi), (0.52, 0.0))
    ]
    return [
        box((0, 1.52, 0), (0.52, 1.05, 0.84), colour),
        ellipsoid((0.02, 2.34, 0), (0.54, 0.62, 0.54), SKIN),
        *legs,
        *arms,
    ]


def _horse(colour: Vector) -> list[Solid]:
    legs = [
        replace(box((x, 0.52, z), (0.22, 1.04, 0.22), colour), swing=0.30, phase=p)
        for x, z, p in ((-0.8, -0.26, 0.0), (-0.8, 0.26, pi), (0.8, -0.26, pi), (0.8, 0.26, 0.0))
    ]
    return [
        ellipsoid((0, 1.32, 0), (2.3, 0.95, 0.85), colour),
        box((1.02, 1.82, 0), (0.36, 0.95, 0.32), colour),
        box((1.32, 2.22, 0), (0.78, 0.34, 0.30), colour),
        box((-1.18, 1.15, 0), (0.16, 0.80, 0.16), CLOTH),
        *legs,
    ]


def _ball(colour: Vector) -> list[Solid]:
    return [ellipsoid((0, 1.0, 0), (2.0, 2.0, 2.0), colour)]


def _balloon(colour: Vector) -> list[Solid]:
    ropes = [box((x, 0.85, 0), (0.06, 0.75, 0.06), CLOTH) for x in (-0.28, 0.28)]
    return [
        ellipsoid((0, 2.15, 0), (2.1, 2.3, 2.1), colour),
        box((0, 0.28, 0), (0.72, 0.56, 0.72), WICKER),
        *ropes,
    ]


def _helicopter(colour: Vector) -> list[Solid]:
    rotor = [
        replace(box((0.35, 1.68, 0), size, METAL), spin=1.3)
        for size in ((3.4, 0.07, 0.2), (0.2, 0.07, 3.4))
    ]
    skids = [box((0.35, 0.05, z), (1.7, 0.10, 0.10), METAL) for z in (-0.5, 0.5)]
    return [
        ellipsoid((0.45, 0.80, 0), (1.9, 1.25, 1.2), colour),
        ellipsoid((0.95, 0.88, 0), (0.95, 0.75, 1.0), GLASS),
        box((-1.25, 0.98, 0), (1.9, 0.22, 0.2), colour),
        box((-2.1, 1.28, 0), (0.32, 0.72, 0.12), colour),
        box((0.35, 1.50, 0), (0.12, 0.36, 0.12), METAL),
        *skids,
        *rotor,
    ]


def _rocket(colour: Vector) -> list[Solid]:
    fins = [box((x, 0.55, 0), (0.42, 0.85, 0.12), METAL) for x in (-0.6, 0.6)]
    return [
        ellipsoid((0, 1.65, 0), (1.0, 3.3, 1.0), colour),
        box((0, 0.95, 0), (0.82, 1.1, 0.82), colour),
        ellipsoid((0.0, 2.05, -0.40), (0.42, 0.42, 0.3), GLASS),
        ellipsoid((0, 0.12, 0), (0.55, 0.8, 0.55), FLAME),
        *fins,
        box((0, 0.55, -0.55), (0.12, 0.85, 0.42), METAL),
    ]


REGISTRY: Final[dict[str, Subject]] = {
    "truck": Subject(_truck, height=2.35, extent=2.5),
    "car": Subject(_car, height=1.5, extent=2.1),
    "person": Subject(_person, height=2.65, extent=2.65),
    "horse": Subject(_horse, height=2.4, extent=2.5),
    "ball": Subject(_ball, height=2.0, extent=2.1),
    "balloon": Subject(_balloon, height=3.3, extent=3.1, altitude=0.6),
    "helicopter": Subject(_helicopter, height=1.75, extent=2.4, altitude=1.5),
    "rocket": Subject(_rocket, height=3.3, extent=3.3, altitude=0.3),
}


def build_subject(name: str, colour: str) -> list[Solid]:
    """Return a subject's solids in its own frame, lit by the set's fill light."""
    parts = REGISTRY[name].build(PALETTE[colour])
    return [replace(part, fill=FILL) for part in parts]
