"""LTX-Video in miniature: the real classes of diffusers with random weights, and both namings.

Only widths and depths are small: the block types and the layout are those of version 0.9.8.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import torch

from animatic_export.ltx.published import decoder_config, denoiser_config
from tests.export.published import quiet, randomise

if TYPE_CHECKING:
    from animatic_export.ltx.config import LtxDecoderConfig, LtxDenoiserConfig

CHANNELS: Final = 8
TEXT_WIDTH: Final = 24
STAGES: Final = 4

# From diffusers' names to the original ones, the inverse of diffusers.loaders.single_file_utils.
_TRANSFORMER: Final = (
    ("proj_in", "patchify_proj"),
    ("time_embed", "adaln_single"),
    ("norm_q", "q_norm"),
    ("norm_k", "k_norm"),
)
_VAE: Final = (
    *(
        (f"decoder.up_blocks.{n}.upsamplers.0", f"decoder.ups.{2 * n + 1}")
        for n in range(STAGES - 1)
    ),
    *((f"decoder.up_blocks.{n}.", f"decoder.ups.{2 * n + 2}.") for n in range(STAGES - 1)),
    ("decoder.mid_block.", "decoder.ups.0."),
    ("decoder.time_embedder", "decoder.last_time_embedder"),
    ("decoder.scale_shift_table", "decoder.last_scale_shift_table"),
    ("resnets", "res_blocks"),
    ("latents_mean", "per_channel_statistics.mean-of-means"),
    ("latents_std", "per_channel_statistics.std-of-means"),
    ("decoder.ups.", "decoder.up_blocks."),
)


def reference(module: str) -> Any:
    """A module of diffusers, which says nothing of its types."""
    with quiet():
        return import_module(module)


def transformer() -> Any:
    """A tiny LTXVideoTransformer3DModel; its width, 32, is no multiple of 6, as 2048 is none."""
    with quiet():
        torch.manual_seed(4)
        made = reference("diffusers").LTXVideoTransformer3DModel(
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            num_attention_heads=2,
            attention_head_dim=16,
            cross_attention_dim=32,
            num_layers=2,
            caption_channels=TEXT_WIDTH,
        )
    randomise(made, 4, 0.1)
    return made.eval()


def vae() -> Any:
    """A tiny AutoencoderKLLTXVideo of version 0.9.5 or later; its latents have statistics."""
    with quiet():
        torch.manual_seed(5)
        made = reference("diffusers").AutoencoderKLLTXVideo(
            latent_channels=CHANNELS,
            block_out_channels=(8, 8, 8, 8, 8),
            down_block_types=("LTXVideo095DownBlock3D",) * 4,
            decoder_block_out_channels=(16, 32, 64),
            layers_per_block=(1, 1, 1, 1, 1),
            decoder_layers_per_block=(1, 2, 1, 2),
            spatio_temporal_scaling=(True,) * 4,
            decoder_spatio_temporal_scaling=(True,) * 3,
            decoder_inject_noise=(False,) * 4,
            downsample_type=("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
            upsample_residual=(True,) * 3,
            upsample_factor=(2,) * 3,
            timestep_conditioning=True,
        )
    scale = made.decoder.timestep_scale_multiplier.detach().clone()
    randomise(made, 5, 0.05)
    with torch.no_grad():
        made.decoder.timestep_scale_multiplier.copy_(scale)
        made.latents_mean.copy_(torch.linspace(-1, 1, CHANNELS))
        made.latents_std.copy_(torch.linspace(0.5, 2, CHANNELS))
    return made.eval()


def published(model: Any) -> dict[str, object]:
    """What a model's config.json says."""
    return {**model.config, "_class_name": type(model).__name__}


def denoiser_shape(model: Any, frame_rate: float = 25.0) -> LtxDenoiserConfig:
    """The shape of our denoiser, as its config.json has it."""
    return denoiser_config(published(model), frame_rate)


def decoder_shape(model: Any) -> LtxDecoderConfig:
    """The shape of our decoder, as its config.json has it."""
    return decoder_config(published(model))


def single_file(transformer: Any, vae: Any) -> dict[str, torch.Tensor]:
    """The tensors of both under the names of Lightricks' single files."""
    return {
        **_renamed(transformer.state_dict(), _TRANSFORMER, "model.diffusion_model."),
        **_renamed(vae.state_dict(), _VAE, "vae."),
        "vae.per_channel_statistics.channel": torch.zeros(CHANNELS),
    }


def _renamed(
    state: dict[str, torch.Tensor], names: tuple[tuple[str, str], ...], prefix: str
) -> dict[str, torch.Tensor]:
    renamed = {}
    for whole, tensor in state.items():
        name = whole
        for diffusers, original in names:
            name = name.replace(diffusers, original)
        renamed[prefix + name] = tensor
    return renamed


def relative(made: torch.Tensor, wanted: torch.Tensor) -> float:
    """How far off, as a share of what is wanted (L2)."""
    assert made.shape == wanted.shape
    return float((made.double() - wanted.double()).norm() / wanted.double().norm())
