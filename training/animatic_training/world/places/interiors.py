"""Rooms: warehouse, living room, corridor, studio.

A room is as large as the shot needs, and its furniture grows with it, as in a doll's house. It has
no ceiling but the sky that `lighting` paints for it: a slab would take the light away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from animatic_training.world.places.layout import (
    FRONT,
    Ground,
    Place,
    clear,
    disc,
    glowing,
    shade,
    slab,
    strewn,
)
from animatic_training.world.solids import CYLINDER, Solid, Vector, box

if TYPE_CHECKING:
    import numpy as np

_WARM: Final[Vector] = (1.00, 0.86, 0.55)
_BLACK: Final[Vector] = (0.05, 0.05, 0.06)
_THICK: Final = 0.3
"""Metres of a wall."""


@dataclass(frozen=True)
class _Room:
    """A room with walls on all sides; what stands in it is measured in its own units."""

    distance: float
    unit: float
    """Metres of one unit: what a metre is in a room for a subject of a person's true size."""
    deep: float
    """Units between the clear room and the back wall."""

    @property
    def back(self) -> float:
        return clear(self.distance) + self.deep * self.unit

    @property
    def front(self) -> float:
        """The wall behind the camera, metres along z."""
        return -(FRONT * self.distance + 1.0)

    @property
    def side(self) -> float:
        return FRONT * self.distance + 1.2

    @property
    def high(self) -> float:
        return 1.35 * self.distance + 1.5

    def walls(self, colour: Vector) -> list[Solid]:
        """Return the walls to the left, to the right and behind the camera."""
        depth, middle = self.back - self.front, (self.back + self.front) / 2
        beside = [
            box((x, self.high / 2, middle), (_THICK, self.high, depth), colour)
            for x in (-self.side, self.side)
        ]
        return [*beside, self._across(self.front, colour)]

    def back_wall(self, colour: Vector) -> Solid:
        """Return the back wall without a window."""
        return self._across(self.back + _THICK / 2, colour)

    def window_wall(self, x: float, colour: Vector) -> list[Solid]:
        """Return the back wall around a window at x units, and the window's cross.

        The window is an opening: what it shows is the sky.
        """
        middle, half = x * self.unit, 1.5 * self.unit
        low, top, z = 1.5 * self.unit, 4.2 * self.unit, self.back + _THICK / 2
        left, right = middle - half + self.side, self.side - middle - half
        pieces = [  # x, width, from, to
            (left / 2 - self.side, left, 0.0, self.high),
            (self.side - right / 2, right, 0.0, self.high),
            (middle, 2 * half, 0.0, low),
            (middle, 2 * half, top, self.high),
        ]
        wall = [
            box((at, (y0 + y1) / 2, z), (width, y1 - y0, _THICK), colour)
            for at, width, y0, y1 in pieces
        ]
        frame, bar = (0.90, 0.88, 0.84), 0.14 * self.unit
        centre = (middle, (low + top) / 2, z)
        return [
            *wall,
            box(centre, (bar, top - low, _THICK), frame),
            box(centre, (2 * half, bar, _THICK), frame),
        ]

    def piece(self, place: Vector, size: Vector, colour: Vector) -> Solid:
        """Return a box in units; its place is (x, y, how far before the back wall)."""
        x, y, before = (self.unit * value for value in place)
        width, height, depth = (self.unit * value for value in size)
        return box((x, y, self.back - before), (width, height, depth), colour)

    def post(self, x: float, before: float, width: float, top: float, colour: Vector) -> Solid:
        """Return an upright round post from the floor, in units."""
        solid = self.piece((x, top / 2, before), (width, top, width), colour)
        return replace(solid, kind=CYLINDER)

    def _across(self, z: float, colour: Vector) -> Solid:
        return box((0, self.high / 2, z), (2 * self.side, self.high, _THICK), colour)


def _warehouse(rng: np.random.Generator, distance: float) -> list[Solid]:
    room = _Room(distance, distance / 3.8, deep=1.6)
    wall, rack, upright = (0.40, 0.43, 0.46), (0.85, 0.32, 0.06), (0.10, 0.22, 0.50)
    solids = [*room.walls(wall), room.back_wall(wall)]
    shelves = (0.9, 2.3, 3.7)
    for x in (-4.0, 0.0, 4.0):
        solids += [room.piece((x, y, 0.7), (3.8, 0.14, 1.1), rack) for y in shelves]
        solids.append(room.piece((x - 1.95, 2.2, 1.3), (0.16, 4.4, 0.14), upright))
        for _ in range(3):
            size = float(rng.uniform(0.7, 1.15))
            on = (0.0, *(y + 0.07 for y in shelves))[int(rng.integers(4))]
            at = (x + float(rng.uniform(-1.2, 1.2)), on + size / 2, 0.7)
            carton = shade((0.58, 0.38, 0.20), rng, 0.25)
            solids.append(room.piece(at, (1.1 * size, size, size), carton))
    girder = (2 * room.side, 0.05 * distance, 0.024 * distance)
    solids += [
        box((0, room.high - 0.2, (0.9 - 0.75 * step) * distance), girder, (0.25, 0.26, 0.28))
        for step in range(3)
    ]
    yellow, line = (0.95, 0.75, 0.05), 0.03 * distance
    solids.append(slab(0, 0.34 * distance, (3.2 * distance, line), yellow))
    lane = (line, 2.2 * distance)
    solids += [slab(side * 0.58 * distance, 0, lane, yellow) for side in (-1, 1)]
    return solids


def _living_room(rng: np.random.Generator, distance: float) -> list[Solid]:
    room = _Room(distance, distance / 3.8, deep=1.8)
    paints: tuple[Vector, ...] = ((0.74, 0.66, 0.52), (0.50, 0.62, 0.58), (0.72, 0.55, 0.48))
    covers: tuple[Vector, ...] = ((0.48, 0.16, 0.14), (0.14, 0.30, 0.34), (0.42, 0.34, 0.20))
    paint, cover = paints[int(rng.integers(3))], covers[int(rng.integers(3))]
    side = float(rng.choice((-1.0, 1.0)))
    sofa, lamp, shelf = -2.1 * side, 0.55 * side, 5.1 * side
    books: tuple[Vector, ...] = ((0.60, 0.12, 0.10), (0.10, 0.35, 0.25), (0.15, 0.22, 0.50))
    shade_of_lamp = room.piece((lamp, 2.4, 0.9), (0.8, 0.6, 0.8), _WARM)
    return [
        *room.walls(paint),
        *room.window_wall(2.6 * side, paint),
        room.piece((sofa, 0.45, 0.9), (3.4, 0.55, 1.1), cover),
        room.piece((sofa, 0.95, 0.45), (3.4, 1.0, 0.35), cover),
        *(room.piece((sofa + x, 0.6, 0.9), (0.4, 0.9, 1.2), cover) for x in (-1.75, 1.75)),
        room.piece((sofa + 0.9, 0.95, 0.9), (0.6, 0.6, 0.3), (0.90, 0.70, 0.20)),
        room.piece((sofa, 2.5, 0.05), (1.9, 1.3, 0.12), (0.30, 0.18, 0.08)),
        room.piece((sofa, 2.5, 0.10), (1.6, 1.0, 0.12), (0.25, 0.48, 0.60)),
        room.piece((sofa - 0.2, 2.3, 0.14), (0.8, 0.4, 0.10), (0.85, 0.60, 0.25)),
        room.post(lamp, 0.9, 0.08, 2.3, (0.20, 0.16, 0.12)),
        glowing(replace(shade_of_lamp, kind=CYLINDER), 0.85),
        room.piece((shelf, 1.7, 0.35), (1.7, 3.4, 0.6), (0.28, 0.16, 0.08)),
        *(
            room.piece((shelf, 0.6 + 0.9 * row, 0.5), (1.4, 0.55, 0.5), tone)
            for row, tone in enumerate(books)
        ),
        *_rug(distance, rng),
    ]


def _rug(distance: float, rng: np.random.Generator) -> list[Solid]:
    """Return a bordered rug with a medallion, where the subject stands."""
    tones: tuple[Vector, ...] = ((0.50, 0.09, 0.08), (0.55, 0.24, 0.06), (0.30, 0.10, 0.24))
    tone, pale, dark = tones[int(rng.integers(3))], (0.88, 0.80, 0.62), (0.10, 0.12, 0.20)
    return [
        slab(0, 0, (1.16 * distance, 0.74 * distance), pale, top=0.01),
        slab(0, 0, (1.12 * distance, 0.70 * distance), dark, top=0.02),
        slab(0, 0, (0.98 * distance, 0.57 * distance), tone, top=0.03),
        disc(0, 0, (0.74 * distance, 0.40 * distance), pale, 0.04),
        disc(0, 0, (0.60 * distance, 0.30 * distance), dark, 0.05),
    ]


def _corridor(rng: np.random.Generator, distance: float) -> list[Solid]:
    unit, end = distance / 5, 7 * distance
    side, high = FRONT * distance + 0.8, 1.35 * distance + 1.5
    paint: Vector = ((0.66, 0.70, 0.62), (0.62, 0.66, 0.72))[int(rng.integers(2))]
    dado = (paint[0] * 0.45, paint[1] * 0.55, paint[2] * 0.60)
    solids: list[Solid] = []
    for x in (-side, side):
        solids.append(box((x, high / 2, 0), (_THICK, high, 2 * end), paint))
        solids.append(box((x, 0.9 * unit, 0), (0.42, 1.8 * unit, 2 * end), dado))
        for step in range(5):
            door = box(
                (x, 2.0 * unit, (0.2 + 1.15 * step) * distance),
                (0.6, 4.0 * unit, 2.2 * unit),
                shade((0.42, 0.24, 0.12), rng, 0.1),
            )
            solids.append(door)
    solids += [box((0, high / 2, z), (2 * side, high, _THICK), dado) for z in (-end, end)]
    pane = box((0, 0.36 * high, end - 0.3), (0.7 * side, 0.5 * high, 0.3), (0.8, 0.9, 1.0))
    solids.append(glowing(pane, 0.5))
    lamp = (0.55 * distance, 0.03 * distance, 0.10 * distance)
    solids += [
        glowing(box((0, high - 0.1, (0.9 + step) * distance), lamp, _WARM), 1.0)
        for step in range(6)
    ]
    solids.append(slab(0, 0, (0.95 * distance, 2 * end), (0.80, 0.62, 0.26), top=0.02))
    solids.append(slab(0, 0, (0.86 * distance, 2 * end), (0.46, 0.08, 0.10), top=0.03))
    return solids


def _studio(rng: np.random.Generator, distance: float) -> list[Solid]:
    room = _Room(distance, distance / 5, deep=1.6)  # of which only the places in it are taken
    solids: list[Solid] = []
    for side in (-1, 1):
        x, before, high = side * 5.0, 2.6, float(rng.uniform(3.0, 3.6))
        case = room.piece((x, high, before), (1.7, 1.3, 0.4), _BLACK)
        face = room.piece(
            (x - side * 0.08, high, before + 0.14), (1.5, 1.1, 0.4), (1.0, 0.98, 0.94)
        )
        leg = room.piece((x, 0.10, before), (1.5, 0.1, 0.1), _BLACK)
        solids += [
            room.post(x, before, 0.10, high, _BLACK),
            replace(leg, yaw=0.6),
            replace(leg, yaw=-0.6),
            replace(case, yaw=side * 0.5),
            replace(glowing(face, 0.8), yaw=side * 0.5),
        ]
        cable = (0.02 * distance, 1.4 * distance)
        solids.append(slab(side * 0.66 * distance, 0.2 * distance, cable, _BLACK, yaw=side * 0.3))
    x = float(rng.choice((-1.0, 1.0))) * 2.7
    seat = room.piece((x, 0.9, 1.0), (0.8, 0.14, 0.8), (0.50, 0.32, 0.18))
    solids += [replace(seat, kind=CYLINDER), room.post(x, 1.0, 0.16, 0.9, _BLACK)]
    solids.append(room.post(-x, 0.8, 0.9, 2.0, (0.42, 0.43, 0.45)))
    tapes: tuple[Vector, ...] = ((0.90, 0.20, 0.10), (0.10, 0.40, 0.80))
    strip = (0.16 * distance, 0.035 * distance)
    solids += [
        slab(x, z, strip, tapes[number % 2], top=0.015, yaw=yaw)
        for number, (x, z) in enumerate(strewn(rng, 4, distance))
        for yaw in (0.785, -0.785)
    ]
    return solids


INTERIORS: Final[dict[str, Place]] = {
    "warehouse": Place(Ground((0.42, 0.42, 0.41), (0.34, 0.34, 0.34), 3.0), _warehouse),
    "living_room": Place(Ground((0.46, 0.28, 0.14), (0.38, 0.22, 0.10), 1.2), _living_room),
    "corridor": Place(Ground((0.56, 0.56, 0.52), (0.50, 0.50, 0.47), 1.0), _corridor),
    "studio": Place(Ground((0.80, 0.80, 0.80), (0.76, 0.76, 0.76), 4.0), _studio),
}
