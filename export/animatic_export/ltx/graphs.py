"""LTX-Video's two graphs of its own: the denoiser and the VAE's decoder, as the contract asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import torch

from animatic.bundle import TensorSpec
from animatic_export.graph import GraphPlan

if TYPE_CHECKING:
    from torch import Tensor

    from animatic_export.ltx.denoiser import LtxDenoiser
    from animatic_export.ltx.vae_decoder import LtxVaeDecoder
    from animatic_export.weights import Storage


def ltx_denoiser_plan(denoiser: LtxDenoiser, storage: Storage) -> GraphPlan:
    """Plan the denoiser of whole clips of any length and size; one prompt a batch, unpadded."""
    config = denoiser.config
    generator = torch.Generator().manual_seed(0)
    shape = ("batch", config.latent_channels, "frames", "rows", "columns")

    def example(batch: int, tokens: int, timestep: float, *grid: int) -> tuple[Tensor, ...]:
        return (
            torch.randn(batch, config.latent_channels, *grid, generator=generator),
            # A timestep for each frame is used, so each has another.
            torch.linspace(timestep, timestep / 2, grid[0]).expand(batch, -1).contiguous(),
            torch.randn(batch, tokens, config.text_width, generator=generator),
        )

    return GraphPlan(
        role="denoiser",
        module=denoiser,
        examples=(example(2, 7, 937.5, 3, 2, 4), example(1, 5, 1000.0, 2, 3, 5)),
        inputs=(
            TensorSpec(name="latents", dtype="float32", shape=shape),
            TensorSpec(name="timesteps", dtype="float32", shape=("batch", "frames")),
            TensorSpec(
                name="text_states", dtype="float32", shape=("batch", "tokens", config.text_width)
            ),
        ),
        outputs=(TensorSpec(name="velocity", dtype="float32", shape=shape),),
        precision=storage.precision,
        shrink=storage.shrink,
        tolerance=1e-4,
        architecture=msgspec.json.encode(config).decode(),
    )


def ltx_decoder_plan(decoder: LtxVaeDecoder, storage: Storage) -> GraphPlan:
    """Plan the decoder of whole clips of any length and size."""
    config = decoder.config
    generator = torch.Generator().manual_seed(0)

    def example(batch: int, *grid: int) -> tuple[Tensor, ...]:
        return (torch.randn(batch, config.latent_channels, *grid, generator=generator),)

    return GraphPlan(
        role="vae_decoder",
        module=decoder,
        examples=(example(2, 2, 2, 3), example(1, 3, 3, 2)),
        inputs=(
            TensorSpec(
                name="latents",
                dtype="float32",
                shape=("batch", config.latent_channels, "frames", "rows", "columns"),
            ),
        ),
        outputs=(
            TensorSpec(
                name="frames", dtype="float32", shape=("batch", 3, "pictures", "height", "width")
            ),
        ),
        precision=storage.precision,
        shrink=storage.shrink,
        tolerance=1e-4,
        architecture=msgspec.json.encode(config).decode(),
    )
