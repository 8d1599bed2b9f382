"""The rendered set on disk: numbered shards, each made from (seed, number) alone.

A shard is two files: `clips-0007.npy`, uint8 [clips, frames, height, width, 3], and
`labels-0007.npy`, int64 [clips, 7] in the order of `world.attributes.CLASSES`. The labels are
written last, so a shard whose labels exist is whole; rendering resumes where it stopped.
The CPU's cores draw with `world.raycast`, an accelerator with `world.raycast_torch`; the pictures
differ only by rounding.
Shards from `HELD_OUT_FIRST` on hold only combinations kept out of training.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Final

import numpy as np

from animatic_training.atomic import whole_file
from animatic_training.world.attributes import CLASSES, sample_attributes
from animatic_training.world.raycast import render
from animatic_training.world.scene import build_scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import torch

    from animatic_training.config import Config
    from animatic_training.world.scene import Scene

    Draw = Callable[[list[Scene], int, int], np.ndarray]
    """Scenes, height and width to pixels uint8 [clips, frames, height, width, 3]."""

HELD_OUT_FIRST: Final = 9000
"""Number of the first shard of held-out combinations."""

BATCH: Final = 25
"""Scenes that are drawn at once."""

_MIRROR: Final = {"left": "right", "pan_left": "pan_right"}


def clips_path(folder: Path, shard: int) -> Path:
    """Return where a shard's pixels are."""
    return folder / f"clips-{shard:04d}.npy"


def labels_path(folder: Path, shard: int) -> Path:
    """Return where a shard's labels are."""
    return folder / f"labels-{shard:04d}.npy"


def shard_numbers(config: Config) -> tuple[list[int], list[int]]:
    """Return the numbers of the training shards and of the held-out ones."""
    train = list(range(config.data.shards))
    return train, [HELD_OUT_FIRST + n for n in range(config.data.held_out_shards)]


def ready_shards(config: Config, folder: Path, *, held_out: bool = False) -> list[int]:
    """Return the numbers of the shards that are already whole."""
    numbers = shard_numbers(config)[1 if held_out else 0]
    return [n for n in numbers if labels_path(folder, n).exists()]


def draw_in_turn(scenes: list[Scene], height: int, width: int) -> np.ndarray:
    """Draw scenes one after the other on one core, uint8 [B, F, height, width, 3]."""
    return np.stack([render(scene, height, width) for scene in scenes])


def render_shard(config: Config, folder: Path, shard: int, draw: Draw = draw_in_turn) -> None:
    """Render one shard; nothing happens when it is there."""
    if labels_path(folder, shard).exists():
        return
    clip, count = config.clip, config.data.clips_per_shard
    rng = np.random.default_rng((config.data.seed, shard))
    pixels = np.empty((count, clip.frames, clip.height, clip.width, 3), np.uint8)
    labels = np.empty((count, len(CLASSES)), np.int64)
    for start in range(0, count, BATCH):
        scenes = []
        for n in range(start, min(start + BATCH, count)):
            attributes = sample_attributes(rng, held_out=shard >= HELD_OUT_FIRST)
            labels[n] = attributes.labels()
            scenes.append(build_scene(attributes, rng, clip.frames))
        pixels[start : start + BATCH] = draw(scenes, clip.height, clip.width)
    save_array(clips_path(folder, shard), pixels)
    save_array(labels_path(folder, shard), labels)


def render_all(config: Config, folder: Path, workers: int) -> Iterator[int]:
    """Render every missing shard in `workers` processes; yield the numbers as they are done.

    When one cannot be rendered, or on Ctrl-C, those that nobody has begun are not rendered.
    """
    order = _rendering_order(config, folder)
    # Spawned: forking a process in which torch has threads is not safe.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context)
    try:
        jobs = [pool.submit(render_shard, config, folder, n) for n in order]
        for number, job in zip(order, jobs, strict=True):
            job.result()
            yield number
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown()


def render_all_on(device: torch.device, config: Config, folder: Path) -> Iterator[int]:
    """Render every missing shard on an accelerator; yield the numbers as they are done."""
    from animatic_training.world.raycast_torch import render_batch

    def draw(scenes: list[Scene], height: int, width: int) -> np.ndarray:
        pixels: np.ndarray = render_batch(scenes, height, width, device).cpu().numpy()
        return pixels

    for number in _rendering_order(config, folder):
        render_shard(config, folder, number, draw)
        yield number


def _rendering_order(config: Config, folder: Path) -> list[int]:
    """Make the folder and return the shards' numbers: what the first stages need comes first."""
    folder.mkdir(parents=True, exist_ok=True)
    train, held_out = shard_numbers(config)
    return train[:1] + held_out + train[1:]


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array beside its name, then rename: a file of that name is always whole."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)


def mirrored_labels(labels: np.ndarray) -> np.ndarray:
    """Return the labels int64 [..., 7] of the same clips mirrored left to right."""
    swapped = labels.copy()
    for column, classes in enumerate(CLASSES.values()):
        for a, b in _MIRROR.items():
            if a in classes:
                ia, ib = classes.index(a), classes.index(b)
                swapped[..., column] = np.select(
                    [labels[..., column] == ia, labels[..., column] == ib],
                    [ib, ia],
                    swapped[..., column],
                )
    return swapped
