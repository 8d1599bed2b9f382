"""A model's graphs, exported one after the other into a bundle's folder.

Only one module is held at a time: the largest is most of a machine's memory.
"""

from __future__ import annotations

import gc
import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from animatic_export.checkpoint.tensors import open_tensors
from animatic_export.errors import CheckpointError
from animatic_export.graph import export_graph
from animatic_export.stored_weights import StoredWeights
from animatic_export.t5.config import read_config
from animatic_export.t5.graph import text_encoder_again, text_encoder_plan
from animatic_export.t5.names import load_encoder
from animatic_export.taehv.graph import tiny_decoder_again, tiny_decoder_plan
from animatic_export.taehv.names import load_taehv
from animatic_export.weights import Storage, storage_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from animatic.bundle import GraphSpec, LatentStats, Role
    from animatic.store import OpenBundle
    from animatic_export.checkpoint.tensors import Checkpoint, Tensors
    from animatic_export.graph import GraphPlan
    from animatic_export.published import PublishedModel

__all__ = [
    "export_parts",
    "lossless_storage",
    "storage_named",
    "stored_tensors",
    "text_plan",
    "text_plan_again",
    "tiny_plan",
    "tiny_plan_again",
]


def export_parts(
    plans: Iterable[Callable[[], GraphPlan]], folder: Path, say: Callable[[str], None]
) -> tuple[GraphSpec, ...]:
    """Export graphs whose modules are made when their turn comes; errors as `export_graph`."""
    specs = []
    for make in plans:
        plan = make()
        graph = export_graph(plan, folder)
        say(f"{plan.role}: {plan.precision}, relative error against torch {graph.error:.1e}")
        specs.append(graph.spec)
        del plan
        gc.collect()  # a module's parts know each other: it goes only so
    return tuple(specs)


def lossless_storage(tensors: Tensors) -> Storage:
    """Return the storage of weights that is as narrow as most of a checkpoint.

    It loses nothing: what does not fit into the narrow type stays as it is (see `weights`).
    """
    elements: Counter[torch.dtype] = Counter()
    for name in tensors:
        elements[tensors.dtype(name)] += math.prod(tensors.shape(name))
    [(dtype, _)] = elements.most_common(1)
    return storage_of(dtype if dtype in (torch.float16, torch.bfloat16) else torch.float32)


def storage_named(precision: str) -> Storage:
    """Return the storage of this name; KeyError for a precision that is no reference's."""
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    return {storage.precision: storage for storage in map(storage_of, dtypes)}[precision]


def text_plan(
    published: PublishedModel, max_tokens: int, dtype: torch.dtype | None = None
) -> GraphPlan:
    """Plan the text encoder of a published model, a T5 or umT5.

    dtype: what its matrices are stored in; None is the narrowest type that loses nothing.
    """
    config = published.config("text_encoder")
    if config is None:
        raise CheckpointError(
            f"{published.base / 'text_encoder'} has no config.json: fetch the checkpoint again."
        )
    tensors = open_tensors(published.base / "text_encoder")
    return text_encoder_plan(load_encoder(tensors, read_config(config), max_tokens, dtype))


def text_plan_again(opened: OpenBundle) -> GraphPlan:
    """Plan the text encoder with the weights that a bundle holds."""
    graph = opened.bundle.graph("text_encoder")
    weights = stored_tensors(opened, "text_encoder")
    return text_encoder_plan(text_encoder_again(graph.architecture, weights))


def tiny_plan(tensors: Checkpoint, stats: LatentStats) -> GraphPlan:
    """Plan a TAEHV decoder for a model whose raw latents have these statistics."""
    decoder, channels = load_taehv(tensors), len(stats.mean)
    if decoder.config.latent_channels != channels:
        raise CheckpointError(
            f"{tensors.path} decodes latents of {decoder.config.latent_channels} channels and this "
            f"model's have {channels}: give the TAEHV weights of this model."
        )
    return tiny_decoder_plan(decoder, lossless_storage(tensors), stats.mean, stats.std)


def tiny_plan_again(opened: OpenBundle) -> GraphPlan:
    """Plan the TAEHV decoder with the weights that a bundle holds."""
    graph = opened.bundle.graph("tiny_decoder")
    weights = stored_tensors(opened, "tiny_decoder")
    return tiny_decoder_again(graph.architecture, weights, storage_named(graph.precision))


def stored_tensors(opened: OpenBundle, role: Role) -> Mapping[str, Tensor]:
    """Return the float32 weights of a bundle's reference graph, each read when it is asked for."""
    return _Stored(StoredWeights.open(opened.path(opened.bundle.graph(role).file)))


class _Stored(Mapping[str, Tensor]):
    """Stored weights as tensors of torch."""

    def __init__(self, weights: StoredWeights) -> None:
        self._weights = weights

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self._weights[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)
