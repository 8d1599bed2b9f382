"""The denoiser beside diffusers' transformer, in the shapes in which its pipelines call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import torch

from animatic_export.ltx.loading import load_denoiser
from animatic_export.typed import typed_module
from tests.export.ltx.published import CHANNELS, TEXT_WIDTH, denoiser_shape, relative
from tests.export.ltx.published import reference as published

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = [(2, 3, 2, 4, 7), (1, 1, 3, 5, 4), (1, 6, 5, 3, 2)]
"""Clips, latent frames, rows, columns, prompt tokens."""
TOLERANCE = 1e-5
"""Float32 sums in other orders; 2.6e-7 was measured."""


def inputs(
    batch: int, frames: int, rows: int, columns: int, tokens: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, another timestep for each frame, and token states."""
    generator = torch.Generator().manual_seed(6)
    return (
        torch.randn(batch, CHANNELS, frames, rows, columns, generator=generator),
        torch.rand(batch, frames, generator=generator) * 1000,
        torch.randn(batch, tokens, TEXT_WIDTH, generator=generator),
    )


def causal_places(size: tuple[int, ...], frame_rate: float) -> dict[str, object]:
    """Positions as LTXConditionPipeline makes them."""
    pipeline = published("diffusers").LTXConditionPipeline
    places = pipeline._scale_video_ids(pipeline._prepare_video_ids(*size[:4])).float()
    places[:, 0] = places[:, 0] * (1.0 / frame_rate)
    return {"video_coords": places}


def uniform_places(_size: tuple[int, ...], frame_rate: float) -> dict[str, object]:
    """Positions as LTXPipeline makes them, for models before 0.9.5."""
    return {"rope_interpolation_scale": (8 / frame_rate, 32, 32)}


@torch.no_grad()
def reference(
    model: Any,
    given: tuple[torch.Tensor, ...],
    places: dict[str, object],
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    latents, timesteps, text = given
    batch, _, frames, rows, columns = latents.shape
    made: torch.Tensor = model(
        hidden_states=latents.flatten(2).transpose(1, 2),
        encoder_hidden_states=text,
        timestep=timesteps[:, :, None].expand(-1, -1, rows * columns).flatten(1),
        encoder_attention_mask=torch.ones(batch, text.shape[1]) if mask is None else mask,
        num_frames=frames,
        height=rows,
        width=columns,
        return_dict=False,
        **places,
    )[0]
    return made.transpose(1, 2).view_as(latents)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("frame_rate", [25.0, 30.0])
@pytest.mark.parametrize("places", [causal_places, uniform_places])
def test_it_is_the_reference(
    transformer: Any,
    size: tuple[int, int, int, int, int],
    frame_rate: float,
    places: Callable[[tuple[int, ...], float], dict[str, object]],
) -> None:
    config = denoiser_shape(transformer, frame_rate)
    assert config.causal_positions
    config = msgspec.structs.replace(config, causal_positions=places is causal_places)
    denoiser = load_denoiser(transformer.state_dict(), config)
    given = inputs(*size)
    wanted = reference(transformer, given, places(size, frame_rate))
    assert relative(denoiser(*given), wanted) < TOLERANCE


def test_positions_and_every_timestep_count(transformer: Any) -> None:
    """Or the test above would not tell: each moves the result a hundred times its tolerance."""
    config = denoiser_shape(transformer)
    given = inputs(*SIZES[0])
    velocity = load_denoiser(transformer.state_dict(), config)(*given)
    others = (
        load_denoiser(transformer.state_dict(), msgspec.structs.replace(config, **change))(*given)
        for change in ({"frame_rate": 30.0}, {"causal_positions": False}, {"spatial_factor": 16})
    )
    assert all(relative(other, velocity) > 100 * TOLERANCE for other in others)
    latents, timesteps, text = given
    later = timesteps.clone()
    later[:, -1] += 100
    other = load_denoiser(transformer.state_dict(), config)(latents, later, text)
    assert relative(other, velocity) > 100 * TOLERANCE


def test_text_without_padding_is_what_the_mask_leaves(transformer: Any) -> None:
    latents, timesteps, text = inputs(*SIZES[0])
    mask = torch.ones(len(text), text.shape[1])
    mask[:, 4:] = 0
    denoiser = load_denoiser(transformer.state_dict(), denoiser_shape(transformer))
    places = causal_places(SIZES[0], 25.0)
    wanted = reference(transformer, (latents, timesteps, text), places, mask)
    assert relative(denoiser(latents, timesteps, text[:, :4]), wanted) < TOLERANCE


def test_norms_timesteps_and_modulation_stay_wide(transformer: Any) -> None:
    denoiser = load_denoiser(transformer.state_dict(), denoiser_shape(transformer))
    half = typed_module(denoiser, torch.float16)
    wide = {name for name, value in half.named_parameters() if value.dtype == torch.float32}
    islands = {f"time.{n}.{part}" for n in (0, 2) for part in ("weight", "bias")}
    islands |= {"modulation.weight", "modulation.bias", "final_offset"}
    small = {"offset", "query_gain", "key_gain", "text_query_gain", "text_key_gain"}
    assert wide == islands | {f"blocks.{n}.{name}" for n in range(2) for name in small}
    given = inputs(*SIZES[0])
    # Half a thousandth a rounding, over two blocks; 8e-4 was measured.
    assert relative(half(*given), denoiser(*given)) < 5e-3
