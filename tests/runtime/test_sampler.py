"""Every schedule of the families against their published values, and the update rules by hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest

from animatic import schedules
from animatic.bundle import SamplerSpec, Schedule
from animatic.errors import ShotError
from animatic.sampler import Sampler
from animatic.schedules import flow_schedule, shift
from tests.runtime.steps import never

if TYPE_CHECKING:
    import numpy.typing as npt

    Latents = npt.NDArray[np.float32]

Kind = Literal["euler", "renoise", "unipc"]

TABLES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "Self-Forcing": (schedules.SELF_FORCING, (1.0, 0.9375, 0.8333333, 0.625)),
    "FastWan": (schedules.FASTWAN, (1.0, 0.7567568, 0.5217391)),
    "rCM": (schedules.RCM, (0.9876543, 0.9337811, 0.8528954, 0.6089790)),
    "LightX2V": (schedules.LIGHTX2V, (1.0, 0.9375, 0.8333333, 0.625)),
    "LTX pass 1": (
        schedules.LTX_PASS_1,
        (1.0, 0.9937, 0.9875, 0.9812, 0.975, 0.9094, 0.725),
    ),
    "LTX pass 2": (schedules.LTX_PASS_2, (0.9094, 0.725, 0.4219)),
    "LTX-2": (
        schedules.LTX2,
        (1.0, 0.99375, 0.9875, 0.98125, 0.975, 0.909375, 0.725, 0.421875),
    ),
    "Wan base, 4 steps": (
        flow_schedule(4, 3.0).sigmas,
        (0.999999, 0.9001200, 0.7503748, 0.5009990),
    ),
    "LTX-2 stage 2": (schedules.LTX2_STAGE_2, (0.909375, 0.725, 0.421875)),
}


def array(*values: float) -> Latents:
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize("family", TABLES)
def test_schedule(family: str) -> None:
    ours, published = TABLES[family]
    assert len(ours) == len(published)
    np.testing.assert_allclose(ours, published, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("sigmas", "timesteps"),
    [
        (schedules.SELF_FORCING, (1000.0, 937.5, 833.333333, 625.0)),
        (schedules.FASTWAN, (1000.0, 756.756757, 521.739130)),
        (schedules.RCM, (987.654321, 933.781061, 852.895395, 608.979049)),
    ],
)
def test_timesteps(sigmas: tuple[float, ...], timesteps: tuple[float, ...]) -> None:
    steps = Sampler(SamplerSpec(kind="renoise", sigmas=sigmas))
    assert len(steps) == len(timesteps)
    for index, expected in enumerate(timesteps):
        assert steps.timestep(index) == pytest.approx(expected, rel=0, abs=1e-6)


def test_timesteps_that_a_reference_rounds() -> None:
    """FastWan's gives the model whole numbers, and goes on with the levels nearest to them."""
    spec = SamplerSpec(
        kind="renoise", sigmas=schedules.FASTWAN, timesteps=schedules.FASTWAN_TIMESTEPS
    )
    steps = Sampler(spec)
    assert [steps.timestep(step) for step in range(3)] == [1000, 757, 522]
    assert steps.sigmas[1] == pytest.approx(0.7567568, rel=0, abs=1e-6)


def test_other_numbers_of_steps() -> None:
    spec = SamplerSpec(
        kind="euler",
        sigmas=(1.0, 0.5, 0.25),
        timesteps=(999.0, 500.0, 250.0),
        schedules=(Schedule(sigmas=(1.0, 0.5), timesteps=(998.0, 501.0)), Schedule(sigmas=(1.0,))),
    )
    for steps, timesteps in [(None, [999, 500, 250]), (3, [999, 500, 250]), (2, [998, 501])]:
        taken = Sampler(spec, steps)
        assert [taken.timestep(step) for step in range(len(taken))] == timesteps
    assert Sampler(spec, 1).timestep(0) == 1000
    with pytest.raises(ShotError, match="in that many steps; choose 1, 2 or 3"):
        Sampler(spec, 4)
    with pytest.raises(ShotError, match="choose 4, or leave the steps out"):
        Sampler(SamplerSpec(kind="renoise", sigmas=schedules.SELF_FORCING), 5)


def test_timestep_scale() -> None:
    assert (
        Sampler(SamplerSpec(kind="euler", sigmas=(1.0, 0.5), timestep_scale=1.0)).timestep(1) == 0.5
    )


@pytest.mark.parametrize(
    ("sigma", "k", "expected"),
    [
        (1.0, 5.0, 1.0),
        (0.5, 5.0, 0.8333333),
        (0.5, 1.0, 0.5),
        (0.0, 5.0, 0.0),
        (0.28, 8.0, 0.7567568),
    ],
)
def test_shift(sigma: float, k: float, expected: float) -> None:
    assert shift(sigma, k) == pytest.approx(expected, rel=0, abs=1e-6)


def test_euler_by_hand() -> None:
    steps = Sampler(SamplerSpec(kind="euler", sigmas=(1.0, 0.75)))
    way = steps.begin()
    x, v = array(1.0, -2.0), array(4.0, 0.5)
    # x + (0.75 - 1) v
    np.testing.assert_array_equal(way.step(x, v, never), array(0.0, -2.125))
    # the last: x + (0 - 0.75) v
    np.testing.assert_array_equal(way.step(x, v, never), array(-2.0, -2.375))


def test_renoise_by_hand() -> None:
    steps = Sampler(SamplerSpec(kind="renoise", sigmas=(1.0, 0.75)))
    way = steps.begin()
    x, v, noise = array(1.0, -2.0), array(4.0, 0.5), array(8.0, -1.0)
    # x0 = x - 1 v = (-3, -2.5), then 0.25 x0 + 0.75 noise
    np.testing.assert_array_equal(way.step(x, v, lambda: noise), array(5.25, -1.375))
    # the last is x0 = x - 0.75 v, and no noise is drawn
    np.testing.assert_array_equal(way.step(x, v, never), array(-2.0, -2.375))


def test_start_is_noise_at_the_first_level() -> None:
    noise = array(1.0, -0.5)
    plain = Sampler(SamplerSpec(kind="euler", sigmas=(1.0, 0.5)))
    np.testing.assert_array_equal(plain.start(noise), noise)
    rcm = Sampler(SamplerSpec(kind="renoise", sigmas=schedules.RCM))
    np.testing.assert_allclose(rcm.start(noise), (0.9876543, -0.4938272), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["euler", "renoise", "unipc"])
@pytest.mark.parametrize("family", TABLES)
def test_an_exact_velocity_field_leads_to_x0(kind: Kind, family: str) -> None:
    generator = np.random.default_rng(0)
    steps = Sampler(SamplerSpec(kind=kind, sigmas=TABLES[family][0]))
    x0 = generator.standard_normal((1, 4, 3, 2, 2), dtype=np.float32)

    def fresh() -> Latents:
        return generator.standard_normal(x0.shape, dtype=np.float32)

    x, way = steps.start(fresh()), steps.begin()
    for sigma in steps.sigmas:
        velocity = ((x.astype(np.float64) - x0) / sigma).astype(np.float32)
        x = way.step(x, velocity, fresh)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, x0, rtol=0, atol=1e-6)


def test_renoise_keeps_the_marginal_of_each_level() -> None:
    """With x0 known, what stands between two steps is (1 - σ) x0 + σ ε."""
    generator = np.random.default_rng(1)
    x0 = np.full(200_000, 3.0, dtype=np.float32)
    steps = Sampler(SamplerSpec(kind="renoise", sigmas=schedules.SELF_FORCING))
    noise = generator.standard_normal(x0.shape, dtype=np.float32)
    x = steps.begin().step(
        noise, noise - x0, lambda: generator.standard_normal(x0.shape, dtype=np.float32)
    )
    assert x.mean() == pytest.approx((1 - 0.9375) * 3, abs=0.01)
    assert x.std() == pytest.approx(0.9375, abs=0.01)


@pytest.mark.parametrize("kind", ["euler", "unipc"])
def test_inputs_are_left_alone(kind: Kind) -> None:
    x, v = array(1.0, 2.0), array(3.0, 4.0)
    way = Sampler(SamplerSpec(kind=kind, sigmas=(1.0, 0.75, 0.5))).begin()
    for _ in range(3):
        way.step(x, v, never)
    np.testing.assert_array_equal(x, array(1.0, 2.0))
    np.testing.assert_array_equal(v, array(3.0, 4.0))


def test_rcm_angles() -> None:
    angles = (math.atan(80), 1.5, 1.4, 1.0)
    for angle, sigma in zip(angles, schedules.RCM, strict=True):
        assert sigma / (1 - sigma) == pytest.approx(math.tan(angle), rel=1e-9)
