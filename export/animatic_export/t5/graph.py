"""The graph of a T5 or umT5: prompts' token ids to token states."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
import onnx_ir as ir
import torch

from animatic.bundle import TensorSpec
from animatic_export.graph import GraphPlan
from animatic_export.t5.config import T5Config
from animatic_export.t5.names import fill_encoder
from animatic_export.weights import Storage, storage_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from animatic_export.t5.encoder import T5Encoder


class _Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    config: T5Config
    max_tokens: int
    dtype: str


def text_encoder_plan(encoder: T5Encoder) -> GraphPlan:
    """Plan the encoder of prompts of up to `max_tokens` tokens.

    It computes in float32 with the weights as the encoder stores them, which loses nothing.
    """
    storage = storage_of(encoder.dtype)
    generator = torch.Generator().manual_seed(0)
    length = min(12, encoder.max_tokens)
    ids = torch.randint(encoder.config.vocabulary, (2, length), generator=generator)
    padded = torch.ones_like(ids)
    padded[1, 7:] = 0
    short = ids[:1, :7]
    axes = ("batch", "tokens")
    dtype = str(encoder.dtype).removeprefix("torch.")
    architecture = _Architecture(encoder.config, encoder.max_tokens, dtype)
    return GraphPlan(
        role="text_encoder",
        module=encoder,
        # Padding is compared too: it attends to the real tokens, so its states are defined.
        examples=((ids, padded), (short, torch.ones_like(short))),
        inputs=(
            TensorSpec(name="input_ids", dtype="int64", shape=axes),
            TensorSpec(name="attention_mask", dtype="int64", shape=axes),
        ),
        outputs=(
            TensorSpec(name="text_states", dtype="float32", shape=(*axes, encoder.config.width)),
        ),
        precision=storage.precision,
        shrink=partial(_store, storage),
        tolerance=1e-4,
        architecture=msgspec.json.encode(architecture).decode(),
    )


def text_encoder_again(architecture: str, weights: Mapping[str, Tensor]) -> T5Encoder:
    """Return the encoder of a graph's own account and the float32 weights of the graph.

    The weights are asked for one at a time, and each is kept in the type that the encoder stores.
    """
    known = msgspec.json.decode(architecture, type=_Architecture)
    dtype: torch.dtype = getattr(torch, known.dtype)
    return fill_encoder(known.config, known.max_tokens, dtype, weights)


def _store(storage: Storage, model: ir.Model) -> ir.Model:
    return widen_late(storage.shrink(model))


def widen_late(model: ir.Model) -> ir.Model:
    """Have ONNX Runtime widen each narrow weight when it is used, and not all when it loads.

    It would fold the casts of constants into float32 constants: of 11 GB that may stay in a mapped
    file it would make 23 GB in memory, and take longer over that than over a prompt. A weight that
    is an input too, with itself as the default, is no constant by ONNX's rules, and stays as it is.

    The casts come first in the graph: ONNX Runtime goes back from the last node through the latest
    of each node's inputs, so an early node runs when it is needed. Where they are now, it would
    run all of them before anything else.
    """
    graph = model.graph
    early: dict[ir.Node, None] = {}
    for value in list(graph.initializers.values()):
        casts = [node for node, _ in value.uses() if node.op_type == "Cast"]
        if not casts or value.const_value is None:
            continue
        value.dtype, value.shape = (
            value.const_value.dtype,
            ir.Shape(value.const_value.shape.numpy()),
        )
        graph.inputs.append(value)
        for cast in casts:
            turns = [use.node for use in cast.outputs[0].uses() if use.node.op_type == "Transpose"]
            early |= dict.fromkeys([cast, *turns])
    if early:
        graph.remove(early)
        graph.insert_before(graph[0], early)
    return model
