"""The picture of `raycast`, drawn by torch: one graph of fixed shapes, for accelerators.

Every ray meets every solid, without culling: the graph compiles into a handful of kernels that keep
what rays and solids make of each other in registers, so that arithmetic alone is the cost, and an
accelerator has that to spare. The arithmetic follows `raycast` in float32; pictures differ only
where rounding puts a ray on the other side of an edge.

Axes: N images (the frames of one scene), R rays an image, S solids, L layers of rain and snow.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from animatic_training.transfer import to_device
from animatic_training.world import falling as drop
from animatic_training.world import stage as at
from animatic_training.world.raycast import BAND, GAMMA, OFFSETS, SKY, STEEP
from animatic_training.world.raycast_shading import GROUND
from animatic_training.world.raycast_torch_shading import (
    Entries,
    Triple,
    covered,
    dot,
    ground_light,
    mixed,
    normals,
    sky_light,
    solid_light,
    triple,
)
from animatic_training.world.solids import BOX, ELLIPSOID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from animatic_training.world.scene import Scene

FINE_SHARE = 1 / 4
"""Share of a picture's pixels that can get four more rays; the steepest do."""
SOLIDS_STEP, LAYERS = 80, 6
"""Scenes are padded to a multiple of so many solids and to so many layers: few graphs do."""

_GRAPHS = 64
"""Sizes of pictures times numbers of solids that are compiled, at most."""
_TINY = 1e-7
_log = logging.getLogger(__name__)


class Drawing(NamedTuple):
    """What comes of one scene."""

    pixels: Tensor
    """uint8 [N, height, width, 3], gamma 2.2."""
    mask: Tensor
    """uint8 [N, height, width]: 1 the subject, 2 the second subject, 0 the set."""
    left_out: Tensor
    """int64 [N]: pixels steep enough for four more rays for which the share did not do."""


def render_batch(
    scenes: Sequence[Scene],
    height: int,
    width: int,
    device: torch.device | str,
    *,
    compiled: bool = False,
    fine_share: float = FINE_SHARE,
) -> tuple[Tensor, Tensor]:
    """Draw scenes of equal frame counts on `device`.

    Pixels are uint8 [B, F, height, width, 3], gamma 2.2; the mask is uint8 [B, F, height, width]:
    1 the subject, 2 the second subject, 0 the set. Of every picture `fine_share` of the pixels can
    get four more rays. ValueError when the frame counts differ.
    """
    stages = [at.set_stage(scene, height) for scene in scenes]
    return render_stages(stages, height, width, device, compiled=compiled, fine_share=fine_share)


def render_stages(
    stages: Sequence[at.Stage],
    height: int,
    width: int,
    device: torch.device | str,
    *,
    compiled: bool = False,
    fine_share: float = FINE_SHARE,
) -> tuple[Tensor, Tensor]:
    """Draw stages set for pictures of `height`, as `render_batch` does.

    Setting a stage takes the processor some milliseconds: other processes can do it beforehand.
    """
    counts = {len(stage.settings) for stage in stages}
    if len(counts) != 1:
        raise ValueError(f"The scenes of a batch need one number of frames, not {sorted(counts)}.")
    solids = max(len(stage.subject) for stage in stages)
    solids = -(-solids // SOLIDS_STEP) * SOLIDS_STEP
    draw = _compiled_draw() if compiled else draw_stage
    fine = int(height * width * fine_share)
    drawings = [draw(tensors(stage, solids, device), height, width, fine) for stage in stages]
    if _log.isEnabledFor(logging.DEBUG):
        left_out = [int(drawing.left_out.sum()) for drawing in drawings]
        _log.debug("pixels left without their four rays, by scene: %s", left_out)
    pixels = torch.stack([drawing.pixels for drawing in drawings])
    return pixels, torch.stack([drawing.mask for drawing in drawings])


@cache
def _compiled_draw() -> Callable[..., Drawing]:
    compiled = torch.compile(draw_stage, fullgraph=True, dynamic=False)

    def draw(
        given: tuple[Tensor, Tensor, Tensor, Tensor], height: int, width: int, fine: int
    ) -> Drawing:
        # Each size of pictures is a graph of its own, and torch gives up after eight.
        with torch._dynamo.config.patch(recompile_limit=_GRAPHS):  # noqa: SLF001, no public name
            drawing: Drawing = compiled(given, height, width, fine)
        return drawing

    return draw


def tensors(
    stage: at.Stage, solids: int, device: torch.device | str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return a stage padded to so many solids and to `LAYERS` layers; no ray meets the additional.

    Table [N, S, .], settings [N, .], falling [N, L, .], subject [S].
    """
    frames, present, _ = stage.table.shape
    # Every ray reads one column of all solids: side by side in memory they are read at once.
    table = np.zeros((frames, at.COLUMNS, solids), np.float32).swapaxes(1, 2)
    table[:, :, at.EYE_OWN : at.AHEAD] = 2  # outside a unit solid, at which no ray is directed
    table[:, :, at.OFFSET : at.EYE_OWN] = 2
    table[:, :present] = stage.table
    falling = np.zeros((frames, LAYERS, drop.ENTRIES), np.float32)
    falling[:, :, [drop.HALF_X, drop.HALF_Y, drop.ROUND]] = 1
    falling[:, : stage.falling.shape[1]] = stage.falling
    subject = np.zeros(solids, np.uint8)
    subject[:present] = stage.subject
    made = (
        to_device(torch.from_numpy(array), device)
        for array in (table, stage.settings, falling, subject)
    )
    table_, settings_, falling_, subject_ = made
    return table_, settings_, falling_, subject_


def draw_stage(
    stage: tuple[Tensor, Tensor, Tensor, Tensor], height: int, width: int, fine: int
) -> Drawing:
    """Draw a padded stage; the `fine` steepest pixels of a picture can get four more rays."""
    table, settings, falling, subject = stage
    device, images = table.device, len(table)
    pixel = settings[:, at.PIXEL, None]
    columns = torch.arange(width, device=device, dtype=torch.float32) - (width / 2 - 0.5)
    rows = (height / 2 - 0.5) - torch.arange(height, device=device, dtype=torch.float32)
    u = columns.repeat(height) * pixel
    v = rows.repeat_interleave(width) * pixel
    hit, depth, first = _trace(table, settings, u, v)
    linear = torch.stack(first, dim=-1)

    gamma = torch.from_numpy(GAMMA).to(device)
    coarse = _encode(linear, gamma).view(images, height, width, 3)
    steep = _steepness(coarse.int()).view(images, -1)
    most, chosen = steep.topk(fine, dim=1, sorted=False)
    shift = torch.from_numpy(OFFSETS).to(device)
    fine_u = u.gather(1, chosen)[..., None] + shift[:, 0] * pixel[..., None]
    fine_v = v.gather(1, chosen)[..., None] + shift[:, 1] * pixel[..., None]
    _, _, fresh = _trace(table, settings, fine_u.flatten(1), fine_v.flatten(1))
    mean = torch.stack(fresh, dim=-1).clamp(max=1).view(images, fine, len(OFFSETS), 3).mean(2)
    where = chosen[..., None].expand(-1, -1, 3)
    smooth = torch.where(most[..., None] >= STEEP, mean, linear.gather(1, where))
    linear = linear.scatter(1, where, smooth)

    cover = covered(falling, u, v, depth)[..., None]
    linear = linear + (settings[:, None, at.DROP : at.DROP + 3] - linear) * cover
    shown = torch.where(hit >= 0, subject[hit.clamp(min=0)], 0)
    return Drawing(
        _encode(linear, gamma).view(images, height, width, 3),
        shown.view(images, height, width).to(torch.uint8),
        ((steep >= STEEP).sum(1) - fine).clamp(min=0),
    )


def _encode(linear: Tensor, gamma: Tensor) -> Tensor:
    return gamma[(linear.clamp(0, 1) * (len(GAMMA) - 1) + 0.5).int()]


def _steepness(levels: Tensor) -> Tensor:
    """Return the largest step [N, H, W] from pixels of `levels` [N, H, W, 3] to a neighbour."""
    across = (levels[:, :, 1:] - levels[:, :, :-1]).abs().amax(-1)
    down = (levels[:, 1:] - levels[:, :-1]).abs().amax(-1)
    pad = torch.nn.functional.pad
    beside = torch.maximum(pad(across, (1, 0)), pad(across, (0, 1)))
    above = torch.maximum(pad(down, (0, 0, 1, 0)), pad(down, (0, 0, 0, 1)))
    return torch.maximum(beside, above)


def _trace(table: Tensor, settings: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Triple]:
    """Follow rays through image plane points [N, R]: hits int64, depths, linear RGB."""
    frame, solids = Entries(settings[:, None]), Entries(table[:, None])
    forward, right, up = (frame.triple(k) for k in (at.FORWARD, at.RIGHT, at.UP))
    ahead = triple(f + u * r + v * p for f, r, p in zip(forward, right, up, strict=True))
    best, hit = _meet(solids, u[..., None], v[..., None]).min(-1)
    eye = frame.triple(at.EYE)
    down = ahead[1] < -_TINY
    floor = torch.where(down, -eye[1] / ahead[1], at.FAR)
    z = eye[2] + floor * ahead[2]
    on_band = (frame[at.STRIP_NEAR] < z) & (z < frame[at.STRIP_FAR])
    hit = torch.where(best < floor, hit, torch.where(on_band, BAND, GROUND))
    hit = torch.where((best < at.FAR) | down, hit, SKY)
    best = torch.minimum(best, floor)

    length = torch.sqrt(1 + u * u + v * v)
    way = triple(a / length for a in ahead)
    reach = torch.where(hit == SKY, 0.0, best)  # where nothing is met, nothing may overflow
    point = triple(e + reach * a for e, a in zip(eye, ahead, strict=True))
    solid = Entries(table, hit.clamp(min=0))
    normal = normals(solid, point, hit)
    facing = dot(normal, frame.triple(at.SUN)).clamp(min=0)
    lone = triple(p[..., None] for p in point)
    sun = facing * _sunlit(solids, lone, hit[..., None])
    painted = torch.where(
        (hit >= 0)[None],
        torch.stack(solid_light(solid, frame, way, point[1], normal, sun)),
        torch.stack(ground_light(frame, hit, way, point, reach * length, sun, _dark(solids, lone))),
    )
    kept = torch.exp(-frame[at.HAZE] * reach * length)
    shaded = mixed(frame.triple(at.HORIZON), triple(painted), kept)
    sky = sky_light(frame, way)
    return (
        hit,
        best,
        triple(torch.where(hit == SKY, s, p) for s, p in zip(sky, shaded, strict=True)),
    )


def _meet(solids: Entries, u: Tensor, v: Tensor) -> Tensor:
    """Return the depths [N, R, S] at which rays meet each solid, FAR where they miss."""
    p = solids.triple(at.EYE_OWN)
    q = triple(
        solids[at.AHEAD + k] + u * solids[at.ASIDE + k] + v * solids[at.ABOVE + k] for k in range(3)
    )
    kind = solids[at.KIND]
    near, far, away = _within(kind, p, q)
    met = (near <= far) & (near > at.NEAR) & ((kind == BOX) | (away < 1))
    return torch.where(met, near, at.FAR)


def _within(kind: Tensor, p: Triple, q: Triple) -> tuple[Tensor, Tensor, Tensor]:
    """Return where rays p + t q enter and leave unit solids, and how near they pass to the middle.

    A ball and a cylinder are one quadric, which takes a ball's y and leaves out a cylinder's; a
    box and a cylinder lie between slabs. A ray that passes the quadric (away >= 1) enters and
    leaves it where it is nearest.
    """
    inverse = triple(1 / (way + _TINY) for way in q)
    slabs = [(-o * i - i.abs(), -o * i + i.abs()) for o, i in zip(p, inverse, strict=True)]
    ball = (kind == ELLIPSOID).to(p[0].dtype)
    a = 1 / (q[0] * q[0] + ball * q[1] * q[1] + q[2] * q[2] + _TINY * _TINY)
    middle = -(p[0] * q[0] + ball * p[1] * q[1] + p[2] * q[2]) * a
    x, y, z = p[0] + middle * q[0], ball * (p[1] + middle * q[1]), p[2] + middle * q[2]
    away = x * x + y * y + z * z
    half = torch.sqrt((1 - away).clamp(min=0) * a)
    near = torch.where(kind == BOX, torch.maximum(slabs[0][0], slabs[2][0]), middle - half)
    far = torch.where(kind == BOX, torch.minimum(slabs[0][1], slabs[2][1]), middle + half)
    near = torch.where(kind == ELLIPSOID, near, torch.maximum(near, slabs[1][0]))
    far = torch.where(kind == ELLIPSOID, far, torch.minimum(far, slabs[1][1]))
    return near, far, away


def _sunlit(solids: Entries, point: Triple, hit: Tensor) -> Tensor:
    """Return the share of the sun [N, R] that reaches points [N, R, 1] of the solids `hit`."""
    kind = solids[at.KIND]
    near, far, away = _within(kind, solids.own(point), solids.triple(at.SUN_OWN))
    near = near.clamp(min=0)
    margin = far - near
    rounded = torch.minimum(margin, (1 - torch.sqrt(away)) * solids[at.RADIUS])
    margin = torch.where(kind == BOX, margin, rounded)
    soft = at.SOFTNESS * near.clamp(max=at.WIDEST)
    share = ((margin + 0.5 * soft) / (soft + at.CONTACT)).clamp(0, 1)
    other = torch.arange(kind.shape[-1], device=hit.device) != hit
    return (1 - (share * other).sum(-1)).clamp(min=0)


def _dark(solids: Entries, point: Triple) -> Tensor:
    """Return by what the ambient light at points [N, R, 1] of the ground is divided, [N, R]."""
    x, z = point[0] - solids[at.BLOB], point[2] - solids[at.BLOB + 1]
    away = x * x * solids[at.BLOB + 2] + 2 * x * z * solids[at.BLOB + 3]
    near = (1 - (away + z * z * solids[at.BLOB + 4]) / at.BLOB_REACH).clamp(min=0)
    return 1 + (solids[at.BLOB + 5] * near * near).sum(-1)
