from __future__ import annotations

import numpy as np
import pytest

from animatic_training.world.attributes import INTERIORS, PLACES
from animatic_training.world.places import REGISTRY
from animatic_training.world.places.layout import BACK, FLAT, FRONT
from animatic_training.world.solids import BOX, CYLINDER, ELLIPSOID, Solid

DISTANCES = (2.0, 6.0, 35.0)
SEEDS = 3
MOST_SOLIDS = 34

GRID = np.linspace(-1, 1, 5)
SHELL = np.array(
    [(x, y, z) for x in GRID for y in GRID for z in GRID if max(abs(x), abs(y), abs(z)) == 1]
)
"""Points of the surface of a cube; scaled to a solid's half extents they enclose it."""


def surface(prop: Solid) -> np.ndarray:
    """Return points [N, 3] of the box around a solid, in the world."""
    points = SHELL * prop.half
    for angle, first, second in ((prop.roll, 1, 2), (prop.pitch, 0, 1), (prop.yaw, 2, 0)):
        a, b = points[:, first].copy(), points[:, second].copy()
        points[:, first] = a * np.cos(angle) - b * np.sin(angle)
        points[:, second] = a * np.sin(angle) + b * np.cos(angle)
    return np.asarray(points + prop.centre)


def test_the_registry_is_the_vocabulary() -> None:
    assert tuple(REGISTRY) == PLACES


@pytest.mark.parametrize("name", PLACES)
def test_props_are_sound_and_few(name: str) -> None:
    for distance in DISTANCES:
        for seed in range(SEEDS):
            props = REGISTRY[name].props(np.random.default_rng(seed), distance)
            assert 15 <= len(props) <= MOST_SOLIDS
            for prop in props:
                assert prop.kind in {BOX, ELLIPSOID, CYLINDER}
                assert np.isfinite([*prop.centre, *prop.half]).all()
                assert min(prop.half) > 0
                assert max(prop.colour) <= 1
                assert min(prop.colour) >= 0
                assert prop.motion is None
                assert surface(prop)[:, 1].max() > 0


@pytest.mark.parametrize("name", PLACES)
def test_the_stage_and_the_view_of_it_are_free(name: str) -> None:
    # No thing that stands is nearer than the room that the camera (at up to 1.15 distances behind
    # the subject, as it goes round, and 1.6 in front) and the subject need; flat things are.
    for distance in DISTANCES:
        for seed in range(SEEDS):
            for prop in REGISTRY[name].props(np.random.default_rng(seed), distance):
                points = surface(prop)
                high = (points[:, 1] > FLAT) & (points[:, 1] < 1.3 * distance)
                x, _, z = points[high].T
                room = np.where(z >= 0, BACK, FRONT) * distance
                assert (np.hypot(x, z) > room).all(), (distance, seed, prop)


@pytest.mark.parametrize("name", PLACES)
def test_something_of_the_place_is_seen_around_the_subject(name: str) -> None:
    # The frame at the subject, in distances: 0.42 either way and 0.75 to the sides.
    ground = REGISTRY[name].ground
    for distance in (3.5, 12.0):
        marks = ground.band_near < 0
        for prop in REGISTRY[name].props(np.random.default_rng(1), distance):
            x, _, z = (surface(prop) / distance).T
            marks |= bool(((np.abs(x) < 0.75) & (np.abs(z) < 0.42)).any())
        assert marks


def test_the_same_stream_lays_out_the_same_place_and_another_another() -> None:
    for place in REGISTRY.values():
        one, again, other = (place.props(np.random.default_rng(seed), 6.0) for seed in (3, 3, 4))
        assert one == again
        assert one != other


def test_rooms_have_walls_behind_the_subject_and_outdoors_has_sky() -> None:
    for name in INTERIORS - {"studio"}:
        props = REGISTRY[name].props(np.random.default_rng(0), 6.0)
        walls = [prop for prop in props if prop.half[1] > 1.35 * 6.0 / 2]
        assert any(wall.centre[2] > BACK * 6.0 for wall in walls)
        assert any(wall.centre[0] < -FRONT * 6.0 for wall in walls)
        assert any(wall.centre[0] > FRONT * 6.0 for wall in walls)
