"""What a ray of the torch renderer brings home: as `raycast_shading`, for all rays at once.

Vectors and colours are three tensors [N, R] each, so that a compiler keeps them in registers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from animatic_training.world import falling as drop
from animatic_training.world import stage as at
from animatic_training.world.raycast import BAND
from animatic_training.world.solids import BOX, CYLINDER

if TYPE_CHECKING:
    from collections.abc import Iterable

Triple = tuple[Tensor, Tensor, Tensor]
"""The x, y and z of vectors, or the red, green and blue of colours, each a tensor of its own."""

_TINY = 1e-7


class Entries:
    """Entries of settings [N, 1, .] or a table [N, 1, S, .]; or of a table's solids at `index`."""

    def __init__(self, rows: Tensor, index: Tensor | None = None) -> None:
        self._rows, self._index = rows, index

    def __getitem__(self, entry: int) -> Tensor:
        """Return one entry: [N, 1], [N, 1, S], or [N, R] at an index [N, R]."""
        column = self._rows[..., entry]
        return column if self._index is None else column.gather(1, self._index)

    def triple(self, entry: int) -> Triple:
        """Return three entries that stand side by side."""
        return self[entry], self[entry + 1], self[entry + 2]

    def own(self, point: Triple) -> Triple:
        """Return world points as solids see them."""
        return triple(
            dot(self.triple(at.MAP + 3 * row), point) + self[at.OFFSET + row] for row in range(3)
        )


def triple(parts: Iterable[Tensor]) -> Triple:
    """Return the three parts of a vector or colour."""
    x, y, z = parts
    return x, y, z


def dot(a: Triple, b: Triple) -> Tensor:
    """Return the inner product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def mixed(a: Triple, b: Triple, share: Tensor) -> Triple:
    """Return a where the share is 0, b where it is 1."""
    return triple(p + (q - p) * share for p, q in zip(a, b, strict=True))


def normals(solid: Entries, point: Triple, hit: Tensor) -> Triple:
    """Return unit normals at points of the solids that were hit; the ground's is up."""
    x, y, z = solid.own(point)
    kind = solid[at.KIND]
    flat_x = (x.abs() >= y.abs()) & (x.abs() >= z.abs())
    flat_y = ~flat_x & (y.abs() >= z.abs())
    cap = y * y >= x * x + z * z
    box, tube = kind == BOX, kind == CYLINDER
    x = torch.where((box & ~flat_x) | (tube & cap), 0.0, x)
    y = torch.where((box & ~flat_y) | (tube & ~cap), 0.0, y)
    z = torch.where((box & (flat_x | flat_y)) | (tube & cap), 0.0, z)
    rows = [solid.triple(at.MAP + 3 * k) for k in range(3)]
    turned = triple(x * rows[0][k] + y * rows[1][k] + z * rows[2][k] for k in range(3))
    size = torch.rsqrt(dot(turned, turned))
    up = (0.0, 1.0, 0.0)
    return triple(torch.where(hit >= 0, t * size, k) for t, k in zip(turned, up, strict=True))


def solid_light(
    solid: Entries, frame: Entries, way: Triple, height: Tensor, normal: Triple, sun: Tensor
) -> Triple:
    """Return the light that solids give back: ambient, sun, fill, highlight."""
    ambient = (0.75 + 0.25 * normal[1]) * (1 - 0.3 / (1 + 6 * height * height))
    rim = (1 + dot(normal, way)).clamp(min=0)
    ambient = ambient + 0.25 * rim * rim * rim
    half = triple(s - w for s, w in zip(frame.triple(at.SUN), way, strict=True))
    shine = dot(normal, half).clamp(min=0)
    shine = shine * shine / (dot(half, half) + _TINY)
    shine = 0.12 * shine.square().square().square() * sun
    light, sky = frame.triple(at.LIGHT), frame.triple(at.AMBIENT)
    return triple(
        solid[at.COLOUR + k] * (light[k] * sun + sky[k] * ambient + solid[at.FILL])
        + light[k] * shine
        for k in range(3)
    )


def ground_light(
    frame: Entries, hit: Tensor, way: Triple, point: Triple, far: Tensor, sun: Tensor, dark: Tensor
) -> Triple:
    """Return the light that the ground gives back; its patches fade with the distance."""
    cell = frame[at.CELL]
    wide = far * frame[at.PIXEL] / (-way[1] * cell).clamp(min=_TINY)
    fade = 1 / (1 + 4 * wide * wide)
    across = point[0] / cell
    on_band = hit == BAND
    patch = (_noise(torch.where(on_band, across * 0.5, across), point[2] / cell) - 0.5) * fade
    pale = mixed(frame.triple(at.PALE), frame.triple(at.DARK), 0.5 + patch)
    strip = triple(s * (1 + 0.3 * patch) for s in frame.triple(at.STRIP))
    light, sky = frame.triple(at.LIGHT), frame.triple(at.AMBIENT)
    return triple(
        torch.where(on_band, strip[k], pale[k]) * (light[k] * sun + sky[k] / dark) for k in range(3)
    )


def sky_light(frame: Entries, way: Triple) -> Triple:
    """Return the sky: horizon to zenith, clouds or stars, the sun's halo and disc."""
    up = way[1].clamp(min=0)
    blue = mixed(frame.triple(at.HORIZON), frame.triple(at.ZENITH), (up * 2.2).clamp(max=1))
    toward = dot(way, frame.triple(at.SUN)).clamp(min=0)
    shine = frame[at.GLOW] * toward.square().square().square() * 0.5

    flat = 2 / (up + 0.18)
    x, z = way[0] * flat + frame[at.SKY_X], way[2] * flat
    thick = 0.65 * _noise(x, z * 1.6) + 0.35 * _noise(x * 2.3, z * 3.7)
    veil = (thick * 2.4 - 1.15).clamp(0, 1) * frame[at.CLOUDS] * 0.55 * (up * 7).clamp(max=1)
    cloud = triple((c * 1.1).clamp(max=1) for c in frame.triple(at.DROP))
    shine = shine + torch.where(toward > 0.995, 0.8, 0.0) * frame[at.DISC] * (1 - veil)

    flat = 16 / (up + 0.6)
    x, z = way[0] * flat, way[2] * flat
    column, row = x.floor(), z.floor()
    bits = _bits(column.int() + frame[at.SKY_X].int(), row.int())
    x = x - (column + 0.2 + 0.6 * _byte(bits, 8))
    z = z - (row + 0.2 + 0.6 * _byte(bits, 16))
    near = (1 - (x * x + z * z) * 40).clamp(min=0)
    star = (
        near
        * near
        * frame[at.STARS]
        * (up * 5).clamp(max=1)
        * (0.1 + 0.5 * ((bits >> 24) & 0x7F) / 127)
    )
    star = torch.where((bits & 0xFF) < 90, star, 0.0)
    veiled = mixed(blue, cloud, veil)
    return triple(b + s * shine + star for b, s in zip(veiled, frame.triple(at.LIGHT), strict=True))


def covered(falling: Tensor, u: Tensor, v: Tensor, depth: Tensor) -> Tensor:
    """Return the share of each pixel [N, R] that rain or snow before `depth` covers."""
    layer = Entries(falling[:, None])
    u, v = u[..., None], v[..., None]
    x = layer[drop.ACROSS] + u * layer[drop.ACROSS_U] + v * layer[drop.ACROSS_V]
    y = layer[drop.DOWN] + v * layer[drop.DOWN_V]
    column, row = x.floor(), y.floor()
    # In whole numbers of float32, exactly; half a column keeps a rounded quotient off the step.
    around = layer[drop.ROUND]
    turned = column - torch.floor((column + 0.5) / around) * around
    bits = _bits((turned + layer[drop.SALT]).int(), row.int())
    hx, hy = layer[drop.HALF_X], layer[drop.HALF_Y]
    x = (x - (column + hx + (1 - 2 * hx) * _byte(bits, 8))) / hx
    y = (y - (row + hy + (1 - 2 * hy) * _byte(bits, 16))) / hy
    near = (1 - x * x - y * y).clamp(min=0)
    seen = (bits & 0xFF) < layer[drop.CHANCE] * 256
    seen = seen & (layer[drop.DEPTH] <= depth[..., None])
    return 1 - torch.where(seen, 1 - layer[drop.OPACITY] * near * near, 1.0).prod(-1)


def _noise(x: Tensor, z: Tensor) -> Tensor:
    """Return value noise in 0..1, one value a cell, smoothly blended."""
    column, row = x.floor(), z.floor()
    u, v = x - column, z - row
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    ix, iz = column.int(), row.int()
    a, b = _bits(ix, iz) & 0xFFFF, _bits(ix + 1, iz) & 0xFFFF
    c, d = _bits(ix, iz + 1) & 0xFFFF, _bits(ix + 1, iz + 1) & 0xFFFF
    return ((a + (b - a) * u) * (1 - v) + (c + (d - c) * u) * v) / 65535


def _bits(ix: Tensor, iz: Tensor) -> Tensor:
    """Return the 31 random bits of each cell."""
    lattice = torch.from_numpy(at.LATTICE).to(ix.device).flatten()
    return lattice[(iz & 255) * 256 + (ix & 255)]


def _byte(bits: Tensor, shift: int) -> Tensor:
    """Return eight of the bits, 0..1."""
    return ((bits >> shift) & 0xFF) / 255
