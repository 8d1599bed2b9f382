"""How much memory and disk a build needs, and a refusal where there is less."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final, NamedTuple

from animatic_engines.errors import NoRoomError
from animatic_engines.memory import available_memory

if TYPE_CHECKING:
    from pathlib import Path

    from animatic.targets import Target

__all__ = ["Room", "measure", "needed_room", "refuse_if_short", "workspace_bytes"]

GIB: Final = 1 << 30
# Measured with TensorRT-RTX 1.7.1 as the largest resident set: 0.23 GiB for a graph of nothing,
# 0.44 GiB for one of 19 MB, 0.40 GiB for 45 MB, 9.75 GB for 2.84 GB.
MEMORY_BASE: Final = GIB // 2
MEMORY_FACTOR: Final = 3.5  # times the graph with its weights
# A plan holds the weights and kernels: 28.0 MB for a graph of 19.5 MB, 2.875 GB for 2.84 GB. The
# log beside it takes a megabyte or two.
DISK_BASE: Final = 64 << 20
DISK_FACTOR: Final = 1.1
# A layer that would take more scratch memory than a quarter of the card leaves no room beside it
# for weights, states and activations, of all three engines at once.
WORKSPACE_SHARE: Final = 4


class Room(NamedTuple):
    """Memory and disk in bytes; None where it is not known."""

    memory: int | None
    disk: int | None


def workspace_bytes(target: Target) -> int:
    """Scratch memory that one layer may use on the target: a quarter of its smallest card's."""
    return int(target.memory_gib * GIB) // WORKSPACE_SHARE


def needed_room(graph_bytes: int) -> Room:
    """What a build needs for a graph of this size, weights included."""
    return Room(
        memory=MEMORY_BASE + int(MEMORY_FACTOR * graph_bytes),
        disk=DISK_BASE + int(DISK_FACTOR * graph_bytes),
    )


def measure(folder: Path) -> Room:
    """What this machine has: memory that is available, and room on the disk of a folder."""
    try:
        disk: int | None = shutil.disk_usage(folder).free
    except OSError:
        disk = None
    return Room(memory=available_memory(), disk=disk)


def refuse_if_short(need: Room, have: Room, *, doing: str, folder: Path) -> None:
    """NoRoomError if there is too little; what is not known is taken to be enough."""
    if need.memory is not None and have.memory is not None and have.memory < need.memory:
        raise NoRoomError(
            f"{doing} needs about {_gib(need.memory)} of memory and {_gib(have.memory)} are "
            "available; close what else is running, or build on a machine with more memory."
        )
    if need.disk is not None and have.disk is not None and have.disk < need.disk:
        raise NoRoomError(
            f"{doing} needs about {_gib(need.disk)} on the disk of {os.fspath(folder)} and "
            f"{_gib(have.disk)} are free; free some space, or copy the bundle to another disk."
        )


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / (1 << 20):.0f} MiB"
