"""A scene as the tables that both renderers draw from: what need be worked out once a frame.

Every solid is a unit box, ball or cylinder seen through an affine map, so that a ray meets all
three with the same few numbers, however they are turned: own = MAP @ world + OFFSET. A ray through
the image plane point (u, v) has the direction forward + u right + v up and is not normalised;
distances along it are depths, and a solid sees its direction as AHEAD + u ASIDE + v ABOVE.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from animatic_training.world.falling import falling_layers
from animatic_training.world.solids import BOX, CYLINDER, ELLIPSOID

if TYPE_CHECKING:
    from animatic_training.world.scene import Scene

NEAR: Final = 2e-3
"""Metres: what is nearer to the eye is not drawn."""
FAR: Final = 1e9
FRONT: Final = 0.05
"""Metres in front of the eye from which a solid's outline on the image plane can be told."""

# Columns of the table of solids.
KIND, MAP, OFFSET, EYE_OWN, AHEAD, ASIDE, ABOVE, RECT, DEPTH, SUN_OWN, SHADE, RADIUS = (
    0, 1, 10, 13, 16, 19, 22, 25, 29, 30, 33, 38,
)  # fmt: skip
BLOB, COLOUR, FILL, COLUMNS = 39, 47, 50, 51
"""BLOB: a dark ellipse on the ground: x, z, inverse shape (xx, xz, zz), strength, reaches."""

# Entries of a frame's settings: camera, light, ground, the two axes across the light, sky.
EYE, RIGHT, UP, FORWARD, SUN, LIGHT, AMBIENT, ZENITH, HORIZON, HAZE, GLOW, DISC = (
    0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29,
)  # fmt: skip
PALE, DARK, STRIP, CELL, STRIP_NEAR, STRIP_FAR, ACROSS, PIXEL, CLOUDS, STARS, SKY_X, DROP = (
    30, 33, 36, 39, 40, 41, 42, 48, 49, 50, 51, 52,
)  # fmt: skip
SETTINGS: Final = 55

SOFTNESS: Final = 0.035
"""Metres that a shadow's edge widens for each metre between the solid and its shadow."""
CONTACT: Final = 0.012
"""Metres: the width of a shadow's edge where solid and ground touch."""
WIDEST: Final = 20.0
"""Metres from which a shadow's edge widens no more."""
BLOB_REACH: Final = 2.0
"""Squared radius, in half extents, at which the darkening beneath a solid ends."""

LATTICE: Final = np.random.default_rng(2).integers(0, 1 << 31, (256, 256), np.int32)
"""31 random bits for every cell of a square that repeats: patches, clouds, stars, drops."""

_CORNERS: Final = np.array(
    [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32
)


class Stage(NamedTuple):
    """One scene, ready to be drawn at one size; F frames, S solids."""

    table: np.ndarray
    """float32 [F, S, COLUMNS]."""
    settings: np.ndarray
    """float32 [F, SETTINGS]."""
    falling: np.ndarray
    """float32 [F, layers, falling.ENTRIES]: rain and snow, none when the air is dry."""
    subject: np.ndarray
    """uint8 [S]: 1 or 2 for a subject's solids, 0 for the set's."""


def set_stage(scene: Scene, height: int) -> Stage:
    """Work out a scene's tables for pictures of `height` pixels."""
    settings = _settings(scene, height)
    table = np.zeros((*scene.centre.shape[:2], COLUMNS), np.float32)
    table[:, :, KIND] = scene.kind
    table[:, :, COLOUR : COLOUR + 3] = scene.colour
    table[:, :, FILL] = scene.fill
    axes = scene.turn * scene.half[:, :, None]  # half extents as vectors in the world
    shape = scene.turn / scene.half[:, :, None]
    table[:, :, MAP:OFFSET] = shape.reshape(*shape.shape[:2], 9)
    table[:, :, OFFSET:EYE_OWN] = -_into(shape, scene.centre)
    table[:, :, EYE_OWN:AHEAD] = _into(shape, scene.eye[:, None] - scene.centre)
    right, up, forward = (scene.basis[:, None, row] for row in range(3))
    table[:, :, AHEAD:ASIDE] = _into(shape, forward)
    table[:, :, ASIDE:ABOVE] = _into(shape, right)
    table[:, :, ABOVE:RECT] = _into(shape, up)
    table[:, :, SUN_OWN:SHADE] = _into(shape, scene.light[0])
    table[:, :, RADIUS] = np.cbrt(scene.half.prod(axis=1))
    table[:, :, RECT : DEPTH + 1] = _outlines(scene, axes)
    table[:, :, SHADE:RADIUS] = _shades(scene, axes, settings)
    table[:, :, BLOB:COLOUR] = _blobs(scene, axes)
    return Stage(table, settings, falling_layers(scene, height), scene.subject)


def _into(shape: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return world vectors [..., 3] as solids of `shape` [F, S, 3, 3] see them, [F, S, 3]."""
    seen: np.ndarray = (shape @ np.broadcast_to(vector, shape.shape[:3])[..., None])[..., 0]
    return seen


def _settings(scene: Scene, height: int) -> np.ndarray:
    frames = len(scene.eye)
    settings = np.zeros((frames, SETTINGS), np.float32)
    settings[:, EYE:RIGHT] = scene.eye
    settings[:, RIGHT:SUN] = scene.basis.reshape(frames, 9)
    settings[:, SUN:PALE] = scene.light.ravel()
    settings[:, PALE:ACROSS] = scene.ground.ravel()
    x, y, z = scene.light[0]
    flat = max(float(np.hypot(x, z)), 1e-6)
    a, b = z / flat, -x / flat
    settings[:, ACROSS:PIXEL] = (a, 0, b, y * b, z * a - x * b, -y * a)
    settings[:, PIXEL] = 2 * scene.tan_half_fov / height
    # Clouds stand in a bright sky and stars in a black one, and neither shows behind an overcast.
    _, sun, ambient, zenith, horizon, (_, _, disc) = scene.light
    bright = float(np.clip(zenith.mean() * 10 - 0.5, 0, 1))
    settings[:, CLOUDS] = disc * bright
    settings[:, STARS] = disc * (1 - bright)
    settings[:, SKY_X] = scene.air[3]
    settings[:, DROP:] = ambient + 0.6 * horizon + 0.25 * sun
    return settings


def _outlines(scene: Scene, axes: np.ndarray) -> np.ndarray:
    """Return bounds on the image plane and in depth, [F, S, (u, u, v, v, depth)].

    A solid that reaches behind the eye can be anywhere; one that is wholly behind is nowhere.
    """
    corners = (scene.centre - scene.eye[:, None])[:, :, None] + _CORNERS @ axes
    u, v, depth = np.moveaxis(corners @ scene.basis[:, None].swapaxes(-1, -2), -1, 0)
    nearest = depth.min(-1)
    safe = np.maximum(depth, FRONT)
    u, v = u / safe, v / safe
    bounds = np.stack([u.min(-1), u.max(-1), v.min(-1), v.max(-1)], axis=-1)
    bounds[nearest <= FRONT] = (-FAR, FAR, -FAR, FAR)
    bounds[depth.max(-1) <= FRONT] = (FAR, -FAR, FAR, -FAR)
    return np.concatenate([bounds, nearest[..., None]], axis=-1)


def _reach(kind: np.ndarray, along: np.ndarray) -> np.ndarray:
    """Return how far solids reach from their centres along a direction, metres [F, S].

    `along` [F, S, 3] are their half extents' components along it.
    """
    size = np.abs(along)
    ball = np.sqrt((size * size).sum(-1))
    round_about = size[..., 1] + np.hypot(size[..., 0], size[..., 2])
    reach: np.ndarray = np.select(
        [kind == BOX, kind == ELLIPSOID, kind == CYLINDER], [size.sum(-1), ball, round_about]
    )
    return reach


def _shades(scene: Scene, axes: np.ndarray, settings: np.ndarray) -> np.ndarray:
    """Return bounds across the light, and the farthest towards it: [F, S, (a, a, b, b, top)]."""
    ways = np.concatenate([settings[0, ACROSS:PIXEL].reshape(2, 3), scene.light[:1]])
    middle = scene.centre @ ways.T
    reach = np.stack([_reach(scene.kind, axes @ way) for way in ways], axis=-1)
    low, high = middle - reach, middle + reach
    return np.stack([low[..., 0], high[..., 0], low[..., 1], high[..., 1], high[..., 2]], axis=-1)


def _blobs(scene: Scene, axes: np.ndarray) -> np.ndarray:
    """Return the dark ellipses beneath solids, [F, S, (x, z, xx, xz, zz, strength, reach, reach)].

    The shape is the ellipsoid's own shadow straight down, widened by a share of its height above
    the ground; a solid high up darkens less, as its footprint seen from the ground is smaller.
    """
    bottom = scene.centre[..., 1] - _reach(scene.kind, axes[..., 1])
    lift = np.maximum(bottom, 0.0)
    blur = np.square(0.06 + 0.7 * lift)
    xx = np.square(axes[..., 0]).sum(-1) + blur
    zz = np.square(axes[..., 2]).sum(-1) + blur
    xz = (axes[..., 0] * axes[..., 2]).sum(-1)
    area = np.maximum(xx * zz - xz * xz, 1e-9)
    foot = np.sqrt(area)
    strength = 1.1 * foot / (foot + 2.0 * lift * lift)
    shape = [zz / area, -xz / area, xx / area]
    reach = [np.sqrt(BLOB_REACH * xx), np.sqrt(BLOB_REACH * zz)]
    return np.stack([scene.centre[..., 0], scene.centre[..., 2], *shape, strength, *reach], axis=-1)
