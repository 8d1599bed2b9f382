"""The linear estimate, held against what regression finds on drawn latents."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from animatic_export.blockout.spectrum import LEAST, Spectrum

CHANNELS, CELLS = 5, 40_000


@pytest.fixture(scope="module")
def latents() -> Tensor:
    """Cells whose channels are mixed, [1, C, 1, 1, N]."""
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([4.0, 1.0, 0.5, 0.2, 0.1])
    mixing = torch.linalg.qr(torch.randn(CHANNELS, CHANNELS, generator=generator)).Q
    cells = torch.randn(CELLS, CHANNELS, generator=generator) * spread @ mixing
    latents: Tensor = cells.T[None, :, None, None]
    return latents


@pytest.fixture(scope="module")
def spectrum(latents: Tensor) -> Spectrum:
    made = Spectrum(CHANNELS)
    made.measure(latents[0, :, 0, 0].T)
    return made


@pytest.mark.parametrize("level", [1.0, 0.9, 0.5, 0.1])
def test_what_is_left_is_not_told_by_a_line(
    latents: Tensor, spectrum: Spectrum, level: float
) -> None:
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    noised = (1 - level) * latents + level * noise
    noisy = spectrum.seen(noised, torch.full((1, 1), level))
    assert noisy.cells.flatten(0, 3).std(0).sub(1).abs().max() < 0.02
    estimate = spectrum.velocity(noisy, torch.zeros_like(noisy.cells))
    left = (noise - latents - estimate)[0, :, 0, 0].T
    slope = torch.linalg.lstsq(noised[0, :, 0, 0].T, left).solution
    assert slope.abs().max() < 0.1
    # What a network must make is the rest, in units of its own.
    deviations = (left @ spectrum.basis).std(0)
    assert (deviations / noisy.deviation.flatten() - 1).abs().max() < 0.02


def test_what_a_network_makes_is_counted_in_the_deviation(
    latents: Tensor, spectrum: Spectrum
) -> None:
    noisy = spectrum.seen(latents[..., :2], torch.full((1, 1), 0.5))
    nothing = spectrum.velocity(noisy, torch.zeros_like(noisy.cells))
    one = spectrum.velocity(noisy, torch.ones_like(noisy.cells))
    change = (one - nothing)[0, :, 0, 0].T @ spectrum.basis
    torch.testing.assert_close(change, noisy.deviation.flatten().expand(2, -1))


def test_a_direction_without_variance_is_no_division_by_zero() -> None:
    made = Spectrum(2)
    made.measure(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [2.0, 0.0]]))
    assert made.variances.min() == torch.tensor(LEAST)
    noisy = made.seen(torch.zeros(1, 2, 1, 1, 1), torch.zeros(1, 1))  # a given frame
    assert all(part.isfinite().all() for part in noisy)


def test_bfloat16_around_it_changes_nothing(latents: Tensor, spectrum: Spectrum) -> None:
    sigma = torch.full((1, 1), 0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = spectrum.seen(latents, sigma)
    for ours, wide in zip(narrow, spectrum.seen(latents, sigma), strict=True):
        assert torch.equal(ours, wide)
