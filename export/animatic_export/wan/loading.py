"""Wan 2.1's denoisers with their weights: from a checkpoint, or from a bundle's own graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from animatic_export.checkpoint.network import filled
from animatic_export.wan.causal import CausalWanDenoiser
from animatic_export.wan.config import CausalConfig, WanConfig
from animatic_export.wan.denoiser import WanDenoiser
from animatic_export.wan.names import load_denoiser_weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def load_denoiser(tensors: Mapping[str, Tensor], config: WanConfig) -> WanDenoiser:
    """Return the denoiser of whole clips with published weights, in float32.

    CheckpointError as `load_denoiser_weights`.
    """
    return filled(lambda: WanDenoiser(config), load_denoiser_weights(tensors, config))


def load_causal_denoiser(tensors: Mapping[str, Tensor], config: CausalConfig) -> CausalWanDenoiser:
    """Return the denoiser of blocks with published weights, in float32.

    CheckpointError as `load_denoiser_weights`.
    """
    weights = load_denoiser_weights(tensors, config.denoiser)
    return filled(lambda: CausalWanDenoiser(config), weights)


def denoiser_again(
    architecture: str, weights: Mapping[str, Tensor]
) -> WanDenoiser | CausalWanDenoiser:
    """Return the denoiser of a graph's own account and the float32 weights of the graph."""
    config = msgspec.json.decode(architecture, type=WanConfig | CausalConfig)
    if isinstance(config, CausalConfig):
        return filled(lambda: CausalWanDenoiser(config), weights)
    return filled(lambda: WanDenoiser(config), weights)
