from __future__ import annotations

import numpy as np
import pytest

from animatic_calibration.fidelity import decibel, mean_squared_error, psnr, ssim


def clip(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2, 24, 32, 3)).astype(np.uint8)


def test_psnr_of_a_level_more() -> None:
    grey = np.full((1, 8, 8, 3), 100, np.uint8)
    (error,) = mean_squared_error([grey + 1], [grey])
    assert psnr(error) == pytest.approx(48.13, abs=0.01)


def test_the_error_has_no_wrap_around() -> None:
    black, white = np.zeros((1, 8, 8, 3), np.uint8), np.full((1, 8, 8, 3), 255, np.uint8)
    assert mean_squared_error([black], [white]) == [255.0**2]


def test_equal_is_finite() -> None:
    assert psnr(0.0) == 120
    assert decibel(0.0, 0.0) == 120


def test_ssim_of_itself_is_one() -> None:
    assert ssim(clip(), clip()) == pytest.approx(1.0)


def test_ssim_of_a_lighter_flat_picture_is_the_formula() -> None:
    dark, light = np.full((1, 16, 16, 3), 100, np.uint8), np.full((1, 16, 16, 3), 110, np.uint8)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 110 + c1) / (100**2 + 110**2 + c1)
    assert ssim(dark, light) == pytest.approx(expected, rel=1e-6)


def test_ssim_falls_with_noise_and_is_nothing_between_strangers() -> None:
    noise = np.random.default_rng(1).integers(-20, 21, clip().shape)
    near = np.clip(clip().astype(int) + noise, 0, 255).astype(np.uint8)
    assert 0.8 < ssim(near, clip()) < 0.999
    assert abs(ssim(clip(1), clip())) < 0.1
