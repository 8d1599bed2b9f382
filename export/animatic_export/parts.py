"""A model's graphs, exported one after the other into a bundle's folder.

Only one module is held at a time: the largest is most of a machine's memory.
"""

from __future__ import annotations

import gc
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from animatic_export.checkpoint.tensors import Outline
from animatic_export.errors import CheckpointError
from animatic_export.graph import export_graph
from animatic_export.stored_weights import StoredWeights
from animatic_export.t5.config import read_config
from animatic_export.t5.graph import text_encoder_again, text_encoder_plan
from animatic_export.t5.names import load_encoder
from animatic_export.taehv.graph import tiny_decoder_again, tiny_decoder_plan
from animatic_export.taehv.names import load_taehv
from animatic_export.weights import Storage, storage_of, stored_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from animatic.bundle import Geometry, GraphSpec, LatentStats, Role
    from animatic.store import OpenBundle
    from animatic_export.checkpoint.tensors import Checkpoint, Tensors
    from animatic_export.graph import GraphPlan
    from animatic_export.published import PublishedModel
    from animatic_export.t5.config import T5Config
    from animatic_export.t5.encoder import T5Encoder
    from animatic_export.taehv.decoder import TaehvDecoder

__all__ = [
    "Part",
    "TextEncoder",
    "export_parts",
    "lossless_storage",
    "storage_named",
    "stored_tensors",
    "text_part",
    "text_plan_again",
    "tiny_part",
    "tiny_plan_again",
]

_Module = TypeVar("_Module", bound=nn.Module)


@dataclass(frozen=True)
class Part(Generic[_Module]):
    """A graph to come: its weights, and what is made of them.

    load: makes the module; CheckpointError for tensors that do not fit. It is called with their
        outline first, of which it makes a module without storage.
    plan: plans the graph. storage: how its weights are stored.
    """

    tensors: Tensors
    load: Callable[[Tensors], _Module]
    plan: Callable[[_Module], GraphPlan]
    storage: Storage

    def check(self) -> int:
        """Refuse tensors that do not fit, without loading any; return the graph's bytes at least.

        CheckpointError names the first.
        """
        return stored_bytes(self.load(Outline(self.tensors)), self.storage.precision)

    def make(self) -> GraphPlan:
        """Load the weights and plan the graph."""
        return self.plan(self.load(self.tensors))


def export_parts(
    parts: Iterable[Part[Any]], folder: Path, say: Callable[[str], None]
) -> tuple[GraphSpec, ...]:
    """Export graphs whose modules are made when their turn comes; errors as `export_graph`."""
    specs = []
    for part in parts:
        plan = part.make()
        say(f"{plan.role}: exporting, which takes minutes where there are billions of weights")
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


@dataclass(frozen=True)
class TextEncoder:
    """The text encoder that a model was made with.

    model: what messages call that model. kind: "umT5" or "T5". width: of the states it takes.
    max_tokens: how long a prompt may be.
    dtype: what the matrices are stored in; None is the narrowest type that loses nothing.
    """

    model: str
    kind: str
    width: int
    max_tokens: int
    dtype: torch.dtype | None = None


def text_part(published: PublishedModel, wanted: TextEncoder) -> tuple[Part[T5Encoder], T5Config]:
    """Return the text encoder's graph to come, and its shape; CheckpointError for another kind."""
    document = published.config("text_encoder")
    folder = published.base / "text_encoder"
    if document is None:
        raise CheckpointError(f"{folder} has no config.json: fetch the checkpoint again.")
    config = read_config(document)
    tables = {"umT5": config.layers, "T5": 1}
    if config.positions != tables[wanted.kind]:
        found = next(kind for kind in tables if kind != wanted.kind)
        raise CheckpointError(
            f"The text encoder in {folder} is a {found} and {wanted.model} was made with a "
            f"{wanted.kind}: give the base of that model with --base."
        )
    if config.width != wanted.width:
        raise CheckpointError(
            f"The text encoder in {folder} gives states {config.width} wide and the denoiser takes "
            f"{wanted.width}: give the base that belongs to the checkpoint with --base."
        )

    def load(tensors: Tensors) -> T5Encoder:
        return load_encoder(tensors, config, wanted.max_tokens, wanted.dtype)

    tensors = published.text_encoder
    # Float32 may turn out to be bfloat16's, which only its values tell: at the least it takes that.
    storage = storage_of(wanted.dtype or torch.bfloat16)
    return Part(tensors, load, text_encoder_plan, storage), config


def text_plan_again(opened: OpenBundle) -> GraphPlan:
    """Plan the text encoder with the weights that a bundle holds."""
    graph = opened.bundle.graph("text_encoder")
    weights = stored_tensors(opened, "text_encoder")
    return text_encoder_plan(text_encoder_again(graph.architecture, weights))


def tiny_part(tensors: Checkpoint, stats: LatentStats, geometry: Geometry) -> Part[TaehvDecoder]:
    """Return the graph to come of a TAEHV decoder for a model of these raw latents."""
    wanted = (geometry.latent_channels, geometry.spatial_factor, geometry.temporal_factor)
    storage = lossless_storage(tensors)

    def load(given: Tensors) -> TaehvDecoder:
        decoder = load_taehv(given)
        config = decoder.config
        found = (config.latent_channels, config.spatial_factor, config.temporal_factor)
        if found != wanted:
            raise CheckpointError(
                f"{tensors.path} decodes latents of {_cells(*found)} and this model's have "
                f"{_cells(*wanted)}: give the TAEHV weights of this model."
            )
        return decoder

    def plan(decoder: TaehvDecoder) -> GraphPlan:
        return tiny_decoder_plan(decoder, storage, stats.mean, stats.std)

    return Part(tensors, load, plan, storage)


def _cells(channels: int, spatial: int, temporal: int) -> str:
    return f"{channels} channels for {spatial}x{spatial} pixels of {temporal} frames"


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
