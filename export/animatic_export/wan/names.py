"""Published names to ours: what Wan 2.1 checkpoints call their tensors, in both namings.

diffusers' naming is that of Wan-AI/Wan2.1-T2V-*-Diffusers and FastWan; the original one that of
Wan-AI/Wan2.1-T2V-*, Self-Forcing, LightX2V and rCM, under prefixes that trainers left behind.

A tensor of ours is one published tensor, or several of them joined (q, k and v). Queries and keys
of the attention within the clip are brought into the order of `rotary` on the way.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from animatic_export.checkpoint.network import NetworkTensors, shapes_of
from animatic_export.errors import CheckpointError
from animatic_export.transformer import half_split
from animatic_export.wan.config import PATCH
from animatic_export.wan.denoiser import WanDenoiser

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from torch import Tensor

    from animatic_export.wan.config import WanConfig

PREFIXES: Final = ("model.diffusion_model.", "generator.", "model.", "net.", "")
"""Of ComfyUI, of Self-Forcing's wrapper, of its model, of rCM; they may follow each other."""
WRAPPERS: Final = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
"""What FSDP, activation checkpoints and torch.compile put anywhere into a name."""
GATE: Final = ".to_gate_compress."
SPARSE: Final = ".attn_op.local_attn."
"""TurboDiffusion's sparse-linear attention, which has a projection of its own."""
ANCHOR: Final = "patch_embedding.weight"
"""Every checkpoint has it, under this name in both namings: what stands before it is the prefix."""


class Row(NamedTuple):
    """A module or parameter of ours and what it is called elsewhere.

    Several names are joined, in order; `turned` of them, from the first, are queries and keys that
    positions turn.
    """

    ours: str
    diffusers: tuple[str, ...]
    original: tuple[str, ...]
    turned: int = 0


def _linear(ours: str, diffusers: str, original: str) -> tuple[Row, ...]:
    return tuple(
        Row(f"{ours}.{part}", (f"{diffusers}.{part}",), (f"{original}.{part}",))
        for part in ("weight", "bias")
    )


def _joined(ours: str, diffusers: str, original: str, parts: str, turned: int) -> tuple[Row, ...]:
    """Join the layers of "qkv" or "kv"."""
    return tuple(
        Row(
            f"{ours}.{part}",
            tuple(f"{diffusers}.to_{letter}.{part}" for letter in parts),
            tuple(f"{original}.{letter}.{part}" for letter in parts),
            turned,
        )
        for part in ("weight", "bias")
    )


def _gain(ours: str, diffusers: str, original: str, turned: int) -> Row:
    return Row(ours, (f"{diffusers}.weight",), (f"{original}.weight",), turned)


_AROUND: Final = (
    *_linear("patch", "patch_embedding", "patch_embedding"),
    *_linear("text.0", "condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    *_linear("text.2", "condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    *_linear("time.0", "condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    *_linear("time.2", "condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    *_linear("modulation", "condition_embedder.time_proj", "time_projection.1"),
    Row("final_offset", ("scale_shift_table",), ("head.modulation",)),
    *_linear("out", "proj_out", "head.head"),
)
_BLOCK: Final = (
    Row("offset", ("scale_shift_table",), ("modulation",)),
    *_joined("qkv", "attn1", "self_attn", "qkv", 2),
    _gain("query_gain", "attn1.norm_q", "self_attn.norm_q", 1),
    _gain("key_gain", "attn1.norm_k", "self_attn.norm_k", 1),
    *_linear("proj", "attn1.to_out.0", "self_attn.o"),
    # diffusers numbers a block's norms in the order of their use; the original did not.
    *_linear("text_norm", "norm2", "norm3"),
    *_linear("text_query", "attn2.to_q", "cross_attn.q"),
    *_joined("text_kv", "attn2", "cross_attn", "kv", 0),
    _gain("text_query_gain", "attn2.norm_q", "cross_attn.norm_q", 0),
    _gain("text_key_gain", "attn2.norm_k", "cross_attn.norm_k", 0),
    *_linear("text_proj", "attn2.to_out.0", "cross_attn.o"),
    *_linear("up", "ffn.net.0.proj", "ffn.0"),
    *_linear("down", "ffn.net.2", "ffn.2"),
)


def load_denoiser_weights(tensors: Mapping[str, Tensor], config: WanConfig) -> dict[str, Tensor]:
    """Return the state dict of our denoisers, float32, from a published one in either naming.

    `tensors` may read lazily: every tensor is asked for once, and only a few are held at a time.
    CheckpointError names the first that is missing, has another shape or belongs to another model.
    """
    found = _published_names(tensors)
    network = NetworkTensors(
        tensors, found, f"a {config.title}", "give a text-to-video checkpoint of that model"
    )
    shapes = shapes_of(lambda: WanDenoiser(config))
    original = any(name.startswith("blocks.0.self_attn.") for name in found)
    state: dict[str, Tensor] = {}
    for row in _rows(config.layers):
        names = row.original if original else row.diffusers
        parts = []
        for place, name in enumerate(names):
            wanted = (shapes[row.ours][0] // len(names), *shapes[row.ours][1:])
            part = network.take(name, *_allowed(name, wanted, config)).float().reshape(wanted)
            parts.append(half_split(part, config.heads) if place < row.turned else part)
        state[row.ours] = torch.cat(parts) if len(parts) > 1 else parts[0]
    network.close()
    return state


def left_out(tensors: Iterable[str]) -> int:
    """Count FastWan's gates of FastVideo's sparse attention, which diffusers leaves out too."""
    return sum(GATE in name for name in tensors)


def _rows(layers: int) -> Iterator[Row]:
    yield from _AROUND
    for layer in range(layers):
        start = f"blocks.{layer}."
        for row in _BLOCK:
            yield Row(
                start + row.ours,
                tuple(start + name for name in row.diffusers),
                tuple(start + name for name in row.original),
                row.turned,
            )


def _published_names(tensors: Iterable[str]) -> dict[str, str]:
    """Map each tensor's name without prefixes to its whole name; CheckpointError if there is none.

    Two kinds of tensors are passed over, as the published pipelines pass over them.
    """
    plain = {_unwrapped(name): name for name in tensors}
    anchors = [name for name in plain if name.endswith(ANCHOR) and _is_prefix(name[: -len(ANCHOR)])]
    if not anchors:
        raise CheckpointError(
            f"The checkpoint has no tensor {ANCHOR}: give the transformer of a Wan 2.1 checkpoint."
        )
    prefix = anchors[0][: -len(ANCHOR)]
    names = {name.removeprefix(prefix): whole for name, whole in plain.items()}
    for name in names:
        if SPARSE in name:
            raise CheckpointError(
                f"The checkpoint has a tensor {name}: it is TurboDiffusion's, with sparse "
                "attention that is not computed here; give one with dense attention, such as "
                "rCM's (worstcoder/rcm-Wan)."
            )
    # rCM counts its training in tensors called accum_*.
    return {n: w for n, w in names.items() if GATE not in n and not n.startswith("accum_")}


def _unwrapped(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _is_prefix(text: str) -> bool:
    while text:
        known = next((prefix for prefix in PREFIXES if prefix and text.startswith(prefix)), "")
        if not known:
            return False
        text = text.removeprefix(known)
    return True


def _allowed(name: str, wanted: tuple[int, ...], config: WanConfig) -> tuple[tuple[int, ...], ...]:
    """The published shapes of what has this one here, the usual first."""
    if name == ANCHOR:  # a convolution everywhere but in rCM, where it is a linear layer
        return (wanted[0], config.latent_channels, 1, PATCH, PATCH), wanted
    if name.endswith(("scale_shift_table", "modulation")):
        return ((1, *wanted),)
    return (wanted,)


@cache
def _modules() -> dict[str, str]:
    """Map the original names of modules and parameters within a block, or around, to diffusers'."""
    return {
        _module(original): _module(diffusers)
        for row in (*_AROUND, *_BLOCK)
        for original, diffusers in zip(row.original, row.diffusers, strict=True)
    }


def _module(name: str) -> str:
    return name.removesuffix(".weight").removesuffix(".bias")


def canonical(module: str) -> str:
    """Return diffusers' name of a module or parameter in either naming; another comes back."""
    module = _unwrapped(module)
    head, _, rest = module.partition(".")
    number, _, tail = rest.partition(".")
    if head == "blocks":
        return f"blocks.{number}.{_modules().get(tail, tail)}"
    return _modules().get(module, module)
