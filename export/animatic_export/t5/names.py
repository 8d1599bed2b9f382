"""Published names to ours: what transformers calls the tensors of a T5 or umT5."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from animatic_export.checkpoint.network import NetworkTensors, shapes_of
from animatic_export.t5.config import ADVICE
from animatic_export.t5.encoder import T5Encoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor

    from animatic_export.t5.config import T5Config

WORDS: Final = ("shared.weight", "encoder.embed_tokens.weight")
"""The embedding; a checkpoint has it under one of the names, or under both."""
ENCODER: Final = "encoder."
"""The decoder of a whole model and its output layer are passed over."""
_LAYER: Final = {
    "attention_norm.gain": "layer.0.layer_norm.weight",
    "query.weight": "layer.0.SelfAttention.q.weight",
    "key.weight": "layer.0.SelfAttention.k.weight",
    "value.weight": "layer.0.SelfAttention.v.weight",
    "proj.weight": "layer.0.SelfAttention.o.weight",
    "norm.gain": "layer.1.layer_norm.weight",
    "gate.weight": "layer.1.DenseReluDense.wi_0.weight",
    "up.weight": "layer.1.DenseReluDense.wi_1.weight",
    "down.weight": "layer.1.DenseReluDense.wo.weight",
}


def load_encoder(
    tensors: Mapping[str, Tensor],
    config: T5Config,
    max_tokens: int,
    dtype: torch.dtype | None = None,
) -> T5Encoder:
    """Return the encoder with a checkpoint's weights.

    max_tokens: how long a prompt may be. dtype: what the large matrices are stored in; None: the
        narrowest type that loses nothing. A float32 file whose values are all bfloat16's, as that
        of Wan 2.1 in diffusers' form, so becomes half as large.
    CheckpointError names the first tensor that is missing, has another shape or type, or belongs to
    another model.
    """
    shapes = shapes_of(lambda: T5Encoder(config, max_tokens, torch.float32))
    words = next((name for name in WORDS if name in tensors), WORDS[0])
    names = {name for name in tensors if name.startswith(ENCODER)} - set(WORDS)
    if words in tensors:
        names.add(words)
    network = NetworkTensors(
        tensors, {name: name for name in sorted(names)}, "this text encoder", ADVICE
    )
    found = {ours: network.take(name, shapes[ours]) for ours, name in _names(config, words)}
    network.close()
    return fill_encoder(config, max_tokens, dtype or _narrowest(found.values()), found)


def fill_encoder(
    config: T5Config, max_tokens: int, dtype: torch.dtype, weights: Mapping[str, Tensor]
) -> T5Encoder:
    """Return the encoder with weights under our names; what has its type already is not copied."""
    with torch.device("meta"):
        encoder = T5Encoder(config, max_tokens, dtype)
    state = {
        # What is kept in float32 is rounded all the same: narrow storage then loses nothing of it.
        name: weights[name].to(dtype).to(place.dtype)
        for name, place in encoder.state_dict().items()
    }
    encoder.load_state_dict(state, assign=True)
    return encoder.eval().requires_grad_(requires_grad=False)


def _names(config: T5Config, words: str) -> Iterator[tuple[str, str]]:
    """Each of our names and the published one."""
    yield "words.weight", words
    for n in range(config.positions):
        table = f"block.{n}.layer.0.SelfAttention.relative_attention_bias.weight"
        yield f"positions.{n}.weight", f"{ENCODER}{table}"
    for n in range(config.layers):
        for ours, theirs in _LAYER.items():
            yield f"layers.{n}.{ours}", f"{ENCODER}block.{n}.{theirs}"
    yield "norm.gain", f"{ENCODER}final_layer_norm.weight"


def _narrowest(tensors: Iterable[Tensor]) -> torch.dtype:
    """The type that holds all values: a float32 file's may be bfloat16's, a mixed one's float32."""
    every = list(tensors)
    dtypes = {tensor.dtype for tensor in every}
    if len(dtypes) == 1 and torch.float32 not in dtypes:
        return dtypes.pop()
    # An outline has no values, so none that rules the narrower type out.
    if all(t.is_meta or torch.equal(t, t.bfloat16().to(t.dtype)) for t in every):
        return torch.bfloat16
    return torch.float32
