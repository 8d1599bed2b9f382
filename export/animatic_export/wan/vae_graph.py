"""The graph of Wan 2.1's video decoder, which streams: one latent frame a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import torch

from animatic.bundle import Axis, StatePair, TensorSpec
from animatic_export.graph import GraphPlan
from animatic_export.wan.vae_decoder import WanVaeDecoder
from animatic_export.wan.vae_names import WanVaeConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from animatic_export.weights import Storage


def wan_decoder_plan(decoder: WanVaeDecoder, storage: Storage) -> GraphPlan:
    """Plan the decoder of raw latents of any size.

    Its states are `started` and, for every convolution in time, the two frames that it saw last.
    """
    config = decoder.config
    grid = ("rows", "columns")
    channels = decoder.state_channels()
    latents = ("batch", config.latent_channels, 1, *grid)
    frames = ("batch", 3, config.temporal_factor, "height", "width")
    states: list[tuple[str, tuple[Axis, ...]]] = [("started", ("batch", 1))]
    states += [(f"state_{n}", ("batch", count, *grid)) for n, count in enumerate(channels)]
    return GraphPlan(
        role="vae_decoder",
        module=decoder,
        examples=(_example(decoder, 2, 2, 3, started=1), _example(decoder, 1, 3, 2, started=0)),
        inputs=(
            TensorSpec(name="latents", dtype="float32", shape=latents),
            *(TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in states),
        ),
        outputs=(
            TensorSpec(name="frames", dtype="float32", shape=frames),
            *(
                TensorSpec(name=f"next_{name}", dtype="float32", shape=shape)
                for name, shape in states
            ),
        ),
        states=tuple(StatePair(input=name, output=f"next_{name}") for name, _ in states),
        precision=storage.precision,
        shrink=storage.shrink,
        tolerance=1e-4,
        architecture=msgspec.json.encode(config).decode(),
    )


def wan_decoder_again(
    architecture: str, weights: Mapping[str, Tensor], storage: Storage
) -> GraphPlan:
    """Plan the graph again from its own account and the float32 weights that it holds."""
    decoder = WanVaeDecoder(msgspec.json.decode(architecture, type=WanVaeConfig))
    decoder.load_state_dict({name: weights[name] for name in decoder.state_dict()})
    return wan_decoder_plan(decoder.eval().requires_grad_(requires_grad=False), storage)


def _example(
    decoder: WanVaeDecoder, batch: int, rows: int, columns: int, *, started: int
) -> tuple[Tensor, ...]:
    """A step in the middle of a clip (started 1), or its first, where all states are zeros."""
    generator = torch.Generator().manual_seed(0)

    def noise(channels: int, *axes: int) -> Tensor:
        return torch.randn(batch, channels, *axes, rows, columns, generator=generator)

    states = (0.5 * started * noise(count) for count in decoder.state_channels())
    latents = noise(decoder.config.latent_channels, 1)
    return (latents, torch.full((batch, 1), float(started)), *states)
