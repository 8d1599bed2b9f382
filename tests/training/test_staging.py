from __future__ import annotations

import numpy as np
import pytest

from animatic_training.world import subjects
from animatic_training.world.attributes import ACTIONS, SIZES, SUBJECTS
from animatic_training.world.scene import Scene, build_scene
from tests.training.shots import shot


def stage(
    action: str, *, start: float = 0.0, frames: int = 13, seed: int = 3, **changed: str
) -> Scene:
    attributes = shot(**({"subject": "car", "action": action} | changed))
    return build_scene(attributes, np.random.default_rng(seed), frames, start=start)


def seen(scene: Scene, who: int = 1) -> np.ndarray:
    """Return where the middle of a subject's solids is seen, [F, 3].

    Right and up are shares of half the frame, the third is its depth in metres.
    """
    parts = scene.centre[:, scene.subject == who]
    middle = (parts.min(axis=1) + parts.max(axis=1)) / 2
    own = np.einsum("fij,fj->fi", scene.basis, middle - scene.eye)
    tan = scene.tan_half_fov
    return np.stack(
        [own[:, 0] / own[:, 2] / tan / (16 / 9), own[:, 1] / own[:, 2] / tan, own[:, 2]], axis=-1
    )


def heading(scene: Scene) -> np.ndarray:
    """Return how far a subject's front, its body's own x axis, points right and away, [F, 2]."""
    return np.asarray(scene.turn[:, scene.subject == 1][:, 0, 0][:, [0, 2]])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("action", "way"), [("left", -1), ("right", 1)])
def test_what_crosses_passes_the_middle_and_faces_its_way(action: str, way: int, size: str) -> None:
    scene = stage(action, size=size)
    across = seen(scene)[:, 0]
    assert (way * np.diff(across) > 0).all()
    assert way * across[0] < -0.2
    assert 0.4 < way * (across[-1] - across[0]) < 0.9  # 18 % of the width a second, of its half
    assert (way * heading(scene)[:, 0] > 0.99).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("action", "way"), [("toward", -1), ("away", 1)])
def test_what_comes_or_goes_changes_its_distance(action: str, way: int, size: str) -> None:
    scene = stage(action, size=size, angle="eye_level")
    depth = seen(scene)[:, 2]
    assert (way * np.diff(depth) > 0).all()
    assert abs(depth[-1] / depth[0] - 1) > 0.12
    assert (way * heading(scene)[:, 1] > 0.9).all()


def test_turning_is_a_quarter_a_second_on_the_spot() -> None:
    scene = stage("turn", frames=9)
    front = heading(scene)
    angle = np.unwrap(np.arctan2(front[:, 1], front[:, 0]))
    assert abs(angle[-1] - angle[0]) == pytest.approx(np.pi / 2, abs=1e-3)
    assert np.ptp(seen(scene)[:, 0]) < 0.05


def test_a_jump_leaves_the_ground_and_comes_back_every_second() -> None:
    height = stage("jump", frames=17).centre[:, 0, 1]
    np.testing.assert_allclose(height[[0, 8, 16]], height[0], atol=1e-4)
    assert height[4] - height[0] > 0.5
    assert height[12] - height[0] > 0.5


@pytest.mark.parametrize(("action", "way"), [("rise", 1), ("sink", -1)])
def test_rising_and_sinking_end_softly(action: str, way: int) -> None:
    start = way * np.diff(stage(action).centre[:, 0, 1])
    assert (start > 0).all()
    later = stage(action, start=60.0).centre[:, 0, 1]
    assert np.ptp(later) < 1e-3


def test_a_circle_is_driven_forwards() -> None:
    scene = stage("circle", frames=26)
    place = scene.centre[:, scene.subject == 1][:, 0][:, [0, 2]]
    step = np.gradient(place, axis=0)[1:-1]
    step /= np.linalg.norm(step, axis=1, keepdims=True)
    assert ((step * heading(scene)[1:-1]).sum(axis=1) > 0.95).all()
    assert np.linalg.norm(place[0] - place[13]) > 1.5 * np.linalg.norm(place[0] - place[25])


def test_swaying_leans_to_both_sides_and_nothing_else_does() -> None:
    """14 degrees are a sine of 0.24."""
    for action in ACTIONS:
        turn = stage(action).turn
        lean = np.concatenate([turn[:, 0, 0, 1], turn[:, 0, 2, 1]])
        if action == "sway":
            assert lean.min() < -0.2
            assert lean.max() > 0.2
        else:
            assert np.abs(lean).max() < 1e-6


def test_weaving_goes_to_and_fro_and_faces_the_camera() -> None:
    scene = stage("weave", frames=26)
    across = seen(scene)[:, 0]
    assert np.ptp(across) > 0.3
    assert (np.diff(np.sign(np.diff(across))) != 0).sum() >= 3
    assert (heading(scene)[:, 1] < -0.4).all()


@pytest.mark.parametrize("subject", SUBJECTS)
def test_parts_move_only_while_it_travels_or_always(subject: str) -> None:
    def moves(action: str) -> bool:
        turn = stage(action, subject=subject).turn
        return bool(np.abs(np.diff(turn[:, : len(parts)], axis=0)).max() > 1e-3)

    parts = subjects.build_subject(subject, "red")
    motions = [part.motion for part in parts if part.motion]
    assert moves("left") == bool(motions)
    assert moves("still") == any(motion.always for motion in motions)


def test_a_chaser_follows_and_both_cross() -> None:
    for way, action in ((-1, "left"), (1, "right")):
        scene = stage(action, relation="chasing", second="dog", second_colour="blue")
        first, second = seen(scene, 1)[:, 0], seen(scene, 2)[:, 0]
        assert (way * (second - first) > 0.3).all()
        assert (way * np.diff(first) > 0).all()
        assert (way * np.diff(second) > 0).all()


@pytest.mark.parametrize("action", ["still", "left", "toward", "circle", "jump", "weave"])
@pytest.mark.parametrize("seed", range(3))
def test_who_is_behind_is_farther_and_not_hidden(action: str, seed: int) -> None:
    behind, beside = (
        stage(action, seed=seed, relation=relation, second="horse", second_colour="blue")
        for relation in ("behind", "beside")
    )
    first, second = seen(behind, 1), seen(behind, 2)
    assert (first[:, 2] > second[:, 2]).all()
    assert (np.abs(first[:, 0] - second[:, 0]) > 0.1).all()
    nearer = (seen(beside, 1)[:, 2] - seen(beside, 2)[:, 2]).mean()
    assert nearer < 0.5 * (first[:, 2] - second[:, 2]).mean()


def test_what_travels_keeps_its_course_in_an_orbiting_view() -> None:
    for start in (0.0, 8.0, 30.0):
        scene = stage("right", camera="orbit", start=start)
        front = scene.turn[:, 0, 0]
        right = np.einsum("fi,fi->f", front, scene.basis[:, 0])
        assert (right > 0.95).all()
