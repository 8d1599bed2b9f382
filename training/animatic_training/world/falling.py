"""Rain and snow: layers of drops in depth, in front of the camera.

A layer is a lattice of cells on a plane across the view, some metres away; a cell holds a drop or
none, at a place that a hash of its row and column decides. The lattice falls with time, moves by
the camera's turns and by its own depth when the camera travels: near layers move more. Looking
along +z, wind blows along x. Both renderers read these numbers, so they draw the same drops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from animatic_training.world.scene import Scene

# Entries of a layer: the cell of an image plane point (u, v) is column ACROSS + u ACROSS_U +
# v ACROSS_V and row DOWN + v DOWN_V, both taken modulo COLUMNS_ROUND and ROWS_ROUND.
ACROSS, ACROSS_U, ACROSS_V, DOWN, DOWN_V, HALF_X, HALF_Y, CHANCE, OPACITY, DEPTH, ROUND, SALT = (
    range(12)
)
ENTRIES: Final = 12
"""HALF_X, HALF_Y: a drop's half size, cells; CHANCE that a cell holds one; DEPTH, metres."""
ROWS_ROUND: Final = 256
"""Rows after which a layer repeats, as `stage.LATTICE` does."""


class _Layer(NamedTuple):
    depth: float
    cell: tuple[float, float]
    """Width and height of a cell, metres."""
    half: tuple[float, float]
    """Half width and half height of a drop, metres."""
    thinnest: float
    """The least half width, pixels: what is thinner would flicker."""
    chance: float
    opacity: float


_RAIN: Final = (
    _Layer(4.0, (0.30, 1.30), (0.006, 0.22), 1.0, 0.65, 0.42),
    _Layer(8.0, (0.42, 1.30), (0.006, 0.22), 0.9, 0.65, 0.36),
    _Layer(16.0, (0.70, 1.60), (0.006, 0.24), 0.8, 0.65, 0.30),
)
_SNOW: Final = (
    _Layer(3.0, (0.40, 0.40), (0.030, 0.030), 1.2, 0.50, 0.85),
    _Layer(6.0, (0.65, 0.65), (0.036, 0.036), 1.2, 0.50, 0.70),
    _Layer(12.0, (1.20, 1.20), (0.045, 0.045), 1.1, 0.50, 0.55),
)
_RAIN_FALLS: Final = 5.0
"""Metres a second; slower than real rain, which would blink at 8 frames a second."""
_SNOW_FALLS: Final = 0.9


def falling_layers(scene: Scene, height: int) -> np.ndarray:
    """Return what falls, float32 [F, layers, ENTRIES], for pictures of `height` pixels."""
    rain, snow = float(scene.air[0]), float(scene.air[1])
    layers = []
    if rain > 0:
        layers += [_rain(scene, height, layer, n, rain) for n, layer in enumerate(_RAIN)]
    if snow > 0:
        layers += [_snow(scene, height, layer, 8 + n, snow) for n, layer in enumerate(_SNOW)]
    if not layers:
        return np.zeros((len(scene.eye), 0, ENTRIES), np.float32)
    return np.stack(layers, axis=1).astype(np.float32)


def _place(scene: Scene, depth: float) -> tuple[np.ndarray, np.ndarray]:
    """Return where the middle of the view meets a layer, metres across and up, float64 [F]."""
    ahead = scene.basis[:, 2].astype(np.float64)
    turned = np.arctan2(ahead[:, 0], ahead[:, 2])
    raised = np.arcsin(np.clip(ahead[:, 1], -1, 1))
    eye = scene.eye.astype(np.float64)
    return depth * turned + eye[:, 0], depth * raised + eye[:, 1]


def _rain(scene: Scene, height: int, layer: _Layer, salt: int, amount: float) -> np.ndarray:
    x, y = _place(scene, layer.depth)
    slant = float(scene.air[2]) / _RAIN_FALLS
    seconds = scene.seconds.astype(np.float64)
    # Along its slant a streak stays in its column, so that only its row changes with time.
    return _entries(
        scene, height, layer, salt, amount, (x + slant * y, slant, y + _RAIN_FALLS * seconds)
    )


def _snow(scene: Scene, height: int, layer: _Layer, salt: int, amount: float) -> np.ndarray:
    x, y = _place(scene, layer.depth)
    seconds = scene.seconds.astype(np.float64)
    sway = 0.25 * np.sin(1.1 * seconds + salt)
    drift = 0.4 * float(scene.air[2]) * seconds
    return _entries(
        scene, height, layer, salt, amount, (x - drift - sway, 0.0, y + _SNOW_FALLS * seconds)
    )


def _entries(
    scene: Scene,
    height: int,
    layer: _Layer,
    salt: int,
    amount: float,
    place: tuple[np.ndarray, float, np.ndarray],
) -> np.ndarray:
    x, slant, y = place
    columns = round(2 * np.pi * layer.depth / layer.cell[0])
    wide, high = 2 * np.pi * layer.depth / columns, layer.cell[1]
    pixel = 2 * scene.tan_half_fov.astype(np.float64) / height * layer.depth
    shown = np.maximum(scene.basis[:, 1, 1], 0.35)  # seen from above a streak is short
    thin = np.minimum(np.maximum(layer.half[0], layer.thinnest * pixel) / wide, 0.45)
    long = np.maximum(layer.half[1] * shown, layer.thinnest * pixel) / high
    out = np.empty((len(x), ENTRIES))
    out[:, ACROSS] = np.mod(x / wide, columns)
    out[:, ACROSS_U] = layer.depth / wide
    out[:, ACROSS_V] = slant * layer.depth / wide
    out[:, DOWN] = np.mod(y / high, ROWS_ROUND)
    out[:, DOWN_V] = layer.depth / high
    out[:, HALF_X], out[:, HALF_Y] = thin, np.minimum(long, 0.45)
    out[:, CHANCE] = layer.chance * (0.4 + 0.6 * amount)
    out[:, OPACITY] = layer.opacity * min(1.0, 0.5 + 0.5 * amount)
    out[:, DEPTH] = layer.depth
    out[:, ROUND] = columns
    out[:, SALT] = 29 * salt + int(scene.air[3])
    return out
