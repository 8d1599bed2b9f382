"""What subjects share: materials, and the parts that move."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import pi
from typing import TYPE_CHECKING, Final

from animatic_training.world.solids import Motion, Solid, Vector, box, cylinder

if TYPE_CHECKING:
    from collections.abc import Callable

TYRE: Final[Vector] = (0.05, 0.05, 0.06)
GLASS: Final[Vector] = (0.13, 0.19, 0.26)
SKIN: Final[Vector] = (0.80, 0.56, 0.42)
CLOTH: Final[Vector] = (0.16, 0.16, 0.20)
METAL: Final[Vector] = (0.50, 0.51, 0.53)
STEEL: Final[Vector] = (0.22, 0.23, 0.25)
WICKER: Final[Vector] = (0.42, 0.27, 0.13)
WOOD: Final[Vector] = (0.40, 0.24, 0.11)
IVORY: Final[Vector] = (0.92, 0.88, 0.78)
FLAME: Final[Vector] = (1.00, 0.62, 0.12)
LAMP: Final[Vector] = (1.00, 0.93, 0.70)
BRAKE: Final[Vector] = (0.75, 0.04, 0.03)

X, Y, Z = 0, 1, 2
"""Axes a part turns about, in the subject's frame."""

WHEEL_TURNS: Final = -1.2
"""Turns a second of a wheel of 0.42 m radius, its top going forward: 54 degrees a frame at 8 frames
a second, below the 90 at which the bar across its hub would seem to run backwards."""


@dataclass(frozen=True)
class Subject:
    """One subject's build and its measures, all in metres."""

    build: Callable[[Vector], list[Solid]]
    """Colour -> solids in the subject's frame: facing +x, standing on y = 0."""
    height: float
    """From the ground (or its flying height) to its top."""
    length: float
    """Along x."""
    extent: float
    """What of the frame's height a shot is sized on."""
    altitude: float = 0.0
    """Height above the ground that it keeps."""


def shade(colour: Vector, gain: float) -> Vector:
    """Return a colour darkened (gain below 1)."""
    return (colour[0] * gain, colour[1] * gain, colour[2] * gain)


def dark_of(colour: Vector, gain: float) -> Vector:
    """Return the tone of manes, hooves and wing tips: darker, but grey on black."""
    return shade(colour, gain) if max(colour) > 0.1 else (0.28, 0.28, 0.30)


def tint(colour: Vector, share: float = 0.6) -> Vector:
    """Return a colour mixed with `share` of white."""
    red, green, blue = colour
    return (red + (1 - red) * share, green + (1 - green) * share, blue + (1 - blue) * share)


def accent(colour: Vector) -> Vector:
    """Return what a stripe on that colour is painted: ivory, or charcoal on a pale colour."""
    pale = min(colour) > 0.6
    return CLOTH if pale else IVORY


def turned(part: Solid, *, yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Solid:
    """Return a part with its angles set, radians."""
    return replace(part, yaw=yaw, pitch=pitch, roll=roll)


def axle(x: float, z: float, radius: float, width: float) -> list[Solid]:
    """Return a pair of wheels at +-z, a hub through both, and the bar that shows its turning."""
    motion = Motion(Z, (x, radius, 0.0), turns=WHEEL_TURNS * min(0.42 / radius, 1.2))
    wheel, across = (2 * radius, width, 2 * radius), 2 * z + width
    parts = [
        *(cylinder((x, radius, side * z), wheel, TYRE, roll=pi / 2) for side in (-1, 1)),
        cylinder((x, radius, 0), (1.2 * radius, across + 0.04, 1.2 * radius), METAL, roll=pi / 2),
        box((x, radius, 0), (1.1 * radius, 0.24 * radius, across + 0.08), STEEL),
    ]
    return [replace(part, motion=motion) for part in parts]


def limb(
    parts: list[Solid], pivot: Vector, swing: float, phase: float, *, axis: int = Z
) -> list[Solid]:
    """Return parts that swing together about a hip or shoulder while the subject travels."""
    motion = Motion(axis, pivot, swing=swing, phase=phase)
    return [replace(part, motion=motion) for part in parts]


def waving(
    parts: list[Solid], pivot: Vector, swing: float, phase: float = 0.0, *, axis: int = Y
) -> list[Solid]:
    """Return parts that swing together always: tails, wings, ears."""
    motion = Motion(axis, pivot, swing=swing, phase=phase, always=True)
    return [replace(part, motion=motion) for part in parts]


def rotor(
    hub: Vector, span: float, width: float, *, turns: float = 1.3, crossed: bool = False
) -> list[Solid]:
    """Return a rotor about y that always turns: one blade bar, or two crossed."""
    motion = Motion(Y, hub, turns=turns, always=True)
    sizes = [(span, 0.06, width), (width, 0.06, span)][: 2 if crossed else 1]
    return [replace(box(hub, size, STEEL), motion=motion) for size in sizes]
