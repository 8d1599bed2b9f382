"""The CPU renderer: one ray a pixel, one to the sun, four more rays where the picture is steep.

Rays travel in packets, a square of the picture each: a packet meets only the solids whose outline
touches its square, nearest first, and only those whose shadow can fall on it; and each such loop
over a packet's rays is one that the compiler turns into vector instructions. Shadows have soft
edges, solids darken the ground beneath them, and rain or snow is laid over the picture last.
`raycast_torch` draws the same picture on an accelerator.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Final

import numpy as np
from numba import njit

from animatic_training.world import stage as at
from animatic_training.world.raycast_shading import GROUND, covered, normal, sky, surface
from animatic_training.world.raycast_solids import (
    darken,
    meet_box,
    meet_round,
    shade_box,
    shade_round,
)

if TYPE_CHECKING:
    from animatic_training.world.scene import Scene

SKY: Final = -1
BAND: Final = -3
STEEP: Final = 14
"""Levels between neighbours from which a pixel gets four more rays."""
TILE: Final = 8
"""Side of a packet's square, pixels."""
PACKET: Final = TILE * TILE
GAMMA: Final = (np.linspace(0, 1, 16384) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)
"""Linear radiance in 0..1, in 16384 steps -> the byte shown (gamma 2.2)."""
OFFSETS: Final = np.array([[-0.25, -0.25], [0.25, -0.25], [-0.25, 0.25], [0.25, 0.25]], np.float32)
"""Sub-pixel positions of the four anti-aliasing rays, pixels."""

_F = np.float32
_TINY: Final = np.float32(1e-7)
# Rows of a packet: where its rays leave, what they meet, where, and what they bring home.
_U, _V, _BEST, _HIT, _P, _N, _SUN, _DARK, _RGB, _ROWS = 0, 1, 2, 3, 4, 7, 10, 11, 12, 15


def render(scene: Scene, height: int, width: int) -> np.ndarray:
    """Draw a scene: uint8 [frames, height, width, 3], sRGB-like (gamma 2.2)."""
    return render_with_mask(scene, height, width)[0]


def render_with_mask(scene: Scene, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw a scene and say what the middle of each pixel shows.

    Pixels are uint8 [frames, height, width, 3], sRGB-like (gamma 2.2); the mask is uint8 [frames,
    height, width]: 1 the subject, 2 the second subject, 0 the set.
    """
    stage = at.set_stage(scene, height)
    frames = len(stage.settings)
    pixels = np.empty((frames, height, width, 3), np.uint8)
    mask = np.empty((frames, height, width), np.uint8)
    _render_clip(pixels, mask, *stage)
    return pixels, mask


@njit(cache=True, fastmath=True, error_model="numpy")
def _first_hits(table, frame, near, ray, n):
    """Fill in BEST and HIT of a packet; `near` are the solids in order of depth."""
    us, vs, best, hit = ray[_U], ray[_V], ray[_BEST], ray[_HIT]
    fy, ry, uy = frame[at.FORWARD + 1], frame[at.RIGHT + 1], frame[at.UP + 1]
    fz, rz, uz = frame[at.FORWARD + 2], frame[at.RIGHT + 2], frame[at.UP + 2]
    low_u, high_u, low_v, high_v = us[0], us[0], vs[0], vs[0]
    for i in range(n):
        u, v = us[i], vs[i]
        low_u, high_u = min(low_u, u), max(high_u, u)
        low_v, high_v = min(low_v, v), max(high_v, v)
        dy = fy + u * ry + v * uy
        down = dy < -_TINY
        t = -frame[at.EYE + 1] / dy if down else _F(at.FAR)
        z = frame[at.EYE + 2] + t * (fz + u * rz + v * uz)
        ground = _F(BAND) if frame[at.STRIP_NEAR] < z < frame[at.STRIP_FAR] else _F(GROUND)
        best[i] = t
        hit[i] = ground if down else _F(SKY)
    for s in near:
        if (
            high_u < table[s, at.RECT]
            or low_u > table[s, at.RECT + 1]
            or high_v < table[s, at.RECT + 2]
            or low_v > table[s, at.RECT + 3]
        ):
            continue
        farthest = best[0]
        for i in range(n):
            farthest = max(farthest, best[i])
        if table[s, at.DEPTH] >= farthest:
            break
        if table[s, at.KIND] == 0:
            meet_box(s, table, n, us, vs, best, hit)
        else:
            meet_round(s, table, n, us, vs, best, hit)


@njit(cache=True, fastmath=True, error_model="numpy")
def _light(table, frame, ray, n):
    """Turn SUN of a packet, the cosine to the sun, into what reaches; DARK is what occludes."""
    hit, sun, dark = ray[_HIT], ray[_SUN], ray[_DARK]
    xs, ys, zs = ray[_P], ray[_P + 1], ray[_P + 2]
    big = _F(at.FAR)
    a0, a1, b0, b1, low, high = big, -big, big, -big, big, -big
    x0, x1, z0, z1 = big, -big, big, -big
    for i in range(n):
        x, y, z = xs[i], ys[i], zs[i]
        if sun[i] > 0:
            a = x * frame[at.ACROSS] + y * frame[at.ACROSS + 1] + z * frame[at.ACROSS + 2]
            b = x * frame[at.ACROSS + 3] + y * frame[at.ACROSS + 4] + z * frame[at.ACROSS + 5]
            along = x * frame[at.SUN] + y * frame[at.SUN + 1] + z * frame[at.SUN + 2]
            a0, a1, b0, b1 = min(a0, a), max(a1, a), min(b0, b), max(b1, b)
            low, high = min(low, along), max(high, along)
        if hit[i] <= _F(GROUND):
            x0, x1, z0, z1 = min(x0, x), max(x1, x), min(z0, z), max(z1, z)
    share = np.ones(n, np.float32)
    for s in range(table.shape[0]):
        behind = table[s, at.SHADE + 4] - low
        pad = _F(at.SOFTNESS) * min(behind, _F(at.WIDEST))
        if (
            behind > 0
            and a1 >= table[s, at.SHADE] - pad
            and a0 <= table[s, at.SHADE + 1] + pad
            and b1 >= table[s, at.SHADE + 2] - pad
            and b0 <= table[s, at.SHADE + 3] + pad
        ):
            if table[s, at.KIND] == 0:
                shade_box(s, table, n, xs, ys, zs, hit, share)
            else:
                shade_round(s, table, n, xs, ys, zs, hit, share)
        if (
            x0 <= table[s, at.BLOB] + table[s, at.BLOB + 6]
            and x1 >= table[s, at.BLOB] - table[s, at.BLOB + 6]
            and z0 <= table[s, at.BLOB + 1] + table[s, at.BLOB + 7]
            and z1 >= table[s, at.BLOB + 1] - table[s, at.BLOB + 7]
        ):
            darken(s, table, n, xs, zs, dark)
    for i in range(n):
        sun[i] *= max(share[i], _F(0))


@njit(cache=True, fastmath=True, error_model="numpy")
def _trace(table, frame, near, ray, n):
    """Follow a packet's rays home: fill in everything but U and V."""
    _first_hits(table, frame, near, ray, n)
    us, vs, best, hits = ray[_U], ray[_V], ray[_BEST], ray[_HIT]
    any_hit = False
    for i in range(n):
        hit, t = int(hits[i]), best[i]
        if hit == SKY:
            ray[_SUN, i] = _F(0)
            continue
        any_hit = True
        u, v = us[i], vs[i]
        px = frame[at.EYE] + t * (frame[at.FORWARD] + u * frame[at.RIGHT] + v * frame[at.UP])
        py = frame[at.EYE + 1] + t * (
            frame[at.FORWARD + 1] + u * frame[at.RIGHT + 1] + v * frame[at.UP + 1]
        )
        pz = frame[at.EYE + 2] + t * (
            frame[at.FORWARD + 2] + u * frame[at.RIGHT + 2] + v * frame[at.UP + 2]
        )
        nx, ny, nz = _F(0), _F(1), _F(0)
        if hit >= 0:
            nx, ny, nz = normal(table, hit, px, py, pz)
        ray[_P, i], ray[_P + 1, i], ray[_P + 2, i] = px, py, pz
        ray[_N, i], ray[_N + 1, i], ray[_N + 2, i] = nx, ny, nz
        facing = nx * frame[at.SUN] + ny * frame[at.SUN + 1] + nz * frame[at.SUN + 2]
        ray[_SUN, i] = max(facing, _F(0))
        ray[_DARK, i] = _F(1)
    if any_hit:
        _light(table, frame, ray, n)
    for i in range(n):
        u, v = us[i], vs[i]
        dx = frame[at.FORWARD] + u * frame[at.RIGHT] + v * frame[at.UP]
        dy = frame[at.FORWARD + 1] + u * frame[at.RIGHT + 1] + v * frame[at.UP + 1]
        dz = frame[at.FORWARD + 2] + u * frame[at.RIGHT + 2] + v * frame[at.UP + 2]
        length = sqrt(_F(1) + u * u + v * v)
        inv = _F(1) / length
        hit = int(hits[i])
        if hit == SKY:
            r, g, b = sky(dx * inv, dy * inv, dz * inv, frame)
        else:
            r, g, b = surface(
                table, frame, hit, ray[_P, i], ray[_P + 1, i], ray[_P + 2, i],
                ray[_N, i], ray[_N + 1, i], ray[_N + 2, i],
                dx * inv, dy * inv, dz * inv, best[i] * length, ray[_SUN, i], ray[_DARK, i],
            )  # fmt: skip
        ray[_RGB, i], ray[_RGB + 1, i], ray[_RGB + 2, i] = r, g, b


@njit(cache=True, fastmath=True, error_model="numpy")
def _filled(count):
    """How many rays a packet of `count` is filled up to, so that none is left to scalar code."""
    return (count + 31) & ~31


@njit(cache=True, fastmath=True, error_model="numpy")
def _render_clip(pixels, mask, tables, settings, falling, subject):
    frames, height, width = mask.shape
    linear = np.empty((height, width, 3), np.float32)
    depths = np.empty((height, width), np.float32)
    ray = np.zeros((_ROWS, PACKET), np.float32)
    steep = np.empty(PACKET, np.int64)
    middle_u = _F(width) * _F(0.5) - _F(0.5)
    middle_v = _F(height) * _F(0.5) - _F(0.5)
    for f in range(frames):
        table, frame, out, layers = tables[f], settings[f], pixels[f], falling[f]
        near = np.argsort(table[:, at.DEPTH])
        pixel = frame[at.PIXEL]
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                high, wide = min(TILE, height - top), min(TILE, width - left)
                count = high * wide
                for k in range(_filled(count)):
                    j, i = divmod(min(k, count - 1), wide)
                    ray[_U, k] = (_F(left + i) - middle_u) * pixel
                    ray[_V, k] = (middle_v - _F(top + j)) * pixel
                _trace(table, frame, near, ray, _filled(count))
                for k in range(count):
                    j, i = top + k // wide, left + k % wide
                    hit = int(ray[_HIT, k])
                    mask[f, j, i] = subject[hit] if hit >= 0 else 0
                    depths[j, i] = ray[_BEST, k]
                    for c in range(3):
                        linear[j, i, c] = ray[_RGB + c, k]
                        out[j, i, c] = _encode(ray[_RGB + c, k])
        # The neighbours' first colours decide, so that those of all pixels must stand before.
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                count = 0
                for j in range(top, min(top + TILE, height)):
                    for i in range(left, min(left + TILE, width)):
                        if _steep(out, j, i):
                            steep[count] = j * width + i
                            count += 1
                for first in range(0, count, PACKET // 4):
                    many = min(PACKET // 4, count - first)
                    for k in range(_filled(4 * many)):
                        j, i = divmod(steep[first + min(k // 4, many - 1)], width)
                        ray[_U, k] = (_F(i) - middle_u + OFFSETS[k % 4, 0]) * pixel
                        ray[_V, k] = (middle_v - _F(j) + OFFSETS[k % 4, 1]) * pixel
                    _trace(table, frame, near, ray, _filled(4 * many))
                    for k in range(many):
                        j, i = divmod(steep[first + k], width)
                        for c in range(3):
                            total = _F(0)
                            for q in range(4):
                                total += min(ray[_RGB + c, 4 * k + q], _F(1))
                            linear[j, i, c] = total * _F(0.25)
        for j in range(height):
            v = (middle_v - _F(j)) * pixel
            for i in range(width):
                cover = _F(0)
                if layers.shape[0] > 0:
                    cover = covered((_F(i) - middle_u) * pixel, v, depths[j, i], layers)
                for c in range(3):
                    value = linear[j, i, c]
                    out[j, i, c] = _encode(value + (frame[at.DROP + c] - value) * cover)


@njit(cache=True, fastmath=True, error_model="numpy")
def _steep(out, j, i):
    """Whether a pixel differs by `STEEP` levels or more from one beside it."""
    for c in range(3):
        here = np.int64(out[j, i, c])  # int() of a byte stays unsigned
        if i > 0 and abs(np.int64(out[j, i - 1, c]) - here) >= STEEP:
            return True
        if i + 1 < out.shape[1] and abs(np.int64(out[j, i + 1, c]) - here) >= STEEP:
            return True
        if j > 0 and abs(np.int64(out[j - 1, i, c]) - here) >= STEEP:
            return True
        if j + 1 < out.shape[0] and abs(np.int64(out[j + 1, i, c]) - here) >= STEEP:
            return True
    return False


@njit(cache=True, fastmath=True, error_model="numpy")
def _encode(value):
    value = min(max(value, _F(0)), _F(1))
    return GAMMA[int(value * _F(len(GAMMA) - 1) + _F(0.5))]
