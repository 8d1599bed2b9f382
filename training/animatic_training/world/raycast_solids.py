"""What solids do to the CPU renderer's rays: stop them, keep the sun from them, darken the ground.

Each loop runs over the rays of one packet and one solid, without a branch, so that the compiler
makes vector instructions of it; a choice between two values becomes one, numba's min and max do
not. numba keeps compiled code by the age of one file: after a change here or in `stage`,
`raycast.py` must be saved again as well.
"""

# ruff: noqa: FURB136

from __future__ import annotations

from math import sqrt
from typing import Final

import numpy as np
from numba import njit

from animatic_training.world import stage as at

_F = np.float32
_TINY: Final = np.float32(1e-7)


@njit(cache=True, fastmath=True, error_model="numpy")
def meet_box(s, table, n, us, vs, best, hit):
    """Note where rays meet solid s, a box, before anything else."""
    px, py, pz = table[s, at.EYE_OWN], table[s, at.EYE_OWN + 1], table[s, at.EYE_OWN + 2]
    ax, ay, az = (
        table[s, at.AHEAD] + _TINY,
        table[s, at.AHEAD + 1] + _TINY,
        table[s, at.AHEAD + 2] + _TINY,
    )
    bx, by, bz = table[s, at.ASIDE], table[s, at.ASIDE + 1], table[s, at.ASIDE + 2]
    cx, cy, cz = table[s, at.ABOVE], table[s, at.ABOVE + 1], table[s, at.ABOVE + 2]
    number = _F(s)
    for i in range(n):
        u, v = us[i], vs[i]
        ix, iy, iz = (
            _F(1) / (ax + u * bx + v * cx),
            _F(1) / (ay + u * by + v * cy),
            _F(1) / (az + u * bz + v * cz),
        )
        near, far = -px * ix - abs(ix), -px * ix + abs(ix)
        in_y, out_y = -py * iy - abs(iy), -py * iy + abs(iy)
        in_z, out_z = -pz * iz - abs(iz), -pz * iz + abs(iz)
        near = near if near > in_y else in_y
        near = near if near > in_z else in_z
        far = far if far < out_y else out_y
        far = far if far < out_z else out_z
        near = near if near <= far else _F(at.FAR)
        near = near if near > _F(at.NEAR) else _F(at.FAR)
        before = best[i]
        hit[i] = number if near < before else hit[i]
        best[i] = near if near < before else before


@njit(cache=True, fastmath=True, error_model="numpy")
def meet_round(s, table, n, us, vs, best, hit):
    """Note where rays meet solid s, an ellipsoid or a cylinder, before anything else."""
    px, py, pz = table[s, at.EYE_OWN], table[s, at.EYE_OWN + 1], table[s, at.EYE_OWN + 2]
    ax, ay, az = table[s, at.AHEAD], table[s, at.AHEAD + 1], table[s, at.AHEAD + 2]
    bx, by, bz = table[s, at.ASIDE], table[s, at.ASIDE + 1], table[s, at.ASIDE + 2]
    cx, cy, cz = table[s, at.ABOVE], table[s, at.ABOVE + 1], table[s, at.ABOVE + 2]
    number = _F(s)
    # A cylinder is a ball that its own y leaves as it is, between two slabs; a ball has none.
    ball = _F(1) if table[s, at.KIND] == 1 else _F(0)
    slab = _F(at.FAR) if table[s, at.KIND] == 1 else _F(1)
    for i in range(n):
        u, v = us[i], vs[i]
        qx, qy, qz = ax + u * bx + v * cx, ay + u * by + v * cy, az + u * bz + v * cz
        iy = _F(1) / (qy + _TINY)
        sy = ball * qy
        a = _F(1) / (qx * qx + sy * qy + qz * qz + _TINY * _TINY)
        middle = -(px * qx + py * sy + pz * qz) * a
        mx, my, mz = px + middle * qx, ball * (py + middle * qy), pz + middle * qz
        inside = _F(1) - mx * mx - my * my - mz * mz
        half = sqrt((inside if inside > 0 else _F(0)) * a)
        near, far = middle - half, middle + half
        in_y, out_y = -py * iy - slab * abs(iy), -py * iy + slab * abs(iy)
        near = near if near > in_y else in_y
        far = far if far < out_y else out_y
        near = near if near <= far else _F(at.FAR)
        near = near if inside > 0 else _F(at.FAR)
        near = near if near > _F(at.NEAR) else _F(at.FAR)
        before = best[i]
        hit[i] = number if near < before else hit[i]
        best[i] = near if near < before else before


@njit(cache=True, fastmath=True, error_model="numpy")
def shade_box(s, table, n, xs, ys, zs, hit, sun):
    """Take from the sun's share what solid s, a box, hides from points."""
    m = table[s, at.MAP : at.EYE_OWN]
    ix, iy, iz = (
        _F(1) / (table[s, at.SUN_OWN] + _TINY),
        _F(1) / (table[s, at.SUN_OWN + 1] + _TINY),
        _F(1) / (table[s, at.SUN_OWN + 2] + _TINY),
    )
    rx, ry, rz = abs(ix), abs(iy), abs(iz)
    m0, m1, m2, m3, m4, m5, m6, m7, m8 = m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], m[8]
    ox, oy, oz = m[9], m[10], m[11]
    number = _F(s)
    for i in range(n):
        x, y, z = xs[i], ys[i], zs[i]
        tx = -(x * m0 + y * m1 + z * m2 + ox) * ix
        ty = -(x * m3 + y * m4 + z * m5 + oy) * iy
        tz = -(x * m6 + y * m7 + z * m8 + oz) * iz
        near, far = tx - rx, tx + rx
        near = near if near > ty - ry else ty - ry
        near = near if near > tz - rz else tz - rz
        far = far if far < ty + ry else ty + ry
        far = far if far < tz + rz else tz + rz
        near = near if near > 0 else _F(0)
        soft = _F(at.SOFTNESS) * (near if near < _F(at.WIDEST) else _F(at.WIDEST))
        share = (far - near + _F(0.5) * soft) / (soft + _F(at.CONTACT))
        share = share if share > 0 else _F(0)
        share = share if share < 1 else _F(1)
        sun[i] -= _F(0) if hit[i] == number else share


@njit(cache=True, fastmath=True, error_model="numpy")
def shade_round(s, table, n, xs, ys, zs, hit, sun):
    """Take from the sun's share what solid s, an ellipsoid or a cylinder, hides from points."""
    m = table[s, at.MAP : at.EYE_OWN]
    qx, qy, qz = table[s, at.SUN_OWN], table[s, at.SUN_OWN + 1], table[s, at.SUN_OWN + 2]
    iy = _F(1) / (qy + _TINY)
    radius = table[s, at.RADIUS]
    ball = _F(1) if table[s, at.KIND] == 1 else _F(0)
    ry = abs(iy) * (_F(at.FAR) if table[s, at.KIND] == 1 else _F(1))
    a = _F(1) / (qx * qx + ball * qy * qy + qz * qz + _TINY * _TINY)
    m0, m1, m2, m3, m4, m5, m6, m7, m8 = m[0], m[1], m[2], m[3], m[4], m[5], m[6], m[7], m[8]
    ox, oy, oz = m[9], m[10], m[11]
    number = _F(s)
    for i in range(n):
        x, y, z = xs[i], ys[i], zs[i]
        px = x * m0 + y * m1 + z * m2 + ox
        py = x * m3 + y * m4 + z * m5 + oy
        pz = x * m6 + y * m7 + z * m8 + oz
        middle = -(px * qx + ball * py * qy + pz * qz) * a
        mx, my, mz = px + middle * qx, ball * (py + middle * qy), pz + middle * qz
        away = mx * mx + my * my + mz * mz
        half = sqrt((_F(1) - away if away < 1 else _F(0)) * a)
        near, far = middle - half, middle + half
        ty = -py * iy
        near = near if near > ty - ry else ty - ry
        far = far if far < ty + ry else ty + ry
        near = near if near > 0 else _F(0)
        margin = (_F(1) - sqrt(away)) * radius
        margin = margin if margin < far - near else far - near
        soft = _F(at.SOFTNESS) * (near if near < _F(at.WIDEST) else _F(at.WIDEST))
        share = (margin + _F(0.5) * soft) / (soft + _F(at.CONTACT))
        share = share if share > 0 else _F(0)
        share = share if share < 1 else _F(1)
        sun[i] -= _F(0) if hit[i] == number else share


@njit(cache=True, fastmath=True, error_model="numpy")
def darken(s, table, n, xs, zs, dark):
    """Add what solid s occludes of the ambient light at points of the ground."""
    bx, bz = table[s, at.BLOB], table[s, at.BLOB + 1]
    xx, xz, zz = table[s, at.BLOB + 2], _F(2) * table[s, at.BLOB + 3], table[s, at.BLOB + 4]
    strength = table[s, at.BLOB + 5]
    for i in range(n):
        x, z = xs[i] - bx, zs[i] - bz
        near = _F(1) - (x * x * xx + x * z * xz + z * z * zz) * _F(1 / at.BLOB_REACH)
        near = near if near > 0 else _F(0)
        dark[i] += strength * near * near
