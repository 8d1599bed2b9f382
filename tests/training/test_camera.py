from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from animatic_training.world.attributes import ANGLES, CAMERAS, LENSES
from animatic_training.world.camera import FRAME_SHARE, TAN_HALF_FOV, slowing, soft_limit
from animatic_training.world.scene import Scene, build_scene
from tests.training.shots import shot


def take(
    camera: str = "static",
    *,
    seed: int = 5,
    start: float = 0.0,
    aspect: float = 16 / 9,
    **changed: str,
) -> Scene:
    attributes = shot(camera=camera, **changed)
    return build_scene(attributes, np.random.default_rng(seed), 13, start=start, aspect=aspect)


def heading(scene: Scene) -> np.ndarray:
    """Return which way the camera looks, degrees to the right of +z, [F]."""
    forward = scene.basis[:, 2]
    return np.asarray(np.degrees(np.unwrap(np.arctan2(forward[:, 0], forward[:, 2]))))


def elevation(scene: Scene) -> np.ndarray:
    """Return how far up the camera looks, degrees, [F]."""
    return np.asarray(np.degrees(np.arcsin(scene.basis[:, 2, 1])))


def distance(scene: Scene) -> np.ndarray:
    middle = scene.centre[:, scene.subject == 1].mean(axis=1)
    return np.asarray(np.linalg.norm(middle - scene.eye, axis=1))


@settings(max_examples=50)
@given(st.floats(-100, 100), st.floats(0.1, 10), st.floats(0.1, 0.9))
def test_a_soft_limit_bends_only_what_comes_near_it(
    value: float, limit: float, knee: float
) -> None:
    bent = float(soft_limit(np.array(value), limit, knee))
    assert abs(bent) <= limit + 1e-12  # a rounding of the sum of its two parts
    assert abs(bent) <= abs(value)
    assert abs(value) > knee * limit or bent == value
    assert np.sign(bent) == np.sign(value)


def drift(scene: Scene) -> float:
    """Return how far what stands in the first view moves in it, of half the frame's height.

    The ninth decile over the solids of set and subject, in the frame where that is most.
    """
    seen = np.einsum("fij,fsj->fsi", scene.basis, scene.centre - scene.eye[:, None])
    depth = np.maximum(seen[..., 2:], 1e-3)
    view = seen[..., :2] / depth / scene.tan_half_fov[:, None, None]
    inside = (np.abs(view[0]) < (16 / 9, 1.0)).all(axis=1) & (seen[0, :, 2] > 0)
    moved = np.linalg.norm(view - view[0], axis=-1)[:, inside]
    return float(np.quantile(moved, 0.9, axis=1).max())


def test_time_slows_down_without_a_jump() -> None:
    """At zero its pace is one, within what a step of 1e-3 s bends; after 2 s it is a half."""
    time = np.array([-3.0, 0.0, 1e-3, 2.0, 2.001])
    slow = slowing(time, 2.0)
    assert slow[:2].tolist() == [-3.0, 0.0]
    assert slow[2] / 1e-3 == pytest.approx(1, abs=1e-3)
    assert (slow[4] - slow[3]) / 1e-3 == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("camera", sorted(set(CAMERAS) - {"static", "whip_pan", "tracking"}))
@pytest.mark.parametrize(("start", "least"), [(0.0, 0.1), (1.625, 0.05), (3.625, 0.018)])
def test_a_move_is_seen_in_the_first_three_blocks(camera: str, start: float, least: float) -> None:
    """Of half a frame of 144 lines: 7 pixels in the first block, 3.6 and 1.3 in the next two."""
    far = [
        drift(take(camera, start=start, lens=lens, place="forest"))
        for lens in ("normal", "telephoto")
    ]
    assert min(far) > least


def test_a_static_camera_does_not_move() -> None:
    scene = take()
    for array in (scene.eye, scene.basis, scene.tan_half_fov):
        assert np.ptp(array, axis=0).max() == 0


@pytest.mark.parametrize(("camera", "way"), [("pan_left", -1), ("pan_right", 1)])
def test_a_pan_turns_on_the_spot_and_comes_to_rest(camera: str, way: int) -> None:
    scene = take(camera)
    assert np.ptp(scene.eye, axis=0).max() < 1e-6
    assert (way * np.diff(heading(scene)) > 0.5).all()
    assert np.ptp(heading(take(camera, start=30.0))) < 0.05


@pytest.mark.parametrize(("camera", "way"), [("tilt_up", 1), ("tilt_down", -1)])
def test_a_tilt_looks_up_or_down_from_the_spot(camera: str, way: int) -> None:
    scene = take(camera)
    assert np.ptp(scene.eye, axis=0).max() < 1e-6
    assert (way * np.diff(elevation(scene)) > 0.4).all()


@pytest.mark.parametrize(("camera", "way"), [("dolly_in", -1), ("dolly_out", 1)])
def test_a_dolly_changes_the_distance_not_the_lens(camera: str, way: int) -> None:
    scene = take(camera)
    far = distance(scene)
    assert (way * np.diff(far) > 0).all()
    assert abs(far[-1] / far[0] - 1) > 0.15
    assert np.ptp(scene.tan_half_fov) == 0
    later = distance(take(camera, start=60.0))
    assert 0.5 < later[0] / far[8] < 1.8


@pytest.mark.parametrize(("camera", "way"), [("zoom_in", -1), ("zoom_out", 1)])
def test_a_zoom_changes_the_lens_not_the_distance(camera: str, way: int) -> None:
    scene = take(camera)
    assert (way * np.diff(scene.tan_half_fov) > 0).all()
    assert abs(np.log(scene.tan_half_fov[-1] / scene.tan_half_fov[0])) > 0.2
    assert np.ptp(scene.eye, axis=0).max() < 1e-6


@pytest.mark.parametrize(("camera", "way"), [("crane_up", 1), ("crane_down", -1)])
def test_a_crane_lifts_the_eye(camera: str, way: int) -> None:
    scene = take(camera)
    height = scene.eye[:, 1]
    assert (way * np.diff(height) > 0).all()
    assert abs(height[-1] - height[0]) > 0.25 * distance(scene)[8]


@pytest.mark.parametrize(("camera", "way"), [("truck_left", -1), ("truck_right", 1)])
def test_a_truck_slides_without_turning(camera: str, way: int) -> None:
    scene = take(camera)
    assert (way * np.diff(scene.eye[:, 0]) > 0).all()
    assert np.ptp(heading(scene)) < 0.01


def test_an_orbit_goes_round_for_ever_and_keeps_its_distance() -> None:
    for start in (0.0, 40.0):
        scene = take("orbit", start=start)
        turned = np.diff(heading(scene))
        assert np.abs(turned) == pytest.approx(20 / 8, abs=0.1)  # degrees a frame
        assert np.ptp(distance(scene)) < 0.05 * distance(scene)[0]


def test_tracking_keeps_what_crosses_where_it_is() -> None:
    scene = take("tracking", action="right")
    assert np.ptp(scene.eye[:, 0]) > 1
    middle = scene.centre[:, 0] - scene.eye
    assert np.ptp(middle[:, 0]) < 1e-3


def test_handheld_shakes_every_way() -> None:
    scene = take("handheld")
    assert np.ptp(heading(scene)) > 0.8
    assert np.ptp(elevation(scene)) > 0.5
    assert (np.ptp(scene.eye, axis=0) > 0.01).all()


@pytest.mark.parametrize("camera", ["orbit", "whip_pan"])
def test_what_has_no_side_goes_to_either(camera: str) -> None:
    turned = [np.diff(heading(take(camera, seed=seed)))[0] for seed in range(8)]
    assert min(turned) < -1
    assert max(turned) > 1


def test_a_whip_pan_is_over_after_half_a_second() -> None:
    turned = heading(take("whip_pan"))
    assert abs(turned[0] - turned[4]) > 30
    assert np.ptp(turned[4:]) < 0.01


@pytest.mark.parametrize("lens", LENSES)
@pytest.mark.parametrize("aspect", [16 / 9, 1.0, 9 / 16, 2.39])
def test_sizes_are_in_order_through_every_lens(lens: str, aspect: float) -> None:
    order = sorted(FRAME_SHARE, key=FRAME_SHARE.__getitem__, reverse=True)
    far = [distance(take(size=size, lens=lens, aspect=aspect))[8] for size in order]
    assert (np.diff(far) / far[:-1] > 0.2).all()


@pytest.mark.parametrize("lens", LENSES)
def test_a_wide_shot_is_as_wide_through_every_lens(lens: str) -> None:
    """Within 20 %: a short lens is set back for what is near it, which looks larger."""
    scene = take(size="wide", lens=lens)
    high = 2 * TAN_HALF_FOV[lens] * distance(scene)[8]
    normal = 2 * TAN_HALF_FOV["normal"] * distance(take(size="wide"))[8]
    assert high == pytest.approx(normal, rel=0.2)


@pytest.mark.parametrize("camera", sorted(set(CAMERAS) - {"crane_up", "crane_down", "tracking"}))
def test_angles_are_told_apart_by_what_the_camera_looks_down_on(camera: str) -> None:
    down = {}
    for angle in ANGLES:
        scene = take(camera, angle=angle, size="medium")
        down[angle] = float(-elevation(scene)[8])
    assert down["low"] < down["eye_level"] - 3
    assert down["eye_level"] + 15 < down["high"] < down["overhead"] - 25
    assert down["overhead"] < 88
