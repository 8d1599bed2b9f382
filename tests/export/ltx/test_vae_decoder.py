"""The decoder beside that of diffusers' AutoencoderKLLTXVideo."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from animatic_export.ltx.loading import load_decoder
from animatic_export.typed import typed_module
from tests.export.ltx.published import CHANNELS, decoder_shape, relative

TOLERANCE = 1e-5
"""Float32 sums in other orders; 6.4e-7 was measured."""
TIMESTEP = 0.05


@torch.no_grad()
def reference(model: Any, latents: torch.Tensor) -> torch.Tensor:
    """Frames as diffusers' video processor leaves them."""
    timestep = torch.full((len(latents),), TIMESTEP)
    pixels: torch.Tensor = model.decode(latents, timestep, return_dict=False)[0]
    return (pixels / 2 + 0.5).clamp(0, 1)


def latents(*size: int) -> torch.Tensor:
    batch, *grid = size
    return torch.randn(batch, CHANNELS, *grid, generator=torch.Generator().manual_seed(7))


@pytest.mark.parametrize("size", [(2, 2, 2, 3), (1, 1, 1, 2), (1, 4, 3, 1)])
def test_it_is_the_reference(vae: Any, size: tuple[int, ...]) -> None:
    config = decoder_shape(vae)
    assert (config.temporal_factor, config.spatial_factor) == (8, 32)
    raw = latents(*size)
    frames = load_decoder(vae.state_dict(), config)(raw)
    wanted = reference(vae, raw)
    batch, length, rows, columns = size
    assert frames.shape == (batch, 3, 8 * length, 32 * rows, 32 * columns)
    assert 0.2 < float(wanted.std()) < 0.4  # neither flat nor all clamped
    assert relative(frames[:, :, 7:], wanted) < TOLERANCE
    # The first latent frame's one frame stands for each of the eight that the contract asks for.
    assert torch.equal(frames[:, :, :7], frames[:, :, 7:8].expand(-1, -1, 7, -1, -1))


def test_it_looks_ahead(vae: Any) -> None:
    raw = latents(1, 3, 1, 2)
    decoder = load_decoder(vae.state_dict(), decoder_shape(vae))
    other = raw.clone()
    other[:, :, 2] += 1
    assert not torch.allclose(decoder(raw)[:, :, 7:9], decoder(other)[:, :, 7:9])


def test_the_decode_timestep_counts(vae: Any) -> None:
    raw = latents(1, 1, 1, 2)
    decoder = load_decoder(vae.state_dict(), decoder_shape(vae))
    with torch.no_grad():
        clean = vae.decode(raw, torch.zeros(1), return_dict=False)[0] / 2 + 0.5
    assert relative(decoder(raw)[:, :, 7:], clean.clamp(0, 1)) > 100 * TOLERANCE


def test_norms_stay_wide(vae: Any) -> None:
    decoder = load_decoder(vae.state_dict(), decoder_shape(vae))
    half = typed_module(decoder, torch.float16)
    types = {name: value.dtype for name, value in half.named_parameters()}
    norms = {name for name, dtype in types.items() if dtype == torch.float32}
    assert norms == {name for name in types if name.endswith(("gain", "shift"))}
    raw = latents(1, 2, 1, 2)
    # Half a thousandth a rounding, over 17 convolutions; 8e-4 was measured.
    assert relative(half(raw), decoder(raw)) < 5e-3
