"""The CPU renderer: one ray a pixel, one shadow ray, four more rays where surfaces meet.

Solids are culled by the screen rectangle of their bounding sphere, so a pixel tests only the few
that can cover it. `raycast_torch` draws the same picture on an accelerator.
"""

from __future__ import annotations

from math import cos, floor, sin, sqrt
from typing import TYPE_CHECKING, Final

import numpy as np
from numba import njit

if TYPE_CHECKING:
    from animatic_training.world.scene import Scene

FAR: Final = np.float32(1e9)
NEAR: Final = np.float32(2e-3)
"""Metres: nearer hits are the surface a shadow ray starts on."""
ONE: Final = np.float32(1)
TINY: Final = np.float32(1e-7)
SKY: Final = -1
GROUND: Final = -2
BAND: Final = -3
GAMMA: Final = (np.linspace(0, 1, 16384) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)
"""Linear radiance in 0..1, in 16384 steps -> the byte shown (gamma 2.2)."""
OFFSETS: Final = np.array([[-0.25, -0.25], [0.25, -0.25], [-0.25, 0.25], [0.25, 0.25]], np.float32)
"""Sub-pixel positions of the four anti-aliasing rays, pixels."""


# Columns of the table of solids that one frame is drawn from. One array, not twelve: passing
# each array to a compiled function costs more than the arithmetic inside.
KIND, CENTRE, SIZE, TURN, RECT, LOCAL, SHADE, COLOUR, FILL, COLUMNS = (
    0, 1, 4, 7, 9, 13, 16, 21, 24, 25,
)  # fmt: skip
# Entries of the frame's vector: camera, light, ground, and the two axes across the light.
EYE, RIGHT, UP, FORWARD, SUN, LIGHT, AMBIENT, ZENITH, HORIZON, HAZE, GLOW = (
    0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28,
)  # fmt: skip
PALE, DARK, STRIP, CELL, STRIP_NEAR, STRIP_FAR, ACROSS, FRAME = 30, 33, 36, 39, 40, 41, 42, 48


def render(scene: Scene, height: int, width: int) -> np.ndarray:
    """Draw a scene: uint8 [frames, height, width, 3], sRGB-like (gamma 2.2)."""
    frames = scene.eye.shape[0]
    out = np.empty((frames, height, width, 3), np.uint8)
    frame = np.zeros(FRAME, np.float32)
    frame[SUN : SUN + 18] = scene.light.ravel()
    frame[PALE : PALE + 12] = scene.ground.ravel()
    table = np.zeros((len(scene.kind), COLUMNS), np.float32)
    table[:, KIND] = scene.kind
    table[:, SIZE : SIZE + 3] = scene.half
    table[:, COLOUR : COLOUR + 3] = scene.colour
    table[:, FILL] = scene.fill
    for f in range(frames):
        frame[EYE : EYE + 3] = scene.eye[f]
        frame[RIGHT : RIGHT + 9] = scene.basis[f].ravel()
        table[:, CENTRE : CENTRE + 3] = scene.centre[f]
        _render_frame(out[f], table.copy(), scene.yaw[f], frame, np.float32(scene.tan_half_fov))
    return out


@njit(cache=True, fastmath=True, error_model="numpy")
def _hash(ix, iz):
    value = (ix * 374761393 + iz * 668265263) & 0xFFFFFFFF
    value = ((value ^ (value >> 13)) * 1274126177) & 0xFFFFFFFF
    return np.float32((value ^ (value >> 16)) & 0xFFFF) / np.float32(65535.0)


@njit(cache=True, fastmath=True, error_model="numpy")
def _noise(x, z):
    """Value noise in 0..1, one value a cell, smoothly blended."""
    fx, fz = floor(x), floor(z)
    ix, iz = int(fx), int(fz)
    u, v = np.float32(x - fx), np.float32(z - fz)
    u = u * u * (np.float32(3) - np.float32(2) * u)
    v = v * v * (np.float32(3) - np.float32(2) * v)
    a, b = _hash(ix, iz), _hash(ix + 1, iz)
    c, d = _hash(ix, iz + 1), _hash(ix + 1, iz + 1)
    return (a + (b - a) * u) * (np.float32(1) - v) + (c + (d - c) * u) * v


@njit(cache=True, fastmath=True, error_model="numpy")
def _intersect(table, s, ox, oy, oz, dx, dy, dz):
    """Distance along a ray given in solid s's own frame; FAR when missed.

    The table holds the half extents of a box, and the inverse ones of an ellipsoid.
    """
    hx, hy, hz = table[s, SIZE], table[s, SIZE + 1], table[s, SIZE + 2]
    if table[s, KIND] > 0:
        px, py, pz = ox * hx, oy * hy, oz * hz
        qx, qy, qz = dx * hx, dy * hy, dz * hz
        a = qx * qx + qy * qy + qz * qz
        b = px * qx + py * qy + pz * qz
        c = px * px + py * py + pz * pz - ONE
        disc = b * b - a * c
        if disc <= 0:
            return FAR
        t = (-b - sqrt(disc)) / a
        return t if t > NEAR else FAR
    ix, iy, iz = ONE / (dx + TINY), ONE / (dy + TINY), ONE / (dz + TINY)
    ax, ay, az = abs(ix) * hx, abs(iy) * hy, abs(iz) * hz
    cx, cy, cz = -ox * ix, -oy * iy, -oz * iz
    near = max(cx - ax, cy - ay, cz - az)
    far = min(cx + ax, cy + ay, cz + az)
    if near > far or near <= NEAR:
        return FAR
    return near


@njit(cache=True, fastmath=True, error_model="numpy")
def _normal(table, s, x, y, z):
    """Outward normal at a point of solid s's surface, both in the solid's own frame."""
    hx, hy, hz = table[s, SIZE], table[s, SIZE + 1], table[s, SIZE + 2]
    zero = np.float32(0)
    if table[s, KIND] > 0:
        x, y, z = x * hx * hx, y * hy * hy, z * hz * hz
        n = ONE / sqrt(x * x + y * y + z * z)
        return x * n, y * n, z * n
    a, b, c = abs(x) / hx, abs(y) / hy, abs(z) / hz
    if a >= b and a >= c:
        return (ONE if x > 0 else -ONE), zero, zero
    if b >= c:
        return zero, (ONE if y > 0 else -ONE), zero
    return zero, zero, (ONE if z > 0 else -ONE)


@njit(cache=True, fastmath=True, error_model="numpy")
def _shadowed(table, frame, px, py, pz, skip):
    """Whether a solid other than `skip` stands between a point and the sun."""
    lx, ly, lz = frame[SUN], frame[SUN + 1], frame[SUN + 2]
    a = px * frame[ACROSS] + py * frame[ACROSS + 1] + pz * frame[ACROSS + 2]
    b = px * frame[ACROSS + 3] + py * frame[ACROSS + 4] + pz * frame[ACROSS + 5]
    along = px * lx + py * ly + pz * lz
    for s in range(table.shape[0]):
        if a < table[s, SHADE] or a > table[s, SHADE + 1] or b < table[s, SHADE + 2]:
            continue
        if b > table[s, SHADE + 3] or along > table[s, SHADE + 4] or s == skip:
            continue
        x, y, z = px - table[s, CENTRE], py - table[s, CENTRE + 1], pz - table[s, CENTRE + 2]
        c, n = table[s, TURN], table[s, TURN + 1]
        t = _intersect(
            table, s, x * c - z * n, y, x * n + z * c, lx * c - lz * n, ly, lx * n + lz * c
        )
        if t < FAR:
            return True
    return False


@njit(cache=True, fastmath=True, error_model="numpy")
def _trace(u, v, table, frame, row, rows):
    """Shade the ray through the image plane point (u, v): what it hit, and linear r, g, b."""
    dx = frame[FORWARD] + u * frame[RIGHT] + v * frame[UP]
    dy = frame[FORWARD + 1] + u * frame[RIGHT + 1] + v * frame[UP + 1]
    dz = frame[FORWARD + 2] + u * frame[RIGHT + 2] + v * frame[UP + 2]
    inv = ONE / sqrt(dx * dx + dy * dy + dz * dz)
    dx, dy, dz = dx * inv, dy * inv, dz * inv
    best, hit = FAR, SKY
    for index in range(rows):
        s = row[index]
        if u < table[s, RECT] or u > table[s, RECT + 1]:
            continue
        c, n = table[s, TURN], table[s, TURN + 1]
        t = _intersect(
            table, s, table[s, LOCAL], table[s, LOCAL + 1], table[s, LOCAL + 2],
            dx * c - dz * n, dy, dx * n + dz * c,
        )  # fmt: skip
        if t < best:
            best, hit = t, s
    if dy < -TINY:
        t = -frame[EYE + 1] / dy
        if t < best:
            best = t
            z = frame[EYE + 2] + t * dz
            hit = BAND if frame[STRIP_NEAR] < z < frame[STRIP_FAR] else GROUND
    if hit == SKY:
        r, g, b = _sky(dx, dy, dz, frame)
        return hit, r, g, b

    px, py, pz = frame[EYE] + best * dx, frame[EYE + 1] + best * dy, frame[EYE + 2] + best * dz
    nx, ny, nz = np.float32(0), ONE, np.float32(0)
    if hit >= 0:
        c, n = table[hit, TURN], table[hit, TURN + 1]
        x, z = px - table[hit, CENTRE], pz - table[hit, CENTRE + 2]
        mx, ny, mz = _normal(table, hit, x * c - z * n, py - table[hit, CENTRE + 1], x * n + z * c)
        nx, nz = mx * c + mz * n, mz * c - mx * n
    sun = max(nx * frame[SUN] + ny * frame[SUN + 1] + nz * frame[SUN + 2], np.float32(0))
    if sun > 0 and _shadowed(table, frame, px + nx * NEAR, py + ny * NEAR, pz + nz * NEAR, hit):
        sun = np.float32(0)
    ambient = np.float32(0.75) + np.float32(0.25) * ny
    kept = np.exp(-frame[HAZE] * best)
    own = np.float32(0)
    if hit == GROUND:
        patch = _noise(px / frame[CELL], pz / frame[CELL])
        r = frame[PALE] + (frame[DARK] - frame[PALE]) * patch
        g = frame[PALE + 1] + (frame[DARK + 1] - frame[PALE + 1]) * patch
        b = frame[PALE + 2] + (frame[DARK + 2] - frame[PALE + 2]) * patch
    elif hit == BAND:
        patch = np.float32(0.85) + np.float32(0.3) * _noise(
            px / frame[CELL] * np.float32(0.5), pz / frame[CELL]
        )
        r, g, b = frame[STRIP] * patch, frame[STRIP + 1] * patch, frame[STRIP + 2] * patch
    else:
        r, g, b = table[hit, COLOUR], table[hit, COLOUR + 1], table[hit, COLOUR + 2]
        own = table[hit, FILL]
    r *= frame[LIGHT] * sun + frame[AMBIENT] * ambient + own
    g *= frame[LIGHT + 1] * sun + frame[AMBIENT + 1] * ambient + own
    b *= frame[LIGHT + 2] * sun + frame[AMBIENT + 2] * ambient + own
    hr, hg, hb = frame[HORIZON], frame[HORIZON + 1], frame[HORIZON + 2]
    return hit, hr + (r - hr) * kept, hg + (g - hg) * kept, hb + (b - hb) * kept


@njit(cache=True, fastmath=True, error_model="numpy")
def _sky(dx, dy, dz, frame):
    """Linear r, g, b of the sky: horizon to zenith, and the halo and disc of the sun."""
    height = min(max(dy, np.float32(0)) * np.float32(2.2), ONE)
    toward = dx * frame[SUN] + dy * frame[SUN + 1] + dz * frame[SUN + 2]
    toward = max(toward, np.float32(0))
    square = toward * toward
    square *= square
    shine = frame[GLOW] * square * square * np.float32(0.5)
    if toward > np.float32(0.995):
        shine += np.float32(0.8)
    r = frame[HORIZON] + (frame[ZENITH] - frame[HORIZON]) * height
    g = frame[HORIZON + 1] + (frame[ZENITH + 1] - frame[HORIZON + 1]) * height
    b = frame[HORIZON + 2] + (frame[ZENITH + 2] - frame[HORIZON + 2]) * height
    return r + frame[LIGHT] * shine, g + frame[LIGHT + 1] * shine, b + frame[LIGHT + 2] * shine


@njit(cache=True, fastmath=True, error_model="numpy")
def _render_frame(out, table, yaw, frame, tan):
    height, width = out.shape[0], out.shape[1]
    _prepare(table, yaw, frame)
    row = np.empty(table.shape[0], np.int64)
    linear = np.empty((height, width, 3), np.float32)
    hits = np.empty((height, width), np.int32)
    pixel = np.float32(np.float32(2) * tan / np.float32(height))
    middle_u = np.float32(width) * np.float32(0.5) - np.float32(0.5)
    middle_v = np.float32(height) * np.float32(0.5) - np.float32(0.5)
    for j in range(height):
        v = (middle_v - np.float32(j)) * pixel
        rows = _row_candidates(v, pixel, table, row)
        for i in range(width):
            hit, r, g, b = _trace((np.float32(i) - middle_u) * pixel, v, table, frame, row, rows)
            hits[j, i] = hit
            linear[j, i, 0], linear[j, i, 1], linear[j, i, 2] = r, g, b
    for j in range(height):
        v = (middle_v - np.float32(j)) * pixel
        rows = _row_candidates(v, pixel, table, row)
        for i in range(width):
            here = hits[j, i]
            edge = (
                (i > 0 and hits[j, i - 1] != here)
                or (i + 1 < width and hits[j, i + 1] != here)
                or (j > 0 and hits[j - 1, i] != here)
                or (j + 1 < height and hits[j + 1, i] != here)
            )
            r, g, b = linear[j, i, 0], linear[j, i, 1], linear[j, i, 2]
            if edge:
                r, g, b = np.float32(0), np.float32(0), np.float32(0)
                u = (np.float32(i) - middle_u) * pixel
                for q in range(4):
                    _, x, y, z = _trace(
                        u + OFFSETS[q, 0] * pixel, v + OFFSETS[q, 1] * pixel, table, frame,
                        row, rows,
                    )  # fmt: skip
                    r += min(x, ONE) * np.float32(0.25)
                    g += min(y, ONE) * np.float32(0.25)
                    b += min(z, ONE) * np.float32(0.25)
            out[j, i, 0] = _encode(r)
            out[j, i, 1] = _encode(g)
            out[j, i, 2] = _encode(b)


@njit(cache=True, fastmath=True, error_model="numpy")
def _prepare(table, yaw, frame):
    """Fill in the columns that depend on the frame: turn, screen and shadow rectangles."""
    lx, ly, lz = frame[SUN], frame[SUN + 1], frame[SUN + 2]
    n = ONE / sqrt(lx * lx + lz * lz)  # the sun is never straight above
    ax, az = lz * n, -lx * n
    frame[ACROSS], frame[ACROSS + 1], frame[ACROSS + 2] = ax, np.float32(0), az
    frame[ACROSS + 3], frame[ACROSS + 4], frame[ACROSS + 5] = ly * az, lz * ax - lx * az, -ly * ax
    for s in range(table.shape[0]):
        c, n = np.float32(cos(yaw[s])), np.float32(sin(yaw[s]))
        table[s, TURN], table[s, TURN + 1] = c, n
        hx, hy, hz = table[s, SIZE], table[s, SIZE + 1], table[s, SIZE + 2]
        radius = sqrt(hx * hx + hy * hy + hz * hz)
        if table[s, KIND] > 0:
            radius = max(hx, hy, hz)
            table[s, SIZE], table[s, SIZE + 1], table[s, SIZE + 2] = ONE / hx, ONE / hy, ONE / hz
        px, py, pz = table[s, CENTRE], table[s, CENTRE + 1], table[s, CENTRE + 2]
        x, y, z = frame[EYE] - px, frame[EYE + 1] - py, frame[EYE + 2] - pz
        table[s, LOCAL] = x * c - z * n
        table[s, LOCAL + 1] = y
        table[s, LOCAL + 2] = x * n + z * c
        _screen_rectangle(table, s, -x, -y, -z, radius, frame)
        for k in range(2):
            m = ACROSS + 3 * k
            p = px * frame[m] + py * frame[m + 1] + pz * frame[m + 2]
            table[s, SHADE + 2 * k], table[s, SHADE + 2 * k + 1] = p - radius, p + radius
        table[s, SHADE + 4] = px * lx + py * ly + pz * lz + radius


@njit(cache=True, fastmath=True, error_model="numpy")
def _screen_rectangle(table, s, x, y, z, r, frame):
    """Bound the solid's bounding sphere on the image plane; everything when it is too near."""
    a = x * frame[RIGHT] + y * frame[RIGHT + 1] + z * frame[RIGHT + 2]
    b = x * frame[UP] + y * frame[UP + 1] + z * frame[UP + 2]
    d = x * frame[FORWARD] + y * frame[FORWARD + 1] + z * frame[FORWARD + 2]
    table[s, RECT], table[s, RECT + 1] = -FAR, FAR
    table[s, RECT + 2], table[s, RECT + 3] = -FAR, FAR
    if d + r <= np.float32(0.05):
        table[s, RECT], table[s, RECT + 1] = FAR, -FAR
    elif d - r > np.float32(0.05):
        near, far = ONE / (d - r), ONE / (d + r)
        table[s, RECT] = min((a - r) * near, (a - r) * far)
        table[s, RECT + 1] = max((a + r) * near, (a + r) * far)
        table[s, RECT + 2] = min((b - r) * near, (b - r) * far)
        table[s, RECT + 3] = max((b + r) * near, (b + r) * far)


@njit(cache=True, fastmath=True, error_model="numpy")
def _row_candidates(v, pixel, table, row):
    """List in `row` the solids that a row of pixels around height v can meet; return how many."""
    count = 0
    for s in range(table.shape[0]):
        if v + pixel >= table[s, RECT + 2] and v - pixel <= table[s, RECT + 3]:
            row[count] = s
            count += 1
    return count


@njit(cache=True, fastmath=True, error_model="numpy")
def _encode(value):
    value = min(max(value, np.float32(0)), ONE)
    return GAMMA[int(value * np.float32(len(GAMMA) - 1) + np.float32(0.5))]
