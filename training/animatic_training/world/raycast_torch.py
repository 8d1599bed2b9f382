"""The picture of `raycast`, drawn for many scenes at once by torch, on any device.

Every ray meets every solid, without culling: an accelerator has the arithmetic to spare, and a
tensor of fixed shape keeps it busy. The arithmetic follows `raycast` line by line in float32, so
the pictures differ only where rounding puts a ray on the other side of an edge.

Axes: N images (scenes x frames), R rays an image, S solids (boxes first, then ellipsoids).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from animatic_training.world.raycast import BAND, FAR, GAMMA, GROUND, NEAR, OFFSETS, SKY, TINY
from animatic_training.world.solids import BOX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from animatic_training.world.scene import Scene

Triple = tuple[Tensor, Tensor, Tensor]
"""The x, y and z of vectors, each a tensor of its own."""

_FAR, _NEAR, _TINY = float(FAR), float(NEAR), float(TINY)
_CENTRE, _SIZE, _TURN, _COLOUR, _FILL, _COLUMNS = 0, 3, 6, 8, 11, 12  # columns of a stage's table
_NO_BOX, _NO_ELLIPSOID = -1.0, np.inf
"""Half extents that no ray meets; they pad a scene to the solids of the largest."""


_EYE, _RIGHT, _SUN_WAY, _GROUND, _LENS = 0, 1, 4, 10, 14  # rows of a stage's settings
_LIGHT_ROWS, _GROUND_ROWS = slice(_SUN_WAY, _GROUND), slice(_GROUND, _LENS)


class _Stage(NamedTuple):
    """What N images are drawn from."""

    table: Tensor
    """[N, S, _COLUMNS]; the sizes are half extents of boxes and inverse ones of ellipsoids."""
    settings: Tensor
    """[N, 15, 3]: eye, basis, light, ground, and tangent of half the field of view."""
    boxes: int
    """How many of the solids are boxes."""


def render_batch(
    scenes: Sequence[Scene],
    height: int,
    width: int,
    device: torch.device | str,
    *,
    rays_per_chunk: int = 1 << 17,
) -> Tensor:
    """Draw scenes of equal frame counts: uint8 [B, F, height, width, 3] on `device`, gamma 2.2.

    At most `rays_per_chunk` rays meet the solids at once; each of them takes about 80 bytes a
    solid while it does. ValueError when the frame counts differ.
    """
    counts = {len(scene.eye) for scene in scenes}
    if len(counts) != 1:
        raise ValueError(f"The scenes of a batch need one number of frames, not {sorted(counts)}.")
    boxes = max(int((scene.kind == BOX).sum()) for scene in scenes)
    others = max(int((scene.kind != BOX).sum()) for scene in scenes)
    solids = np.concatenate([_solids(scene, boxes, others) for scene in scenes])
    table = torch.from_numpy(solids).to(device)
    settings = torch.from_numpy(np.concatenate([_settings(scene) for scene in scenes])).to(device)
    images = max(1, rays_per_chunk // (height * width))
    parts = [
        _draw(_Stage(*part, boxes), height, width, rays_per_chunk)
        for part in zip(torch.split(table, images), torch.split(settings, images), strict=True)
    ]
    return torch.cat(parts).view(len(scenes), -1, height, width, 3)


def _settings(scene: Scene) -> np.ndarray:
    """Return a scene's camera, light and ground in every frame, float32 [F, 15, 3]."""
    still = np.concatenate([scene.light, scene.ground, np.full((1, 3), scene.tan_half_fov)])
    every = np.broadcast_to(still, (len(scene.eye), *still.shape))
    return np.concatenate([scene.eye[:, None], scene.basis, every], axis=1, dtype=np.float32)


def _solids(scene: Scene, boxes: int, others: int) -> np.ndarray:
    """Return a scene's solids in every frame, float32 [F, boxes + others, _COLUMNS]."""
    is_box = scene.kind == BOX
    own = np.concatenate([np.flatnonzero(is_box), np.flatnonzero(~is_box)])
    place = np.concatenate([np.arange(is_box.sum()), boxes + np.arange((~is_box).sum())])
    table = np.zeros((len(scene.eye), boxes + others, _COLUMNS), np.float32)
    half = np.full((boxes + others, 3), _NO_BOX, np.float32)
    half[boxes:] = _NO_ELLIPSOID
    half[place] = scene.half[own]
    half[boxes:] = 1 / half[boxes:]
    table[:, :, _SIZE : _SIZE + 3] = half
    table[:, place, _CENTRE : _CENTRE + 3] = scene.centre[:, own]
    table[:, place, _TURN] = np.cos(scene.yaw[:, own])
    table[:, place, _TURN + 1] = np.sin(scene.yaw[:, own])
    table[:, place, _COLOUR : _COLOUR + 3] = scene.colour[own]
    table[:, place, _FILL] = scene.fill[own]
    return table


def _draw(stage: _Stage, height: int, width: int, rays_per_chunk: int) -> Tensor:
    """Return the pixels uint8 [N, height, width, 3] of a stage."""
    device, images = stage.table.device, len(stage.table)
    pixel = 2 * stage.settings[:, _LENS, :1] / height
    columns = torch.arange(width, device=device, dtype=torch.float32) - (width / 2 - 0.5)
    rows = (height / 2 - 0.5) - torch.arange(height, device=device, dtype=torch.float32)
    u = columns.repeat(height) * pixel
    v = rows.repeat_interleave(width) * pixel
    hits, linear = _trace_chunks(stage, u, v, rays_per_chunk)

    edge = _edges(hits.view(images, height, width)).view(images, -1)
    most = int(edge.sum(1).max())
    if most:
        chosen = edge.byte().topk(most, dim=1).indices  # an image with fewer edges fills up
        shift = torch.from_numpy(OFFSETS).to(device)[:, None] * pixel[:, :, None, None]
        fine_u = u.gather(1, chosen)[:, None] + shift[..., 0]
        fine_v = v.gather(1, chosen)[:, None] + shift[..., 1]
        _, fine = _trace_chunks(stage, fine_u.flatten(1), fine_v.flatten(1), rays_per_chunk)
        mean = fine.clamp(max=1).view(images, len(OFFSETS), most, 3).mean(1)
        where = chosen[..., None].expand(-1, -1, 3)
        smooth = torch.where(edge.gather(1, chosen)[..., None], mean, linear.gather(1, where))
        linear = linear.scatter(1, where, smooth)

    gamma = torch.from_numpy(GAMMA).to(device)
    steps = (linear.clamp(0, 1) * (len(GAMMA) - 1) + 0.5).long()
    return gamma[steps].view(images, height, width, 3)


def _edges(hits: Tensor) -> Tensor:
    """Return where hits [N, H, W] differ from one of their four neighbours."""
    edge = torch.zeros_like(hits, dtype=torch.bool)
    across = hits[:, :, 1:] != hits[:, :, :-1]
    down = hits[:, 1:] != hits[:, :-1]
    edge[:, :, 1:] |= across
    edge[:, :, :-1] |= across
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    return edge


def _trace_chunks(stage: _Stage, u: Tensor, v: Tensor, rays: int) -> tuple[Tensor, Tensor]:
    size = max(1, rays // len(stage.table))
    parts = [
        _trace(stage, part_u, part_v)
        for part_u, part_v in zip(torch.split(u, size, 1), torch.split(v, size, 1), strict=True)
    ]
    return torch.cat([hit for hit, _ in parts], 1), torch.cat([colour for _, colour in parts], 1)


def _trace(stage: _Stage, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Shade rays through image plane points [N, R]: hits int64 [N, R], linear RGB [N, R, 3]."""
    right, up, forward = stage.settings[:, _RIGHT:_SUN_WAY, None].unbind(1)
    direction = forward + u[..., None] * right + v[..., None] * up
    direction = direction * direction.square().sum(-1, keepdim=True).rsqrt()
    eye = stage.settings[:, _EYE, None]

    best, hit = _intersect(stage, eye, direction).min(-1)
    hit = torch.where(best < _FAR, hit, SKY)
    dy, dz = direction[..., 1], direction[..., 2]
    floor = torch.where(dy < -_TINY, -eye[..., 1] / dy, _FAR)
    z = eye[..., 2] + floor * dz
    pale, dark, strip, patches = stage.settings[:, _GROUND_ROWS, None].unbind(1)
    cell, strip_near, strip_far = patches.unbind(-1)
    ground = torch.where((strip_near < z) & (z < strip_far), BAND, GROUND)
    hit = torch.where(floor < best, ground, hit)
    best = torch.minimum(best, floor)

    point = eye + best[..., None] * direction
    index = hit.clamp(min=0)[..., None].expand(-1, -1, _COLUMNS)
    solid = stage.table.gather(1, index)
    normal = _normal(solid, point, hit, stage.boxes)
    sun_way, sun, ambient, _, horizon, air = stage.settings[:, _LIGHT_ROWS, None].unbind(1)
    facing = (normal * sun_way).sum(-1).clamp(min=0)
    blocked = _intersect(stage, point + normal * _NEAR, sun_way) < _FAR
    own = torch.arange(stage.table.shape[1], device=hit.device) == hit[..., None]
    facing = torch.where((blocked & ~own).any(-1), 0.0, facing)[..., None]
    lit = sun * facing + ambient * (0.75 + 0.25 * normal[..., 1:2])

    on_band = hit == BAND
    across = torch.where(on_band, point[..., 0] / cell * 0.5, point[..., 0] / cell)
    patch = _noise(across, point[..., 2] / cell)[..., None]
    colour = torch.where(
        on_band[..., None], strip * (0.85 + 0.3 * patch), pale + (dark - pale) * patch
    )
    is_solid = (hit >= 0)[..., None]
    colour = torch.where(is_solid, solid[..., _COLOUR : _COLOUR + 3], colour)
    lit = lit + torch.where(is_solid, solid[..., _FILL : _FILL + 1], 0.0)
    kept = torch.exp(-air[..., :1] * best[..., None])
    shaded = horizon + (colour * lit - horizon) * kept
    return hit, torch.where((hit == SKY)[..., None], _sky(stage, direction), shaded)


def _intersect(stage: _Stage, start: Tensor, way: Tensor) -> Tensor:
    """Return the distances [N, R, S] at which rays meet each solid, FAR where they miss.

    `start` and `way` are [N, R, 3]; either may have one ray that stands for all.
    """
    table = stage.table[:, None]
    offset = (
        start[..., 0:1] - table[..., _CENTRE],
        start[..., 1:2] - table[..., _CENTRE + 1],
        start[..., 2:3] - table[..., _CENTRE + 2],
    )
    turn = table[..., _TURN], table[..., _TURN + 1]
    ox, oy, oz = _turned(offset, turn)
    dx, dy, dz = _turned((way[..., 0:1], way[..., 1:2], way[..., 2:3]), turn)
    dy = dy.expand_as(dx)
    size = table[..., _SIZE], table[..., _SIZE + 1], table[..., _SIZE + 2]
    first, rest = slice(0, stage.boxes), slice(stage.boxes, None)
    distances = [
        kernel(
            (ox[..., part], oy[..., part], oz[..., part]),
            (dx[..., part], dy[..., part], dz[..., part]),
            (size[0][..., part], size[1][..., part], size[2][..., part]),
        )
        for kernel, part in ((_meet_boxes, first), (_meet_ellipsoids, rest))
    ]
    return torch.cat(distances, dim=-1)


def _turned(vector: Triple, turn: tuple[Tensor, Tensor]) -> Triple:
    """Return world vectors in the solids' own frames; `turn` is cosine and sine of their yaw."""
    x, y, z = vector
    cosine, sine = turn
    return x * cosine - z * sine, y, x * sine + z * cosine


def _meet_boxes(start: Triple, way: Triple, half: Triple) -> Tensor:
    inverse = [1 / (d + _TINY) for d in way]
    reach = [i.abs() * h for i, h in zip(inverse, half, strict=True)]
    middle = [-o * i for o, i in zip(start, inverse, strict=True)]
    ins = [m - r for m, r in zip(middle, reach, strict=True)]
    outs = [m + r for m, r in zip(middle, reach, strict=True)]
    near = torch.maximum(torch.maximum(ins[0], ins[1]), ins[2])
    far = torch.minimum(torch.minimum(outs[0], outs[1]), outs[2])
    return torch.where((near <= far) & (near > _NEAR), near, _FAR)


def _meet_ellipsoids(start: Triple, way: Triple, inverse_half: Triple) -> Tensor:
    px, py, pz = (o * h for o, h in zip(start, inverse_half, strict=True))
    qx, qy, qz = (d * h for d, h in zip(way, inverse_half, strict=True))
    a = qx * qx + qy * qy + qz * qz
    b = px * qx + py * qy + pz * qz
    c = px * px + py * py + pz * pz - 1
    discriminant = b * b - a * c
    distance = (-b - discriminant.clamp(min=0).sqrt()) / a
    return torch.where((discriminant > 0) & (distance > _NEAR), distance, _FAR)


def _normal(solid: Tensor, point: Tensor, hit: Tensor, boxes: int) -> Tensor:
    """Return unit normals [N, R, 3] at points of the solids [N, R, _COLUMNS] that were hit."""
    turn = solid[..., _TURN], solid[..., _TURN + 1]
    x, y, z = (point - solid[..., _CENTRE : _CENTRE + 3]).unbind(-1)
    local = torch.stack(_turned((x, y, z), turn), dim=-1)
    size = solid[..., _SIZE : _SIZE + 3]
    face = torch.nn.functional.one_hot((local.abs() / size).argmax(-1), 3)
    flat = torch.where(local > 0, 1.0, -1.0) * face
    bent = local * size * size
    bent = bent * bent.square().sum(-1, keepdim=True).rsqrt()
    x, y, z = torch.where((hit < boxes)[..., None], flat, bent).unbind(-1)
    cosine, sine = turn
    normal = torch.stack([x * cosine + z * sine, y, z * cosine - x * sine], dim=-1)
    return torch.where((hit >= 0)[..., None], normal, normal.new_tensor([0.0, 1.0, 0.0]))


def _sky(stage: _Stage, direction: Tensor) -> Tensor:
    sun_way, sun, _, zenith, horizon, air = stage.settings[:, _LIGHT_ROWS, None].unbind(1)
    height = (direction[..., 1:2].clamp(min=0) * 2.2).clamp(max=1)
    toward = (direction * sun_way).sum(-1, keepdim=True).clamp(min=0)
    shine = air[..., 1:2] * toward.square().square().square() * 0.5
    shine = shine + torch.where(toward > 0.995, 0.8, 0.0)
    return horizon + (zenith - horizon) * height + sun * shine


def _noise(x: Tensor, z: Tensor) -> Tensor:
    """Return value noise in 0..1, one value a cell, smoothly blended."""
    corner_x, corner_z = x.floor(), z.floor()
    u, v = x - corner_x, z - corner_z
    u, v = u * u * (3 - 2 * u), v * v * (3 - 2 * v)
    ix, iz = corner_x.long(), corner_z.long()
    a, b = _hash(ix, iz), _hash(ix + 1, iz)
    c, d = _hash(ix, iz + 1), _hash(ix + 1, iz + 1)
    return (a + (b - a) * u) * (1 - v) + (c + (d - c) * u) * v


def _hash(ix: Tensor, iz: Tensor) -> Tensor:
    value = (ix * 374761393 + iz * 668265263) & 0xFFFFFFFF
    value = ((value ^ (value >> 13)) * 1274126177) & 0xFFFFFFFF
    return ((value ^ (value >> 16)) & 0xFFFF).float() / 65535.0
