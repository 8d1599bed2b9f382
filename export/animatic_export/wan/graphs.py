"""The graphs of Wan 2.1's denoisers, in the shape that the bundle's contract asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import torch

from animatic.bundle import StatePair, TensorSpec
from animatic_export.graph import GraphPlan

if TYPE_CHECKING:
    from torch import Tensor

    from animatic_export.wan.causal import CausalWanDenoiser
    from animatic_export.wan.config import WanConfig
    from animatic_export.wan.denoiser import WanDenoiser
    from animatic_export.weights import Storage

TOLERANCE: Final = 1e-4
"""Largest relative error (L2) of a float32 graph: sums of thousands of products in other orders."""
CELLS: Final = 4
"""Latent cells of a token."""


def denoiser_plan(denoiser: WanDenoiser, storage: Storage) -> GraphPlan:
    """Plan the denoiser of whole clips of any length and size."""
    config = denoiser.config
    generator = torch.Generator().manual_seed(0)

    def example(batch: int, timestep: float, *grid: int) -> tuple[Tensor, ...]:
        return (
            torch.randn(batch, config.latent_channels, *grid, generator=generator),
            torch.full((batch, grid[0]), timestep),
            _text(config, batch, generator),
        )

    latents = ("batch", config.latent_channels, "frames", "rows", "columns")
    return GraphPlan(
        role="denoiser",
        module=denoiser,
        examples=(example(2, 937.5, 3, 4, 6), example(1, 1000.0, 1, 8, 4)),
        inputs=_inputs(config, latents, ("batch", "frames")),
        outputs=(TensorSpec(name="velocity", dtype="float32", shape=latents),),
        precision=storage.precision,
        shrink=storage.shrink,
        tolerance=TOLERANCE,
        architecture=msgspec.json.encode(config).decode(),
    )


def causal_plan(denoiser: CausalWanDenoiser, storage: Storage) -> GraphPlan:
    """Plan the denoiser of blocks, whose states are the keys and values of every layer."""
    config, causal = denoiser.config, denoiser.causal
    generator = torch.Generator().manual_seed(0)
    kinds = ("key", "value")
    names = [f"{kind}_{layer}" for layer in range(config.layers) for kind in kinds]
    width = config.width // CELLS

    def example(batch: int, position: int, timestep: float, *grid: int) -> tuple[Tensor, ...]:
        shape = (batch, causal.window, *grid, width)
        latents = (batch, config.latent_channels, causal.block, *grid)
        return (
            torch.randn(latents, generator=generator),
            torch.full((batch, causal.block), timestep),
            _text(config, batch, generator),
            torch.tensor([position]),
            # At a clip's start nothing of it is seen, whatever it is.
            *(torch.randn(shape, generator=generator) for _ in names),
        )

    latents = ("batch", config.latent_channels, causal.block, "rows", "columns")
    memory = ("batch", causal.window, "rows", "columns", width)
    return GraphPlan(
        role="denoiser",
        module=denoiser,
        examples=(
            example(2, causal.window + causal.block, 937.5, 4, 6),
            example(1, 0, 1000.0, 6, 4),
        ),
        inputs=(
            *_inputs(config, latents, ("batch", causal.block)),
            TensorSpec(name="position", dtype="int64", shape=(1,)),
            *(TensorSpec(name=name, dtype="float32", shape=memory) for name in names),
        ),
        outputs=(
            TensorSpec(name="velocity", dtype="float32", shape=latents),
            *(TensorSpec(name=f"next_{name}", dtype="float32", shape=memory) for name in names),
        ),
        states=tuple(StatePair(input=name, output=f"next_{name}") for name in names),
        precision=storage.precision,
        shrink=storage.shrink,
        tolerance=TOLERANCE,
        architecture=msgspec.json.encode(causal).decode(),
    )


def _inputs(
    config: WanConfig, latents: tuple[int | str, ...], timesteps: tuple[int | str, ...]
) -> tuple[TensorSpec, ...]:
    text = ("batch", config.text_length, config.text_width)
    return (
        TensorSpec(name="latents", dtype="float32", shape=latents),
        TensorSpec(name="timesteps", dtype="float32", shape=timesteps),
        TensorSpec(name="text_states", dtype="float32", shape=text),
    )


def _text(config: WanConfig, batch: int, generator: torch.Generator) -> Tensor:
    """A prompt of twelve tokens and its padding, which is zeros."""
    states = torch.zeros(batch, config.text_length, config.text_width)
    states[:, :12] = torch.randn(batch, 12, config.text_width, generator=generator)
    return states
