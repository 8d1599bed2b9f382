"""Solids as arrays, and a subject's on its path: how its parts stand and move in every frame."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import TYPE_CHECKING, Final

import numpy as np

from animatic_training.world.solids import BOX, CYLINDER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animatic_training.world.solids import Motion, Solid
    from animatic_training.world.staging import Path

GAIT: Final = 1.6
"""Steps, flaps and wags a second of what swings."""

_ACROSS: Final = np.array(
    [
        [[0, 0, 0], [0, 0, -1], [0, 1, 0]],
        [[0, 0, 1], [0, 0, 0], [-1, 0, 0]],
        [[0, -1, 0], [1, 0, 0], [0, 0, 0]],
    ],
    np.float64,
)
"""[3, 3, 3]: what a small turn about the x, y or z axis adds to a vector."""


@dataclass(frozen=True)
class Parts:
    """Solids as arrays, in the frame that they are given in."""

    kind: np.ndarray  # uint8 [S]
    centre: np.ndarray  # float32 [S, 3]
    half: np.ndarray  # float32 [S, 3]
    turn: np.ndarray  # float32 [S, 3, 3]: rows are a solid's own axes
    colour: np.ndarray  # float32 [S, 3]
    fill: np.ndarray  # float32 [S]
    solids: Sequence[Solid]


def arrange(solids: Sequence[Solid]) -> Parts:
    """Return solids as arrays."""
    rows = [(*s.centre, *s.half, *s.colour, s.fill, s.yaw, s.pitch, s.roll) for s in solids]
    columns = np.array(rows)
    short = columns.astype(np.float32)
    return Parts(
        kind=np.array([solid.kind for solid in solids], np.uint8),
        centre=short[:, 0:3],
        half=short[:, 3:6],
        turn=_rotation(*columns[:, 10:].T).swapaxes(1, 2).astype(np.float32),
        colour=short[:, 6:9],
        fill=short[:, 9],
        solids=solids,
    )


def _rotation(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Return the rotations [N, 3, 3] that roll, then pitch, then turn; own to world."""
    cy, sy, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    cr, sr = np.cos(roll), np.sin(roll)
    rotation = np.empty((len(yaw), 3, 3))
    rotation[:, 0, 0], rotation[:, 1, 0], rotation[:, 2, 0] = cy * cp, sp, -sy * cp
    rotation[:, 0, 1] = sy * sr - cy * sp * cr
    rotation[:, 1, 1] = cp * cr
    rotation[:, 2, 1] = sy * sp * cr + cy * sr
    rotation[:, 0, 2] = cy * sp * sr + sy * cr
    rotation[:, 1, 2] = -cp * sr
    rotation[:, 2, 2] = cy * cr - sy * sp * sr
    return rotation


def pose(parts: Parts, path: Path, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return centres [F, S, 3] and turns [F, S, 3, 3] of a subject on its path."""
    frames, count = len(seconds), len(parts.kind)
    rows = np.empty((frames, count, 4, 3))  # a solid's three axes and its centre
    rows[:, :, :3], rows[:, :, 3] = parts.turn, parts.centre
    moving = [
        (index, solid.motion)
        for index, solid in enumerate(parts.solids)
        if solid.motion and (path.goes or solid.motion.always)
    ]
    if moving:
        index = [place for place, _ in moving]
        pivot = np.array([motion.pivot for _, motion in moving])[:, None]
        turned = rows[:, index]
        turned[:, :, 3:] -= pivot
        turned = turned @ _spin([motion for _, motion in moving], seconds).swapaxes(-1, -2)
        turned[:, :, 3:] += pivot
        rows[:, index] = turned
    body = _rotation(path.yaw, path.pitch, path.roll).swapaxes(1, 2)
    rows = (rows.reshape(frames, -1, 3) @ body).reshape(rows.shape)
    turn, centre = rows[:, :, :3], rows[:, :, 3] + path.place[:, None]
    if path.goes or path.rocks:
        centre[..., 1] += np.maximum(-_lowest(parts, centre, turn), 0)[:, None]
    return centre, turn


def _lowest(parts: Parts, centre: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Return the height [F] of a subject's lowest point: it steps and rocks on the ground."""
    steep = turn[..., 1] * parts.half
    box = np.abs(steep).sum(axis=-1)
    ball = np.sqrt((steep * steep).sum(axis=-1))
    drum = np.abs(steep[..., 1]) + np.hypot(steep[..., 0], steep[..., 2])
    down = np.select([parts.kind == BOX, parts.kind == CYLINDER], [box, drum], ball)
    return np.asarray((centre[..., 1] - down).min(axis=1))


def _spin(motions: Sequence[Motion], seconds: np.ndarray) -> np.ndarray:
    """Return the rotations [F, M, 3, 3] of moving parts about their axes, in their subject."""
    turns, swing, phase = np.array([(m.turns, m.swing, m.phase) for m in motions]).T
    time = 2 * pi * seconds[:, None]
    angle = np.where(swing == 0, turns * time + phase, swing * np.sin(GAIT * time + phase))
    across = _ACROSS[[motion.axis for motion in motions]]
    sine, rest = np.sin(angle)[..., None, None], 1 - np.cos(angle)[..., None, None]
    return np.asarray(np.eye(3) + sine * across + rest * (across @ across))
