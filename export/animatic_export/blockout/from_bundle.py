"""Blockout's networks in torch again, from the graphs of a bundle.

The weights travel in the bundle alone; this is the way back for whoever needs them in torch:
another precision, a comparison of speed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import torch

from animatic_export.blockout.config import DenoiserConfig, VaeConfig
from animatic_export.blockout.denoiser import Denoiser
from animatic_export.blockout.graphs import decoder_plan, denoiser_plan, text_encoder_plan
from animatic_export.blockout.minilm import MiniLm, minilm_of
from animatic_export.blockout.vae import Decoder
from animatic_export.blockout.window_again import window_plan_again
from animatic_export.weights import read_weights

if TYPE_CHECKING:
    from torch import Tensor

    from animatic.bundle import Role
    from animatic.store import OpenBundle
    from animatic_export.graph import GraphPlan


def plan_again(opened: OpenBundle, role: Role) -> GraphPlan:
    """Plan the graph of a role with the weights of a Blockout bundle."""
    if role == "text_encoder":
        return text_encoder_plan(read_text_encoder(opened))
    if opened.bundle.graph(role).architecture:
        return window_plan_again(opened, role)
    # The graphs of version 0 give no account of themselves: their weights tell.
    denoiser = read_denoiser(opened)
    if role == "denoiser":
        return denoiser_plan(denoiser)
    geometry, config = opened.bundle.geometry, denoiser.config
    return decoder_plan(
        read_decoder(opened),
        config.rows,
        config.columns,
        scale=geometry.spatial_factor,
        factor=geometry.temporal_factor,
    )


def read_denoiser(opened: OpenBundle) -> Denoiser:
    """Return the denoiser of a Blockout bundle, in float32."""
    state = _state(opened, "denoiser")
    width = len(state["embed.bias"])
    queries, text_width = state["pool.queries"].shape
    denoiser = Denoiser(
        DenoiserConfig(
            latent_channels=len(state["out.bias"]),
            frames=state["frame_position"].shape[0],
            rows=state["row_position"].shape[1],
            columns=state["column_position"].shape[2],
            width=width,
            depth=len({name.split(".")[1] for name in state if name.startswith("blocks.")}),
            heads=width // len(state["blocks.0.query_gain"]),
            text_width=text_width,
            text_queries=queries,
        )
    )
    denoiser.load_state_dict({name: state[name] for name in denoiser.state_dict()})
    return denoiser.eval()


def read_decoder(opened: OpenBundle) -> Decoder:
    """Return the VAE's decoder of a Blockout bundle, in float32."""
    state = _state(opened, "vae_decoder")
    convolutions = [tensor for name, tensor in state.items() if name.endswith("weight")]
    geometry = opened.bundle.geometry
    # Up-sampling convolutions have four times their width in output channels.
    ups = sorted(
        (int(name.split(".")[2]), len(tensor) // 4)
        for name, tensor in state.items()
        if name.endswith(".conv.bias")
    )
    d, (c, b, a) = ups[0][1] * 4, (width for _, width in ups[1:4])
    decoder = Decoder(
        VaeConfig(
            spatial_factor=geometry.spatial_factor,
            temporal_factor=geometry.temporal_factor,
            latent_channels=convolutions[0].shape[1],
            widths=(a, b, c, d),
        )
    )
    decoder.load_state_dict({name: state[f"decoder.{name}"] for name in decoder.state_dict()})
    return decoder.eval()


def read_text_encoder(opened: OpenBundle) -> MiniLm:
    """Return the text encoder of a Blockout bundle, in float32: its 8-bit weights widened."""
    return minilm_of(_state(opened, "text_encoder"))


def _state(opened: OpenBundle, role: Role) -> dict[str, Tensor]:
    weights = read_weights(onnx.load(opened.path(opened.bundle.graph(role).file)))
    return {name: torch.from_numpy(array.copy()) for name, array in weights.items()}
