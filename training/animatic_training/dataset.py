"""The rendered set on disk: numbered shards, each made from (seed, number) alone.

A shard is two files: `clips-0007.npy`, uint8 [clips, frames, height, width, 3], and
`labels-0007.npy`, int64 [clips, 7] in the order of `world.attributes.CLASSES`. The labels are
written last, so a shard whose labels exist is whole; rendering resumes where it stopped.
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
    from collections.abc import Iterator
    from pathlib import Path

    from animatic_training.config import Config

HELD_OUT_FIRST: Final = 9000
"""Number of the first shard of held-out combinations."""

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


def render_shard(config: Config, folder: Path, shard: int) -> None:
    """Render one shard; nothing happens when it is there."""
    if labels_path(folder, shard).exists():
        return
    clip, count = config.clip, config.data.clips_per_shard
    rng = np.random.default_rng((config.data.seed, shard))
    pixels = np.empty((count, clip.frames, clip.height, clip.width, 3), np.uint8)
    labels = np.empty((count, len(CLASSES)), np.int64)
    for n in range(count):
        attributes = sample_attributes(rng, held_out=shard >= HELD_OUT_FIRST)
        labels[n] = attributes.labels()
        pixels[n] = render(build_scene(attributes, rng, clip.frames), clip.height, clip.width)
    save_array(clips_path(folder, shard), pixels)
    save_array(labels_path(folder, shard), labels)


def render_all(config: Config, folder: Path, workers: int) -> Iterator[int]:
    """Render every missing shard in `workers` processes; yield the numbers as they are done."""
    folder.mkdir(parents=True, exist_ok=True)
    train, held_out = shard_numbers(config)
    order = train[:1] + held_out + train[1:]
    # Spawned: forking a process in which torch has threads is not safe.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        jobs = [pool.submit(render_shard, config, folder, n) for n in order]
        for number, job in zip(order, jobs, strict=True):
            job.result()
            yield number


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
