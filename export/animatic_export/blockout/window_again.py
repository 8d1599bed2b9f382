"""The networks of Blockout's second version from a bundle, by their graphs' own accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from animatic_export.blockout.config import VaeConfig, WindowConfig
from animatic_export.blockout.vae import Decoder, Encoder
from animatic_export.blockout.window import WindowDenoiser
from animatic_export.blockout.window_graphs import (
    encoder_plan,
    streaming_decoder_plan,
    window_plan,
)
from animatic_export.parts import stored_tensors

if TYPE_CHECKING:
    from torch import nn

    from animatic.bundle import Role
    from animatic.store import OpenBundle
    from animatic_export.graph import GraphPlan

__all__ = ["read_vae_decoder", "read_vae_encoder", "read_window_denoiser", "window_plan_again"]

_Module = TypeVar("_Module", bound="nn.Module")
_Config = TypeVar("_Config")


def window_plan_again(opened: OpenBundle, role: Role) -> GraphPlan:
    """Plan the graph of a role, the text encoder's aside, with the weights of the bundle."""
    if role == "denoiser":
        return window_plan(read_window_denoiser(opened))
    config = _config(opened, role, VaeConfig)
    if role == "vae_decoder":
        return streaming_decoder_plan(read_vae_decoder(opened), config)
    return encoder_plan(read_vae_encoder(opened), config)


def read_window_denoiser(opened: OpenBundle) -> WindowDenoiser:
    """Return the denoiser of a bundle, in float32."""
    config = _config(opened, "denoiser", WindowConfig)
    return _filled(opened, "denoiser", "", WindowDenoiser(config))


def read_vae_decoder(opened: OpenBundle) -> Decoder:
    """Return the VAE's decoder of a bundle, in float32."""
    decoder = Decoder(_config(opened, "vae_decoder", VaeConfig))
    return _filled(opened, "vae_decoder", "decoder.", decoder)


def read_vae_encoder(opened: OpenBundle) -> Encoder:
    """Return the VAE's encoder of a bundle, in float32."""
    encoder = Encoder(_config(opened, "vae_encoder", VaeConfig))
    return _filled(opened, "vae_encoder", "encoder.", encoder)


def _config(opened: OpenBundle, role: Role, kind: type[_Config]) -> _Config:
    return msgspec.json.decode(opened.bundle.graph(role).architecture, type=kind)


def _filled(opened: OpenBundle, role: Role, prefix: str, module: _Module) -> _Module:
    """Give a module its weights; `prefix`: what their names in the graph begin with."""
    weights = stored_tensors(opened, role)
    module.load_state_dict({name: weights[prefix + name] for name in module.state_dict()})
    return module.eval().requires_grad_(requires_grad=False)
