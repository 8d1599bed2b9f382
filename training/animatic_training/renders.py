"""Shards rendered, as fast as the machine goes.

Worker processes write captions and set stages ahead; the CPU's cores draw them as well, by
`world.raycast`, while an accelerator draws whole chunks by `world.raycast_torch`. The pictures
differ only by rounding.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from animatic_training.pieces import Shard, captions_of, draw_piece
from animatic_training.subject_mask import subject_share
from animatic_training.world.raycast import render_with_mask
from animatic_training.world.stage import set_stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor, Future

    from torch import Tensor

    from animatic_training.config import Config
    from animatic_training.pixels import PixelShard
    from animatic_training.world.stage import Stage

CHUNK: Final = {"piece": 25, "still": 250}
"""Pieces or stills that one worker prepares, and an accelerator draws, at once."""


@dataclass(frozen=True)
class Chunk:
    """Some of a shard; N of them."""

    labels: np.ndarray
    """int64 [N, 13], in the order of `world.attributes.CLASSES`."""
    starts: np.ndarray
    """float32 [N], seconds since each shot began."""
    captions: list[list[str]]
    """Of each: so many, then as many of its mirror image."""
    pixels: Tensor
    """uint8 [N, F, H, W, 3]; empty where they are not asked for."""
    shares: Tensor
    """float16 [N, T, h, w] of subject in each latent cell; empty where pixels are."""


@dataclass(frozen=True)
class _Prepared:
    labels: np.ndarray
    starts: np.ndarray
    captions: list[list[str]]
    stages: list[Stage]
    pixels: np.ndarray
    shares: np.ndarray


def _prepare(config: Config, shard: Shard, first: int, count: int, draw: str) -> _Prepared:
    """Prepare a chunk in a worker: draw its "pixels", set its "stages", or "neither"."""
    pieces = [draw_piece(config, shard, n) for n in range(first, first + count)]
    labels = np.stack([piece.attributes.labels() for piece in pieces])
    captions = [captions_of(config, shard, first + n, row) for n, row in enumerate(labels)]
    size = shard.size(config)
    shape = (count if draw == "pixels" else 0, shard.frames, size.height, size.width)
    pixels, masks = np.empty((*shape, 3), np.uint8), np.empty(shape, np.uint8)
    stages = []
    for n, piece in enumerate(pieces if draw != "neither" else ()):
        scene = piece.scene()
        if draw == "pixels":
            pixels[n], masks[n] = render_with_mask(scene, size.height, size.width)
        else:
            stages.append(set_stage(scene, size.height))
    starts = np.array([piece.start for piece in pieces], np.float32)
    shares = subject_share(torch.from_numpy(masks)).numpy()
    return _Prepared(labels, starts, captions, stages, pixels, shares)


@contextmanager
def workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of processes; what nobody has begun is dropped when it closes."""
    # Spawned: forking a process in which torch has threads is not safe.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(count, context, initializer=_alone)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _alone() -> None:
    """Keep a worker to its own core."""
    torch.set_num_threads(1)


def rendered(
    config: Config,
    shards: Sequence[Shard],
    device: torch.device,
    pool: Executor,
    *,
    ahead: int = 8,
    drawn: frozenset[Shard] = frozenset(),
) -> Iterator[tuple[Shard, list[Chunk]]]:
    """Yield the shards in their order, each in chunks; of those already `drawn` no pixels.

    On an accelerator the pixels are its tensors. `ahead` chunks are prepared ahead.
    """
    jobs = iter(
        [
            (shard, first, min(CHUNK[shard.kind], shard.count(config) - first))
            for shard in shards
            for first in range(0, shard.count(config), CHUNK[shard.kind])
        ]
    )
    queue: deque[tuple[Shard, Future[_Prepared]]] = deque()

    def submit() -> None:
        if job := next(jobs, None):
            shard, first, count = job
            kind = "pixels" if device.type == "cpu" else "stages"
            draw = "neither" if shard in drawn else kind
            queue.append((shard, pool.submit(_prepare, config, shard, first, count, draw)))

    for _ in range(max(ahead, 1)):
        submit()
    chunks: list[Chunk] = []
    while queue:
        shard, future = queue.popleft()
        prepared = future.result()
        submit()
        chunks.append(_finish(config, shard, prepared, device))
        if sum(len(chunk.labels) for chunk in chunks) == shard.count(config):
            yield shard, chunks
            chunks = []


def _finish(config: Config, shard: Shard, prepared: _Prepared, device: torch.device) -> Chunk:
    """Draw what a worker left to the accelerator."""
    pixels, shares = torch.from_numpy(prepared.pixels), torch.from_numpy(prepared.shares)
    if prepared.stages:
        from animatic_training.world.raycast_torch import render_stages

        size = shard.size(config)
        pixels, masks = render_stages(
            prepared.stages, size.height, size.width, device, compiled=config.compile
        )
        shares = subject_share(masks)
    return Chunk(prepared.labels, prepared.starts, prepared.captions, pixels, shares)


def from_disk(prepared: Sequence[Chunk], kept: PixelShard) -> list[Chunk]:
    """Return chunks that were not drawn with the pixels of their shard as it lies on the disk."""
    chunks, first = [], 0
    for chunk in prepared:
        own = slice(first, first + len(chunk.labels))
        chunks.append(replace(chunk, pixels=kept.pixels[own], shares=kept.shares[own]))
        first = own.stop
    return chunks
