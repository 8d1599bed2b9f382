"""The smallest Wan 2.1 that has every part, its weights under their original names."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import torch

from animatic_export.wan.config import WanConfig
from tests.export.published import quiet

if TYPE_CHECKING:
    from torch import Tensor

CONFIG: Final = WanConfig(
    # Positions have 8, 4 and 4 channels of a head: time differs from height and width.
    layers=2,
    heads=2,
    head_width=16,
    ffn_width=48,
    text_width=24,
    text_length=20,
)


def original_weights(config: WanConfig = CONFIG, seed: int = 0) -> dict[str, Tensor]:
    """Random weights as Wan-AI publishes them (wan/modules/model.py of Wan 2.1)."""
    generator = torch.Generator().manual_seed(seed)
    width, weights = config.width, {}

    def noise(*shape: int, scale: float) -> Tensor:
        return torch.randn(shape, generator=generator) * scale

    def linear(name: str, outputs: int, inputs: int) -> None:
        weights[f"{name}.weight"] = noise(outputs, inputs, scale=inputs**-0.5)
        weights[f"{name}.bias"] = noise(outputs, scale=0.2)

    weights["patch_embedding.weight"] = noise(width, config.latent_channels, 1, 2, 2, scale=0.125)
    weights["patch_embedding.bias"] = noise(width, scale=0.2)
    linear("text_embedding.0", width, config.text_width)
    linear("text_embedding.2", width, width)
    linear("time_embedding.0", width, config.frequency_width)
    linear("time_embedding.2", width, width)
    linear("time_projection.1", 6 * width, width)
    for layer in range(config.layers):
        block = f"blocks.{layer}"
        weights[f"{block}.modulation"] = noise(1, 6, width, scale=0.5)
        for attention in ("self_attn", "cross_attn"):
            for letter in "qkvo":
                linear(f"{block}.{attention}.{letter}", width, width)
            for letter in "qk":
                gain = 1 + noise(width, scale=0.3)
                weights[f"{block}.{attention}.norm_{letter}.weight"] = gain
        weights[f"{block}.norm3.weight"] = 1 + noise(width, scale=0.3)
        weights[f"{block}.norm3.bias"] = noise(width, scale=0.2)
        linear(f"{block}.ffn.0", config.ffn_width, width)
        linear(f"{block}.ffn.2", width, config.ffn_width)
    weights["head.modulation"] = noise(1, 2, width, scale=0.5)
    linear("head.head", 4 * config.latent_channels, width)
    return weights


def diffusers_model(config: WanConfig = CONFIG) -> Any:
    """diffusers' transformer of this shape, with weights of its own."""
    with quiet():
        model = import_module("diffusers").WanTransformer3DModel(
            num_attention_heads=config.heads,
            attention_head_dim=config.head_width,
            in_channels=config.latent_channels,
            out_channels=config.latent_channels,
            text_dim=config.text_width,
            ffn_dim=config.ffn_width,
            num_layers=config.layers,
        )
    return model.eval()


def diffusers_weights(original: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights as diffusers calls them, by its own table."""
    with quiet():
        table = import_module("diffusers.loaders.single_file_utils")
    converted: dict[str, Tensor] = table.convert_wan_transformer_to_diffusers(dict(original))
    return converted


def reference() -> Any:
    """diffusers' transformer with all of `original_weights` and no others."""
    model = diffusers_model()
    model.load_state_dict(diffusers_weights(original_weights()))
    return model


def inputs(*shape: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Latents [B, C, T, h, w] and text states, the last third of which is padding."""
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(shape[0], CONFIG.text_length, CONFIG.text_width, generator=generator)
    text[:, CONFIG.text_length * 2 // 3 :] = 0
    return torch.randn(shape, generator=generator), text


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """L2 of the difference over L2 of the reference."""
    return float(torch.linalg.vector_norm(ours - theirs) / torch.linalg.vector_norm(theirs))
