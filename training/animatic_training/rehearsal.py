"""A run of every stage with its real networks, pictures and batches, for some seconds each.

What would break, stall or not fit shows in the first minutes on a machine and not in the last; and
how fast every stage is stands beside what the plan assumed.
"""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import msgspec
import torch

from animatic_training.budget import read_checkpoint
from animatic_training.pieces import piece_shards
from animatic_training.stages import checkpoint_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

    from animatic_training.config import Config
    from animatic_training.plan import Cost
    from animatic_training.stages import Workplace

SECONDS: Final[Mapping[str, float]] = {
    "vae": 5.0,
    "stills": 4.0,
    "denoiser": 10.0,
    "distill": 8.0,
    "probe": 4.0,
}
"""Of steps, compilers not counted. The denoiser meets patterns, stills and sizes by chance: in
200 steps nearly all of them."""
PIECES: Final = 25
PROMPTS: Final = 24
CAPTIONS: Final = 200
READING_STEPS: Final = 10


def rehearsed(config: Config) -> Config:
    """Return a configuration of the same networks, sizes and batches, over in seconds."""
    minutes = {stage: seconds / 60 for stage, seconds in SECONDS.items()}
    sizes = [shard.size(config) for shard in piece_shards(config)]
    shards = 1 + max(sizes.index(size) for size in set(sizes))  # until every size was there
    stills = config.data.still_shards and shards
    data = msgspec.structs.replace(
        config.data,
        piece_shards=shards,
        pieces_per_shard=PIECES,
        pixel_shards=shards,
        held_out_shards=1,
        still_shards=stills,
        stills_per_shard=min(config.data.stills_per_shard, PIECES),
    )
    train = msgspec.structs.replace(
        config.train, still_minutes=minutes["stills"], minutes=minutes["denoiser"]
    )
    return msgspec.structs.replace(
        config,
        data=data,
        reading=msgspec.structs.replace(config.reading, captions=CAPTIONS, steps=READING_STEPS),
        train=train,
        vae_training=msgspec.structs.replace(config.vae_training, minutes=minutes["vae"]),
        distill=msgspec.structs.replace(config.distill, minutes=minutes["distill"]),
        probe=msgspec.structs.replace(config.probe, minutes=minutes["probe"]),
        score=msgspec.structs.replace(config.score, prompts=PROMPTS, shots=PROMPTS),
    )


def machine(place: Workplace) -> str:
    """Return what the run has: torch, the accelerator, cores and room on the disk."""
    words = [f"torch {torch.__version__}"]
    if place.device.type == "cuda":
        free, whole = torch.cuda.mem_get_info(place.device)
        name = torch.cuda.get_device_name(place.device)
        words.append(f"{name}, {free / 1e9:.0f} of {whole / 1e9:.0f} GB free")
    words.append(f"{place.workers} workers")
    words.append(f"{shutil.disk_usage(place.run).free / 1e9:.0f} GB of disk free")
    return ", ".join(words)


def stage_line(
    place: Workplace, stage: str, seconds: float, costs: Mapping[str, Cost] | None = None
) -> str:
    """Return how a stage went: its seconds in all, and of one that takes steps how fast they were.

    The rate and the peak of memory are those of the process that wrote its checkpoint; `costs` say
    what they are in operations, beside what was planned.
    """
    file = checkpoint_of(stage, place.method)
    state = read_checkpoint(place.run / file) if file else None
    line = f"{stage:<11}{seconds:>7.0f} s"
    if state is None or not state.get("pace"):
        return line
    pace: float = state["pace"]
    line += f"{pace:>9.2f} steps/s{state['peak']:>7.1f} GB at most"
    if costs is None:
        return line
    cost = costs[stage]
    reached, planned = pace * cost.operations / 1e12, cost.speed(None) / 1e12
    return f"{line}{pace * cost.batch:>9,.0f} seen/s{reached:>8.2f} of {planned:.0f} TFLOP/s"


@contextmanager
def counted(place: Workplace) -> Iterator[Future[list[Cost]]]:
    """Count what the stages cost, in a process beside: it takes some of a minute."""
    from animatic_training.plan import costs
    from animatic_training.renders import workers

    with workers(1) as pool:
        yield pool.submit(costs, place.config, place.method)
