"""UniPC beside diffusers' own scheduler, step by step, on a velocity field that bends."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from animatic.bundle import SamplerSpec
from animatic.sampler import Sampler
from animatic.schedules import NEARLY_ONE, flow_schedule
from tests.runtime.steps import never

if TYPE_CHECKING:
    import numpy.typing as npt

    Values = npt.NDArray[Any]

SHAPE = (1, 16, 2, 2, 3)
MIXING = np.random.default_rng(1).standard_normal((16, 16)) / 8


def velocity(x: Values, sigma: float) -> Values:
    """Every channel pulls at every other, differently at every level."""
    mixed = np.einsum("ij,bj...->bi...", MIXING, x.astype(np.float64))
    return np.asarray(np.tanh(mixed + 3 * sigma) + 0.3 * np.sin(5 * sigma) * x)


def unipc_of_diffusers(steps: int, shift: float) -> Any:
    scheduler = importlib.import_module("diffusers").UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift
    )
    scheduler.set_timesteps(steps)
    return scheduler


# Made with diffusers 0.42.1 in double precision, as the slow test below makes them: 4 of the 192
# values after each of 6 steps, from the noise of seed 6.
PLACES = [0, 50, 100, 191]
WAY = [
    (1.0099093, 0.74409689, 0.44271062, 1.00064628),
    (0.95463748, 0.68228404, 0.37406199, 0.94516971),
    (0.87408523, 0.5940426, 0.2784818, 0.86425866),
    (0.74036082, 0.4551354, 0.13735457, 0.72960231),
    (0.49878264, 0.22123705, -0.07391366, 0.48266406),
    (0.16337832, -0.11849742, -0.36238265, 0.11577449),
]


def test_the_way_that_diffusers_went() -> None:
    """Its tolerance is that of the slow test, and 5e-9 for the digits that are written here."""
    schedule = flow_schedule(6, 3.0)
    sampler = Sampler(SamplerSpec(kind="unipc", sigmas=schedule.sigmas))
    noise = np.random.default_rng(6).standard_normal(SHAPE).astype(np.float32)
    x, way = sampler.start(noise), sampler.begin()
    for sigma, expected in zip(schedule.sigmas, WAY, strict=True):
        x = way.step(x, velocity(x, sigma).astype(np.float32), never)
        np.testing.assert_allclose(x.ravel()[PLACES], expected, rtol=0, atol=1e-6)


def test_the_schedule_that_diffusers_makes() -> None:
    """In single precision, and with timesteps rounded down: 500.999 is 500."""
    schedule = flow_schedule(4, 3.0)
    assert schedule.timesteps == (999.0, 900.0, 750.0, 500.0)
    assert schedule.sigmas == (
        0.9999989867210388,
        0.900119960308075,
        0.7503747940063477,
        0.5009989738464355,
    )
    assert schedule.sigmas[0] == NEARLY_ONE


@pytest.mark.slow  # diffusers takes seconds to import
@pytest.mark.parametrize("shift", [3.0, 5.0])
@pytest.mark.parametrize("steps", [1, 2, 3, *range(4, 51, 2)])
def test_the_whole_way_is_that_of_diffusers(steps: int, shift: float) -> None:
    """The reference runs in double precision, but for its coefficients, which are single.

    Ours hands float32 latents to the model at every step, and half a unit in the last place of
    values up to 4 is 2.4e-7: 1e-6 leaves room for a few of them and for the coefficients.
    """
    import torch

    reference = unipc_of_diffusers(steps, shift)
    schedule = flow_schedule(steps, shift)
    sampler = Sampler(SamplerSpec(kind="unipc", sigmas=schedule.sigmas))
    noise = np.random.default_rng(steps).standard_normal(SHAPE).astype(np.float32)
    x, way = sampler.start(noise), sampler.begin()
    expected = torch.from_numpy(noise.astype(np.float64))
    for sigma, timestep in zip(schedule.sigmas, reference.timesteps, strict=True):
        predicted = torch.from_numpy(velocity(expected.numpy(), sigma))
        expected = reference.step(predicted, timestep, expected).prev_sample
        x = way.step(x, velocity(x, sigma).astype(np.float32), never)
        assert x.dtype == np.float32
        np.testing.assert_allclose(x, expected.numpy(), rtol=0, atol=1e-6)
    assert abs(x).max() > 1  # it did go somewhere


@pytest.mark.slow
@pytest.mark.parametrize("shift", [3.0, 5.0])
@pytest.mark.parametrize("steps", [1, 4, 20, 50])
def test_schedules_are_those_of_diffusers(steps: int, shift: float) -> None:
    ours = flow_schedule(steps, shift)
    unipc = unipc_of_diffusers(steps, shift)
    assert unipc.sigmas[-1] == 0
    np.testing.assert_allclose(ours.sigmas, unipc.sigmas[:-1], rtol=0, atol=1e-9)
    assert list(ours.timesteps) == unipc.timesteps.tolist()  # whole numbers, exactly


def test_two_clips_do_not_mix() -> None:
    schedule = flow_schedule(6, 3.0)
    sampler = Sampler(SamplerSpec(kind="unipc", sigmas=schedule.sigmas))
    generator = np.random.default_rng(2)
    noises = [generator.standard_normal(SHAPE, dtype=np.float32) for _ in range(2)]

    def alone(noise: Values) -> Values:
        x, way = noise, sampler.begin()
        for sigma in schedule.sigmas:
            x = way.step(x, velocity(x, sigma).astype(np.float32), never)
        return x

    together, ways = list(noises), [sampler.begin(), sampler.begin()]
    for sigma in schedule.sigmas:
        for clip, way in enumerate(ways):
            x = together[clip]
            together[clip] = way.step(x, velocity(x, sigma).astype(np.float32), never)
    for x, noise in zip(together, noises, strict=True):
        np.testing.assert_array_equal(x, alone(noise))


def test_levels_from_one_on_are_held_below_it() -> None:
    """λ(1) is infinite, and so would be what is extrapolated from it."""
    way = Sampler(SamplerSpec(kind="unipc", sigmas=(1.0, 0.75, 0.5, 0.25))).begin()
    x = np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
    for sigma in (1.0, 0.75, 0.5, 0.25):
        x = way.step(x, velocity(x, sigma).astype(np.float32), never)
    assert np.isfinite(x).all()


def test_noise_begins_unscaled() -> None:
    """The first level of the schedule is 1 but for a guard against log(0)."""
    noise = np.ones(SHAPE, dtype=np.float32)
    sampler = Sampler(SamplerSpec(kind="unipc", sigmas=flow_schedule(4, 3.0).sigmas))
    np.testing.assert_array_equal(sampler.start(noise), noise)
