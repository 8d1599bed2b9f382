"""Solids: the primitives that every subject and every place is built of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BOX: Final = 0
ELLIPSOID: Final = 1
CYLINDER: Final = 2
"""Round about its own y axis, flat at both ends; its half extents in x and z are its radii."""

Vector = tuple[float, float, float]

ORIGIN: Final[Vector] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Solid:
    """A solid in metres, x right, y up, z away from the camera.

    A subject's solids are given in its own frame: it faces +x and stands on y = 0.
    """

    kind: int
    centre: Vector
    half: Vector
    """Half extents along the solid's own axes."""
    colour: Vector
    """Linear albedo, 0 to 1."""
    yaw: float = 0.0
    """Rotation about y, radians: its front (+x) goes towards -z, the camera; applied last."""
    pitch: float = 0.0
    """Rotation about the solid's own z axis, radians: its front (+x) goes up; applied second."""
    roll: float = 0.0
    """Rotation about the solid's own x axis, radians: its +y goes towards +z; applied first."""
    motion: Motion | None = None
    fill: float = 0.0
    """Share of its albedo shown whatever the light: the set's own fill light on the subject."""


@dataclass(frozen=True)
class Motion:
    """How a part moves within its subject: it turns about an axis through a pivot.

    Either it goes round (`turns`) or it goes to and fro (`swing`).
    """

    axis: int
    """About the subject's own x (0), y (1) or z (2) axis; wheels and legs turn about z."""
    pivot: Vector
    """Metres, in the subject's frame."""
    turns: float = 0.0
    """Turns a second; of a wheel, of a subject that travels at its own usual speed."""
    swing: float = 0.0
    """Largest angle to either side, radians."""
    phase: float = 0.0
    """Where in the gait or turn it starts, radians."""
    always: bool = False
    """Whether it moves even while the subject does not travel (rotors, wings, tails)."""


def box(centre: Vector, size: Vector, colour: Vector, *, yaw: float = 0.0) -> Solid:
    """Return a box from its full size in metres."""
    return Solid(BOX, centre, _half(size), colour, yaw)


def ellipsoid(centre: Vector, size: Vector, colour: Vector) -> Solid:
    """Return an ellipsoid from its full axes in metres."""
    return Solid(ELLIPSOID, centre, _half(size), colour)


def cylinder(
    centre: Vector, size: Vector, colour: Vector, *, pitch: float = 0.0, roll: float = 0.0
) -> Solid:
    """Return a cylinder from its full diameter (x), length (y) and diameter (z) in metres.

    A wheel is one with roll = pi / 2: its axle lies along z.
    """
    return Solid(CYLINDER, centre, _half(size), colour, pitch=pitch, roll=roll)


def _half(size: Vector) -> Vector:
    return (size[0] / 2, size[1] / 2, size[2] / 2)
