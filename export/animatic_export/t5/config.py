"""The shape of a text encoder: read from a published config.json, kept in a graph's account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from animatic_export.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

ADVICE: Final = "give the text encoder of Wan 2.1 (umT5) or of LTX-Video (T5 v1.1)"


class T5Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The encoder of T5 v1.1 (arXiv:1910.10683, arXiv:2002.05202) or of umT5 (arXiv:2304.09151).

    vocabulary: rows of the embedding. width: of a token's state. head_width: of one head, which
        need not be width / heads. inner: width within an MLP.
    positions: tables of position biases: one for each layer in umT5, one for all of them in T5.
    buckets: rows of such a table, half of them for tokens that come before.
    max_distance: tokens from which on all distances share a bucket.
    """

    vocabulary: int
    width: int
    head_width: int
    inner: int
    layers: int
    heads: int
    positions: int
    buckets: int = 32
    max_distance: int = 128
    epsilon: float = 1e-6


class _Published(msgspec.Struct):
    """What is read of a config.json of transformers; the defaults are transformers' own."""

    model_type: str
    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_heads: int
    feed_forward_proj: str | None = None
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6


_MLPS: Final = {"t5": "relu", "umt5": "gated-gelu"}
"""The models that are read here, and the MLP of a config that does not say."""


def read_config(document: Mapping[str, object]) -> T5Config:
    """Read the config.json of an encoder, or of the whole model it is the encoder of.

    CheckpointError if it is another model's.
    """
    try:
        published = msgspec.convert(document, _Published)
    except msgspec.ValidationError as error:
        raise CheckpointError(
            f"The text encoder's config.json is not that of a T5 ({error}): {ADVICE}."
        ) from error
    kind = published.model_type
    if kind not in _MLPS:
        raise CheckpointError(f"The text encoder is a {kind} and not a T5: {ADVICE}.")
    mlp = published.feed_forward_proj or _MLPS[kind]
    if mlp != "gated-gelu":
        raise CheckpointError(
            f"The text encoder is a {kind} whose MLPs are {mlp} and not gated-gelu, as in the "
            f"first T5: {ADVICE}."
        )
    return T5Config(
        vocabulary=published.vocab_size,
        width=published.d_model,
        head_width=published.d_kv,
        inner=published.d_ff,
        layers=published.num_layers,
        heads=published.num_heads,
        positions=published.num_layers if kind == "umt5" else 1,
        buckets=published.relative_attention_num_buckets,
        max_distance=published.relative_attention_max_distance,
        epsilon=published.layer_norm_epsilon,
    )
