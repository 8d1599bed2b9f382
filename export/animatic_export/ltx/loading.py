"""LTX-Video's networks with their weights: from a checkpoint, or from a bundle's own graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from animatic_export.checkpoint.network import filled
from animatic_export.ltx.config import LtxDecoderConfig, LtxDenoiserConfig
from animatic_export.ltx.decoder_weights import load_decoder_weights
from animatic_export.ltx.denoiser import LtxDenoiser
from animatic_export.ltx.denoiser_weights import load_denoiser_weights
from animatic_export.ltx.vae_decoder import LtxVaeDecoder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def load_denoiser(tensors: Mapping[str, Tensor], config: LtxDenoiserConfig) -> LtxDenoiser:
    """Return the denoiser with published weights, in float32.

    CheckpointError as `load_denoiser_weights`.
    """
    return filled(lambda: LtxDenoiser(config), load_denoiser_weights(tensors, config))


def load_decoder(tensors: Mapping[str, Tensor], config: LtxDecoderConfig) -> LtxVaeDecoder:
    """Return the VAE's decoder with published weights, in float32.

    CheckpointError as `load_decoder_weights`.
    """
    return filled(lambda: LtxVaeDecoder(config), load_decoder_weights(tensors, config))


def denoiser_again(architecture: str, weights: Mapping[str, Tensor]) -> LtxDenoiser:
    """Return the denoiser of a graph's own account and the float32 weights of the graph."""
    config = msgspec.json.decode(architecture, type=LtxDenoiserConfig)
    return filled(lambda: LtxDenoiser(config), weights)


def decoder_again(architecture: str, weights: Mapping[str, Tensor]) -> LtxVaeDecoder:
    """Return the decoder of a graph's own account and the float32 weights of the graph."""
    config = msgspec.json.decode(architecture, type=LtxDecoderConfig)
    return filled(lambda: LtxVaeDecoder(config), weights)
