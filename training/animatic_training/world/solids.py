"""Solids: the two primitives every subject and every place is built of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BOX: Final = 0
ELLIPSOID: Final = 1

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Solid:
    """A box or ellipsoid in metres, x right, y up, z away from the camera.

    A subject's solids are given in its own frame: it faces +x and stands on y = 0.
    """

    kind: int
    centre: Vector
    half: Vector
    """Half extents along the solid's own axes."""
    colour: Vector
    """Linear albedo, 0 to 1."""
    yaw: float = 0.0
    """Rotation about y, radians, counter-clockwise seen from above."""
    swing: float = 0.0
    """Metres this part swings along its subject's facing while the subject moves (legs, arms)."""
    phase: float = 0.0
    """Where in the gait the swing starts, radians."""
    spin: float = 0.0
    """Turns per second about y (rotors)."""
    fill: float = 0.0
    """Share of its albedo shown whatever the light: the set's own fill light on the subject."""


def box(centre: Vector, size: Vector, colour: Vector, *, yaw: float = 0.0) -> Solid:
    """Return a box from its full size in metres."""
    half = (size[0] / 2, size[1] / 2, size[2] / 2)
    return Solid(BOX, centre, half, colour, yaw)


def ellipsoid(centre: Vector, size: Vector, colour: Vector) -> Solid:
    """Return an ellipsoid from its full axes in metres."""
    half = (size[0] / 2, size[1] / 2, size[2] / 2)
    return Solid(ELLIPSOID, centre, half, colour)
