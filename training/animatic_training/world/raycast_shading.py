"""What a ray of the CPU renderer brings home: noise, ground, solids, sky, and rain before it all.

The functions work on one ray and are compiled into `raycast`'s loops. numba keeps compiled code by
the age of one file: after a change here or in `stage`, `raycast.py` must be saved again as well.
"""

from __future__ import annotations

from math import floor, sqrt
from typing import Final

import numpy as np
from numba import njit

from animatic_training.world import falling as drop
from animatic_training.world import stage as at

GROUND: Final = -2
_F = np.float32
_TINY: Final = np.float32(1e-7)


@njit(cache=True, fastmath=True, error_model="numpy")
def _bits(ix, iz):
    """The 31 random bits of a cell."""
    return at.LATTICE[iz & 255, ix & 255]


@njit(cache=True, fastmath=True, error_model="numpy")
def _noise(x, z):
    """Value noise in 0..1, one value a cell, smoothly blended."""
    ix, iz = floor(x), floor(z)
    u, v = x - _F(ix), z - _F(iz)
    u = u * u * (_F(3) - _F(2) * u)
    v = v * v * (_F(3) - _F(2) * v)
    a, b = _F(_bits(ix, iz) & 0xFFFF), _F(_bits(ix + 1, iz) & 0xFFFF)
    c, d = _F(_bits(ix, iz + 1) & 0xFFFF), _F(_bits(ix + 1, iz + 1) & 0xFFFF)
    return ((a + (b - a) * u) * (_F(1) - v) + (c + (d - c) * u) * v) / _F(65535)


@njit(cache=True, fastmath=True, error_model="numpy")
def normal(table, s, px, py, pz):
    """Outward unit normal, in the world, at a point of solid s's surface."""
    x = px * table[s, at.MAP] + py * table[s, at.MAP + 1] + pz * table[s, at.MAP + 2]
    y = px * table[s, at.MAP + 3] + py * table[s, at.MAP + 4] + pz * table[s, at.MAP + 5]
    z = px * table[s, at.MAP + 6] + py * table[s, at.MAP + 7] + pz * table[s, at.MAP + 8]
    x, y, z = x + table[s, at.OFFSET], y + table[s, at.OFFSET + 1], z + table[s, at.OFFSET + 2]
    zero = _F(0)
    if table[s, at.KIND] == 0:
        if abs(x) >= abs(y) and abs(x) >= abs(z):
            y, z = zero, zero
        elif abs(y) >= abs(z):
            x, z = zero, zero
        else:
            x, y = zero, zero
    elif table[s, at.KIND] == 2:
        if y * y >= x * x + z * z:
            x, z = zero, zero
        else:
            y = zero
    nx = x * table[s, at.MAP] + y * table[s, at.MAP + 3] + z * table[s, at.MAP + 6]
    ny = x * table[s, at.MAP + 1] + y * table[s, at.MAP + 4] + z * table[s, at.MAP + 7]
    nz = x * table[s, at.MAP + 2] + y * table[s, at.MAP + 5] + z * table[s, at.MAP + 8]
    n = _F(1) / sqrt(nx * nx + ny * ny + nz * nz)
    return nx * n, ny * n, nz * n


@njit(cache=True, fastmath=True, error_model="numpy")
def surface(table, frame, hit, px, py, pz, nx, ny, nz, dx, dy, dz, far, sun, dark):
    """Linear r, g, b of what was hit at p with normal n, by a ray d that came `far` metres.

    `sun` is the share of its light that falls on the surface, `dark` what occludes the ground.
    """
    ambient = _F(0.75) + _F(0.25) * ny
    shine, own = _F(0), _F(0)
    if hit >= 0:
        r, g, b = table[hit, at.COLOUR], table[hit, at.COLOUR + 1], table[hit, at.COLOUR + 2]
        own = table[hit, at.FILL]
        # Near the ground less of the sky is seen; in grazing surfaces more of it.
        ambient *= _F(1) - _F(0.3) / (_F(1) + _F(6) * py * py)
        rim = max(_F(1) + nx * dx + ny * dy + nz * dz, _F(0))
        ambient += _F(0.25) * rim * rim * rim
        # A soft highlight (Blinn, 1977): the cosine to the half vector, to the sixteenth power.
        hx, hy, hz = frame[at.SUN] - dx, frame[at.SUN + 1] - dy, frame[at.SUN + 2] - dz
        half = max(nx * hx + ny * hy + nz * hz, _F(0))
        half = half * half / (hx * hx + hy * hy + hz * hz + _TINY)
        half *= half
        half *= half
        shine = _F(0.12) * half * half * sun
    else:
        ambient /= dark
        # Patches fade where a pixel holds more than one.
        wide = far * frame[at.PIXEL] / max(-dy * frame[at.CELL], _TINY)
        fade = _F(1) / (_F(1) + _F(4) * wide * wide)
        if hit == GROUND:
            patch = _noise(px / frame[at.CELL], pz / frame[at.CELL])
            patch = _F(0.5) + (patch - _F(0.5)) * fade
            r = frame[at.PALE] + (frame[at.DARK] - frame[at.PALE]) * patch
            g = frame[at.PALE + 1] + (frame[at.DARK + 1] - frame[at.PALE + 1]) * patch
            b = frame[at.PALE + 2] + (frame[at.DARK + 2] - frame[at.PALE + 2]) * patch
        else:
            patch = _noise(px / frame[at.CELL] * _F(0.5), pz / frame[at.CELL])
            patch = _F(1) + _F(0.3) * (patch - _F(0.5)) * fade
            r, g, b = (
                frame[at.STRIP] * patch,
                frame[at.STRIP + 1] * patch,
                frame[at.STRIP + 2] * patch,
            )
    kept = np.exp(-frame[at.HAZE] * far)
    r = r * (frame[at.LIGHT] * sun + frame[at.AMBIENT] * ambient + own) + frame[at.LIGHT] * shine
    g = (
        g * (frame[at.LIGHT + 1] * sun + frame[at.AMBIENT + 1] * ambient + own)
        + frame[at.LIGHT + 1] * shine
    )
    b = (
        b * (frame[at.LIGHT + 2] * sun + frame[at.AMBIENT + 2] * ambient + own)
        + frame[at.LIGHT + 2] * shine
    )
    hr, hg, hb = frame[at.HORIZON], frame[at.HORIZON + 1], frame[at.HORIZON + 2]
    return hr + (r - hr) * kept, hg + (g - hg) * kept, hb + (b - hb) * kept


@njit(cache=True, fastmath=True, error_model="numpy")
def sky(dx, dy, dz, frame):
    """Linear r, g, b of the sky: horizon to zenith, clouds or stars, the sun's halo and disc."""
    zero, one = _F(0), _F(1)
    up = max(dy, zero)
    height = min(up * _F(2.2), one)
    r = frame[at.HORIZON] + (frame[at.ZENITH] - frame[at.HORIZON]) * height
    g = frame[at.HORIZON + 1] + (frame[at.ZENITH + 1] - frame[at.HORIZON + 1]) * height
    b = frame[at.HORIZON + 2] + (frame[at.ZENITH + 2] - frame[at.HORIZON + 2]) * height
    toward = max(dx * frame[at.SUN] + dy * frame[at.SUN + 1] + dz * frame[at.SUN + 2], zero)
    square = toward * toward
    square *= square
    shine = frame[at.GLOW] * square * square * _F(0.5)
    veil, star = zero, zero
    if frame[at.CLOUDS] > 0:
        flat = _F(2) / (up + _F(0.18))
        x, z = dx * flat + frame[at.SKY_X], dz * flat
        thick = _F(0.65) * _noise(x, z * _F(1.6)) + _F(0.35) * _noise(x * _F(2.3), z * _F(3.7))
        veil = min(max(thick * _F(2.4) - _F(1.15), zero), one)
        veil *= frame[at.CLOUDS] * _F(0.55) * min(up * _F(7), one)
        r += (min(frame[at.DROP] * _F(1.1), one) - r) * veil
        g += (min(frame[at.DROP + 1] * _F(1.1), one) - g) * veil
        b += (min(frame[at.DROP + 2] * _F(1.1), one) - b) * veil
    if toward > _F(0.995):
        shine += _F(0.8) * frame[at.DISC] * (one - veil)
    if frame[at.STARS] > 0:
        flat = _F(16) / (up + _F(0.6))
        x, z = dx * flat, dz * flat
        ix, iz = floor(x), floor(z)
        bits = _bits(ix + int(frame[at.SKY_X]), iz)
        if (bits & 0xFF) < 90:
            x -= _F(ix) + _F(0.2) + _F(0.6) * _F((bits >> 8) & 0xFF) / _F(255)
            z -= _F(iz) + _F(0.2) + _F(0.6) * _F((bits >> 16) & 0xFF) / _F(255)
            near = max(one - (x * x + z * z) * _F(40), zero)
            star = near * near * frame[at.STARS] * min(up * _F(5), one)
            star *= _F(0.1) + _F(0.5) * _F((bits >> 24) & 0x7F) / _F(127)
    return (
        r + frame[at.LIGHT] * shine + star,
        g + frame[at.LIGHT + 1] * shine + star,
        b + frame[at.LIGHT + 2] * shine + star,
    )


@njit(cache=True, fastmath=True, error_model="numpy")
def covered(u, v, depth, layers):
    """Share of a pixel that rain or snow before `depth` metres covers."""
    clear = _F(1)
    for k in range(layers.shape[0]):
        if layers[k, drop.DEPTH] > depth:
            continue
        x = layers[k, drop.ACROSS] + u * layers[k, drop.ACROSS_U] + v * layers[k, drop.ACROSS_V]
        y = layers[k, drop.DOWN] + v * layers[k, drop.DOWN_V]
        cx, cy = floor(x), floor(y)
        columns = int(layers[k, drop.ROUND])
        bits = _bits(cx % columns + int(layers[k, drop.SALT]), cy)
        if _F(bits & 0xFF) >= layers[k, drop.CHANCE] * _F(256):
            continue
        hx, hy = layers[k, drop.HALF_X], layers[k, drop.HALF_Y]
        x -= _F(cx) + hx + (_F(1) - _F(2) * hx) * _F((bits >> 8) & 0xFF) / _F(255)
        y -= _F(cy) + hy + (_F(1) - _F(2) * hy) * _F((bits >> 16) & 0xFF) / _F(255)
        x, y = x / hx, y / hy
        near = max(_F(1) - x * x - y * y, _F(0))
        clear *= _F(1) - layers[k, drop.OPACITY] * near * near
    return _F(1) - clear
