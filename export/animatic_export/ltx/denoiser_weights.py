"""The transformer's published names to ours, in both namings.

diffusers' naming is that of its folder `transformer`; the original one that of Lightricks' single
files, where it is under "model.diffusion_model.", with the VAE beside it.

A tensor of ours is one published tensor, or several of them joined (q, k and v). Queries and keys
of the attention within the clip are brought into half-split order on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from animatic_export.checkpoint.network import NetworkTensors, shapes_of
from animatic_export.errors import CheckpointError
from animatic_export.ltx.config import ADVICE
from animatic_export.ltx.denoiser import LtxDenoiser
from animatic_export.transformer import half_split

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from animatic_export.ltx.config import LtxDenoiserConfig

PREFIX: Final = "model.diffusion_model."
"""Of the transformer in a single file."""
TITLE: Final = "an LTX-Video transformer of this config"
_ORIGINAL: Final = {
    "proj_in": "patchify_proj",
    "time_embed": "adaln_single",
    "norm_q": "q_norm",
    "norm_k": "k_norm",
}
"""The parts of names that diffusers changed, and what they were."""
_DIFFUSERS: Final = {original: diffusers for diffusers, original in _ORIGINAL.items()}


class Row(NamedTuple):
    """A tensor of ours and what diffusers calls it.

    Several names are joined, in order; `turned` of them, from the first, are queries and keys that
    positions turn.
    """

    ours: str
    published: tuple[str, ...]
    turned: int = 0


def _linear(ours: str, *published: str, turned: int = 0) -> tuple[Row, ...]:
    return tuple(
        Row(f"{ours}.{part}", tuple(f"{name}.{part}" for name in published), turned)
        for part in ("weight", "bias")
    )


_AROUND: Final = (
    *_linear("embed", "proj_in"),
    *_linear("text.0", "caption_projection.linear_1"),
    *_linear("text.2", "caption_projection.linear_2"),
    *_linear("time.0", "time_embed.emb.timestep_embedder.linear_1"),
    *_linear("time.2", "time_embed.emb.timestep_embedder.linear_2"),
    *_linear("modulation", "time_embed.linear"),
    Row("final_offset", ("scale_shift_table",)),
    *_linear("out", "proj_out"),
)
_BLOCK: Final = (
    Row("offset", ("scale_shift_table",)),
    *_linear("qkv", "attn1.to_q", "attn1.to_k", "attn1.to_v", turned=2),
    Row("query_gain", ("attn1.norm_q.weight",), 1),
    Row("key_gain", ("attn1.norm_k.weight",), 1),
    *_linear("proj", "attn1.to_out.0"),
    *_linear("text_query", "attn2.to_q"),
    *_linear("text_kv", "attn2.to_k", "attn2.to_v"),
    Row("text_query_gain", ("attn2.norm_q.weight",)),
    Row("text_key_gain", ("attn2.norm_k.weight",)),
    *_linear("text_proj", "attn2.to_out.0"),
    *_linear("up", "ff.net.0.proj"),
    *_linear("down", "ff.net.2"),
)


def load_denoiser_weights(
    tensors: Mapping[str, Tensor], config: LtxDenoiserConfig
) -> dict[str, Tensor]:
    """Return the state dict of `LtxDenoiser`, float32, from a published one in either naming.

    `tensors` may read lazily: every tensor is asked for once, and only a few are held at a time.
    CheckpointError names the first that is missing, has another shape or belongs to another model.
    """
    original = any(name.startswith(PREFIX) for name in tensors)
    if not original and "proj_in.weight" not in tensors:
        raise CheckpointError(
            f"The checkpoint has no tensor proj_in.weight and none under {PREFIX}, so it holds no "
            f"LTX-Video transformer: {ADVICE}."
        )
    names = {name: name for name in tensors if not original or name.startswith(PREFIX)}
    network = NetworkTensors(tensors, names, TITLE, ADVICE)
    shapes = shapes_of(lambda: LtxDenoiser(config))
    state: dict[str, Tensor] = {}
    for row in _rows(config.layers):
        whole = shapes[row.ours]
        shape = (whole[0] // len(row.published), *whole[1:])
        published = [_original(name) for name in row.published] if original else row.published
        pieces = [network.take(name, shape).float() for name in published]
        pieces[: row.turned] = [half_split(piece, config.heads) for piece in pieces[: row.turned]]
        state[row.ours] = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
    network.close()
    return state


def canonical(module: str) -> str:
    """Return diffusers' name of a module or parameter in either naming, without a prefix."""
    return ".".join(_DIFFUSERS.get(part, part) for part in module.split("."))


def _rows(layers: int) -> Iterator[Row]:
    yield from _AROUND
    for layer in range(layers):
        theirs = f"transformer_blocks.{layer}."
        for row in _BLOCK:
            published = tuple(theirs + name for name in row.published)
            yield Row(f"blocks.{layer}.{row.ours}", published, row.turned)


def _original(name: str) -> str:
    return PREFIX + ".".join(_ORIGINAL.get(part, part) for part in name.split("."))
