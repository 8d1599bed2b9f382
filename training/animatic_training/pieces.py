"""What is rendered: pieces of shots and single pictures, each made from (seed, number) alone.

A piece is 25 frames of a shot from some time on; a still is one. Shards of them are numbered, and
all of a shard have one size. Shards from `HELD_OUT_FIRST` on hold only combinations of attributes
that are kept out of training, in the default size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from animatic_training.config import PIECE_FRAMES
from animatic_training.world.attributes import CLASSES, ShotAttributes, sample_attributes
from animatic_training.world.captions import write_caption
from animatic_training.world.scene import build_scene

if TYPE_CHECKING:
    from animatic_training.config import Config, Size
    from animatic_training.world.scene import Scene

Kind = Literal["piece", "still"]

HELD_OUT_FIRST: Final = 9000
"""Number of the first shard of held-out combinations."""
_STREAMS: Final = {"piece": 0, "still": 1, "size": 2, "captions": 3}
_MIRROR: Final = {"left": "right", "pan_left": "pan_right", "truck_left": "truck_right"}
_GOLDEN: Final = 0.6180339887498949
"""Shares of sizes are kept even in a few shards by steps of the golden ratio."""


class Shard(NamedTuple):
    """Which pieces, or which stills."""

    kind: Kind
    number: int

    @property
    def held_out(self) -> bool:
        """Whether its combinations are kept out of training."""
        return self.number >= HELD_OUT_FIRST

    @property
    def frames(self) -> int:
        """Frames of each."""
        return PIECE_FRAMES if self.kind == "piece" else 1

    def count(self, config: Config) -> int:
        """How many it holds."""
        data = config.data
        return data.pieces_per_shard if self.kind == "piece" else data.stills_per_shard

    def size(self, config: Config) -> Size:
        """The size of its pictures."""
        if self.held_out:
            return config.sizes[0]
        place = (self.number + 0.5) * _GOLDEN % 1
        ends = np.cumsum([size.share for size in config.sizes])
        return config.sizes[int(np.searchsorted(ends / ends[-1], place))]


def piece_shards(config: Config) -> list[Shard]:
    """Return the training shards of pieces; the first `data.pixel_shards` are kept as pixels."""
    return [Shard("piece", n) for n in range(config.data.piece_shards)]


def still_shards(config: Config) -> list[Shard]:
    """Return the training shards of stills."""
    return [Shard("still", n) for n in range(config.data.still_shards)]


def held_out_shards(config: Config) -> list[Shard]:
    """Return the shards that scores are read from."""
    return [Shard("piece", HELD_OUT_FIRST + n) for n in range(config.data.held_out_shards)]


@dataclass(frozen=True)
class Piece:
    """One piece of a shot, or one still."""

    attributes: ShotAttributes
    start: float
    """Seconds of the first frame since the shot began."""
    frames: int
    size: Size
    seed: tuple[int, ...]

    def scene(self) -> Scene:
        """Return the scene that a renderer draws."""
        rng = np.random.default_rng(self.seed)
        return build_scene(
            self.attributes, rng, self.frames, start=self.start, aspect=self.size.aspect
        )


def draw_piece(config: Config, shard: Shard, n: int) -> Piece:
    """Draw the n-th of a shard."""
    data = config.data
    seed = (data.seed, _STREAMS[shard.kind], shard.number, n)
    rng = np.random.default_rng((*seed, 0))
    attributes = sample_attributes(rng, held_out=shard.held_out)
    # A still may be any picture of a shot; most of what a piece teaches is how a shot begins.
    begins = shard.kind == "piece" and rng.random() < data.begin_share
    start = 0.0 if begins else float(rng.uniform(0, data.latest_start))
    return Piece(attributes, start, shard.frames, shard.size(config), (*seed, 1))


def captions_of(config: Config, shard: Shard, n: int, labels: np.ndarray) -> list[str]:
    """Write captions of the n-th of a shard, and as many of its mirror image."""
    rng = np.random.default_rng((config.data.seed, _STREAMS["captions"], shard.number, n))
    views = (ShotAttributes(*row.tolist()) for row in (labels, mirrored_labels(labels)))
    return [write_caption(view, rng) for view in views for _ in range(config.data.captions)]


def mirrored_labels(labels: np.ndarray) -> np.ndarray:
    """Return the labels int64 [..., 13] of the same pictures mirrored left to right."""
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
