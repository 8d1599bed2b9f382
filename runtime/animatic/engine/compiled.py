"""Which of a bundle's compiled engines play on this machine, best first."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from animatic.engine.parts import Part, stand_in, text_part
from animatic.errors import EngineError
from animatic.fingerprint import fresh
from animatic.store import verify_files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from animatic.bundle import EngineEntry, GraphSpec, Role
    from animatic.detect import Device
    from animatic.engine.protocol import Engine
    from animatic.engine.wish import Wish
    from animatic.targets import Target

__all__ = ["compiled_parts", "compiled_sets", "targets_of"]


def targets_of(machine: Device) -> list[Target]:
    """The targets whose engines run on this machine: its own first, then its likes."""
    from animatic.targets import find_target, targets_like

    likes = [find_target(name) for name in targets_like(machine.compute_capability)]
    return sorted(likes, key=lambda target: not target.fits(machine.name))


def compiled_sets(wish: Wish, machine: Device) -> Iterator[tuple[str, dict[Role, EngineEntry]]]:
    """Sets of engines for this machine with their precision, best first.

    A set has every role that a clip needs on the GPU, and of the others those that were built.
    """
    for target in targets_of(machine):
        precisions = (target.default_precision, *target.precisions)
        for precision in (wish.precision,) if wish.precision else dict.fromkeys(precisions):
            for backend in dict.fromkeys(entry.name for entry in target.backends):
                if wish.device.startswith("tensorrt") and backend != wish.device:
                    continue
                entries = {
                    role: entry
                    for role in wish.roles
                    for entry in wish.bundle.engines
                    if (entry.role, entry.target, entry.backend) == (role, target.name, backend)
                    and entry.precision == wish.typed(role, precision, "fp16", "bf16")
                }
                named = {entries[role].precision for role in wish.needed if role in entries}
                if entries.keys() >= set(wish.needed) and precision in named:
                    yield precision, entries


def compiled_parts(
    wish: Wish, precision: str, entries: dict[Role, EngineEntry]
) -> dict[Role, Part]:
    """How a set is opened, with what stands in for engines that it lacks and a clip may not need.

    EngineError if one that every clip needs is stale.
    """
    build = f"animatic build {wish.opened.root} --target {entries['denoiser'].target}"
    parts: dict[Role, Part] = {}
    for role in wish.roles:
        entry = entries.get(role)
        if role == "text_encoder" and wish.text_on_processor:
            parts[role] = text_part(wish)
            continue
        if entry is None:
            parts[role] = stand_in(wish, role, precision, "it has no engine")
            continue
        graph = wish.bundle.graph(role, entry.precision)
        if fresh(entry, graph):
            parts[role] = Part(graph, partial(_open, wish, entry, graph))
        elif role in wish.needed:
            raise EngineError(
                f"The {precision} engine {entry.file} is stale: it was built from another "
                f"{graph.file} or with other settings; run `{build}`."
            )
        else:
            parts[role] = stand_in(wish, role, precision, "its engine is stale")
    return parts


def _open(wish: Wish, entry: EngineEntry, graph: GraphSpec) -> Engine:
    from animatic.engine.tensorrt import TensorRtEngine

    if wish.verify:
        verify_files(wish.opened, {entry.file})
    return TensorRtEngine(wish.opened.path(entry.file), graph, entry)
