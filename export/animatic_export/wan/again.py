"""Wan 2.1's graphs planned again from a bundle: other precisions need no checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from animatic_export.parts import (
    storage_named,
    stored_tensors,
    text_plan_again,
    tiny_plan_again,
)
from animatic_export.wan.causal import CausalWanDenoiser
from animatic_export.wan.graphs import causal_plan, denoiser_plan
from animatic_export.wan.loading import denoiser_again
from animatic_export.wan.vae_graph import wan_decoder_again

if TYPE_CHECKING:
    from animatic.bundle import Role
    from animatic.store import OpenBundle
    from animatic_export.graph import GraphPlan

__all__ = ["plan_again"]


def plan_again(opened: OpenBundle, role: Role) -> GraphPlan:
    """Plan the reference graph of a role with the weights that the bundle holds."""
    if role == "text_encoder":
        return text_plan_again(opened)
    if role == "tiny_decoder":
        return tiny_plan_again(opened)
    graph = opened.bundle.graph(role)
    weights, storage = stored_tensors(opened, role), storage_named(graph.precision)
    if role == "denoiser":
        denoiser = denoiser_again(graph.architecture, weights)
        if isinstance(denoiser, CausalWanDenoiser):
            return causal_plan(denoiser, storage)
        return denoiser_plan(denoiser, storage)
    return wan_decoder_again(graph.architecture, weights, storage)
