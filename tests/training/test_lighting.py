from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from animatic_training.world.attributes import INTERIORS, PLACES, TIMES, WEATHERS
from animatic_training.world.lighting import light_of

DISTANCE = 6.0


def lit(place: str, time: str, weather: str = "clear", *, seed: int = 0) -> np.ndarray:
    """Return the light [6, 3] of a shot at 6 m."""
    return light_of(place, time, weather, DISTANCE, np.random.default_rng(seed))[0]


def shown(light: np.ndarray) -> np.ndarray:
    """Return what a grey wall and the sky above the horizon look like, six values in 0..1."""
    _, sun, ambient, zenith, horizon, _ = light
    wall = 0.5 * (0.5 * sun + 0.8 * ambient)
    linear = np.clip(np.concatenate([wall, 0.7 * horizon + 0.3 * zenith]), 0, 1)
    return np.asarray(linear ** (1 / 2.2))


@pytest.mark.parametrize(
    ("place", "time", "weather"),
    [(place, TIMES[n % 4], weather) for n, place in enumerate(PLACES) for weather in WEATHERS],
)
def test_light_keeps_the_contract(place: str, time: str, weather: str) -> None:
    light, air = light_of(place, time, weather, DISTANCE, np.random.default_rng(7))
    assert light.shape == (6, 3)
    assert air.shape == (4,)
    assert light.dtype == air.dtype == np.float32
    assert np.isfinite(light).all()
    assert np.linalg.norm(light[0]) == pytest.approx(1, abs=1e-5)  # float32
    assert light[0, 1] > 0.1
    assert (light[1:] >= 0).all()
    assert light[1:].max() <= 1.05
    rain, snow, wind, seed = air
    assert (rain >= 0.6) == (weather == "rain")
    assert (snow >= 0.6) == (weather == "snowfall")
    assert 0 <= rain <= 1
    assert 0 <= snow <= 1
    assert abs(wind) <= 3
    assert 0 <= seed < 1000
    assert seed == int(seed)


@pytest.mark.parametrize("place", PLACES)
def test_times_of_day_are_well_apart(place: str) -> None:
    for one, other in combinations(TIMES, 2):
        difference = np.abs(shown(lit(place, one)) - shown(lit(place, other)))
        # 20 of 255 levels in at least one channel of wall or sky.
        assert difference.max() > 20 / 255, (one, other)


@pytest.mark.parametrize("place", ["city", "beach"])
@pytest.mark.parametrize("weather", WEATHERS)
def test_times_of_day_are_apart_in_every_weather(place: str, weather: str) -> None:
    for one, other in combinations(TIMES, 2):
        difference = np.abs(shown(lit(place, one, weather)) - shown(lit(place, other, weather)))
        assert difference.max() > 16 / 255, (one, other)  # the least: 19, dawn and day in snow


@pytest.mark.parametrize("place", PLACES)
def test_nights_are_dark(place: str) -> None:
    for weather in WEATHERS:
        night, day = lit(place, "night", weather), lit(place, "day", weather)
        assert shown(night)[:3].mean() < 0.55 * shown(day)[:3].mean()


def test_the_disc_is_seen_under_a_clear_sky_alone() -> None:
    for place in set(PLACES) - INTERIORS:
        for time in TIMES:
            discs = [lit(place, time, weather)[5, 2] for weather in WEATHERS]
            assert discs == [1, 0, 0, 0, 0]
    assert all(lit(place, "day")[5, 2] == 0 for place in INTERIORS)


def test_cloud_takes_the_sun_and_leaves_the_sky() -> None:
    for weather in WEATHERS[1:]:
        clear, cloudy = lit("meadow", "day"), lit("meadow", "day", weather)
        assert cloudy[1].max() < 0.4 * clear[1].max()
        assert np.ptp(cloudy[4]) < np.ptp(clear[4])


@pytest.mark.parametrize("distance", [2.0, 8.0, 40.0])
def test_fog_is_strong_and_the_subject_is_seen_at_every_distance(distance: float) -> None:
    light, _ = light_of("meadow", "day", "fog", distance, np.random.default_rng(0))
    at_subject, behind = np.exp(-light[5, 0] * np.array([1.0, 3.0]) * distance)
    assert 0.5 < at_subject < 0.7
    assert behind < 0.25


def test_the_moon_has_a_black_sky_at_every_time() -> None:
    for time in TIMES:
        light = lit("moon", time)
        assert light[3:5].max() < 0.01
        assert light[5].tolist() == [0, 0, 1]


def test_light_is_the_same_for_the_same_stream() -> None:
    one, again = (light_of("beach", "dawn", "rain", 5.0, np.random.default_rng(2)) for _ in "ab")
    assert np.array_equal(one[0], again[0])
    assert np.array_equal(one[1], again[1])
    assert not np.array_equal(one[0], lit("beach", "dawn", "rain", seed=3))
