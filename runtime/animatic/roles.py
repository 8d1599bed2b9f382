"""What each role's graph is given and what it gives: how the pipeline knows the graphs of a family.

The names of tensors are the same for all families. Whatever else a graph takes must be a state of
its own, as nobody would feed it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animatic.bundle import GraphSpec, Role

__all__ = ["OPTIONAL", "TENSORS", "Tensors", "misfit", "streams", "takes"]


class Tensors(NamedTuple):
    """The tensors of a role, states aside: what it must take and give, and what it may take."""

    inputs: frozenset[str]
    outputs: frozenset[str]
    optional: frozenset[str] = frozenset()


_DECODER: Final = Tensors(frozenset({"latents"}), frozenset({"frames"}))

TENSORS: Final[Mapping[Role, Tensors]] = {
    "text_encoder": Tensors(frozenset({"input_ids", "attention_mask"}), frozenset({"text_states"})),
    "denoiser": Tensors(
        frozenset({"latents", "timesteps", "text_states"}),
        frozenset({"velocity"}),
        optional=frozenset({"position", "positions"}),
    ),
    "vae_decoder": _DECODER,
    "tiny_decoder": _DECODER,
    "vae_encoder": Tensors(frozenset({"frames"}), frozenset({"latents"})),
}
"""The roles that the pipeline plays.

position: int64 [1], how many latent frames of the clip were made before these.
positions: float32 ["batch", "frames"], when each latent frame of the window is seen, counted in
    latent frames (`animatic.window`).
frames of the vae_encoder: float32 ["batch", 3, "pictures", "height", "width"] in [0, 1], as many as
    temporal_factor times the latent frames that come out; its latents are raw.
"""

OPTIONAL: Final[frozenset[Role]] = frozenset({"tiny_decoder", "vae_encoder"})
"""The roles that a bundle may do without."""


def misfit(spec: GraphSpec) -> str | None:
    """Say in a clause why the pipeline cannot drive a graph of one of its roles; None if it can."""
    known = TENSORS[spec.role]
    given = {tensor.name for tensor in spec.inputs}
    absent = known.inputs - given
    absent |= known.outputs - {tensor.name for tensor in spec.outputs}
    if absent:
        return f"has no tensor {min(absent)}"
    foreign = given - known.inputs - known.optional - {pair.input for pair in spec.states}
    if foreign:
        return f"takes the tensor {min(foreign)}, which nothing here gives"
    return None


def streams(decoder: GraphSpec) -> bool:
    """Whether a decoder takes one latent frame a call, and not all of a block at once."""
    return any(tensor.name == "latents" and tensor.shape[2:3] == (1,) for tensor in decoder.inputs)


def takes(graph: GraphSpec, name: str) -> bool:
    """Whether a graph has an input of that name."""
    return any(tensor.name == name for tensor in graph.inputs)
