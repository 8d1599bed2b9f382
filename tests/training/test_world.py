from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from animatic_training.dataset import mirrored_labels
from animatic_training.world.attributes import (
    ACTIONS,
    CAMERAS,
    CLASSES,
    COLOURS,
    HELD_OUT_SHARE,
    PLACES,
    SIZES,
    SUBJECTS,
    TIMES,
    ShotAttributes,
    sample_attributes,
)
from animatic_training.world.raycast import render
from animatic_training.world.scene import build_scene

COUNTS = [len(classes) for classes in CLASSES.values()]


def draw(attributes: ShotAttributes, *, frames: int = 3, seed: int = 4) -> np.ndarray:
    return render(build_scene(attributes, np.random.default_rng(seed), frames), 27, 48)


def shot(
    subject: str,
    colour: str,
    *,
    place: str = "snow",
    action: str = "still",
    camera: str = "static",
    size: str = "medium",
) -> ShotAttributes:
    return ShotAttributes(
        SUBJECTS.index(subject),
        COLOURS.index(colour),
        PLACES.index(place),
        TIMES.index("day"),
        ACTIONS.index(action),
        CAMERAS.index(camera),
        SIZES.index(size),
    )


def subject_pixels(attributes: ShotAttributes) -> np.ndarray:
    """Return where the coloured parts of the subject are, bool [frames, height, width].

    The same scene with the subject in another colour differs there and nowhere else.
    """
    other = replace(attributes, colour=(attributes.colour + 4) % len(COLOURS))
    differs: np.ndarray = (draw(attributes) != draw(other)).any(axis=-1)
    return differs


def centre(mask: np.ndarray) -> float:
    """Return the mean column of a mask."""
    return float(np.argwhere(mask)[:, 1].mean())


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_can_be_drawn_in_every_place(subject: str, place: str) -> None:
    n = SUBJECTS.index(subject) + PLACES.index(place)
    attributes = ShotAttributes(
        SUBJECTS.index(subject),
        n % len(COLOURS),
        PLACES.index(place),
        n % len(TIMES),
        n % len(ACTIONS),
        n % len(CAMERAS),
        n % len(SIZES),
    )
    pixels = draw(attributes)
    assert pixels.shape == (3, 27, 48, 3)
    assert pixels.dtype == np.uint8
    assert pixels.std(axis=(1, 2)).max() > 5


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_subject_of_a_static_medium_shot_is_in_the_frame(subject: str, action: str) -> None:
    masks = subject_pixels(shot(subject, "red", action=action))
    assert 0.01 < masks[1].mean() < 0.5
    assert not masks[1][:, [0, -1]].any()
    assert all(mask.any() for mask in masks)


@pytest.mark.parametrize("colour", COLOURS)
def test_a_colour_is_seen(colour: str) -> None:
    """Half of a ball is in the shade; its brighter half has the colour's order of channels."""
    attributes = shot("ball", colour)
    pixels = draw(attributes)[1][subject_pixels(attributes)[1]].astype(int)
    red, green, blue = np.percentile(pixels, 75, axis=0)
    assert {
        "red": red > 1.5 * max(green, blue),
        "orange": red > 1.2 * green > 1.2 * blue,
        "yellow": min(red, green) > 1.5 * blue,
        "green": green > 1.2 * max(red, blue),
        "blue": blue > 1.5 * max(red, green),
        "purple": min(red, blue) > 1.3 * green,
        "white": min(red, green, blue) > 180,
        "black": max(red, green, blue) < 120,
    }[colour]


@pytest.mark.parametrize(("action", "sign"), [("left", -1), ("right", 1), ("still", 0)])
def test_the_subject_goes_where_its_action_says(action: str, sign: int) -> None:
    masks = subject_pixels(shot("ball", "red", action=action))
    assert np.sign(round(centre(masks[2]) - centre(masks[0]))) == sign


def test_a_subject_that_comes_closer_grows() -> None:
    masks = subject_pixels(shot("ball", "red", action="toward"))
    assert masks[2].sum() > 1.3 * masks[0].sum()


@pytest.mark.parametrize(("camera", "sign"), [("pan_left", 1), ("pan_right", -1), ("static", 0)])
def test_a_pan_moves_the_picture_the_other_way(camera: str, sign: int) -> None:
    masks = subject_pixels(shot("ball", "red", camera=camera))
    assert np.sign(round(centre(masks[2]) - centre(masks[0]))) == sign


@pytest.mark.parametrize(("camera", "grows"), [("dolly_in", True), ("dolly_out", False)])
def test_a_dolly_changes_the_subject_s_size(camera: str, *, grows: bool) -> None:
    masks = subject_pixels(shot("ball", "red", camera=camera))
    assert (masks[2].sum() > masks[0].sum()) == grows


def test_a_closer_size_shows_more_of_the_subject() -> None:
    shown = [
        subject_pixels(shot("horse", "red", size=size))[1].sum()
        for size in ("wide", "medium", "close")
    ]
    assert shown[0] < shown[1] < shown[2]


def test_one_seed_gives_one_picture_and_another_seed_another() -> None:
    attributes = shot("truck", "green", place="forest")
    np.testing.assert_array_equal(draw(attributes), draw(attributes))
    assert (draw(attributes) != draw(attributes, seed=5)).any()


@pytest.mark.parametrize("held_out", [False, True])
def test_held_out_combinations_are_drawn_only_when_asked_for(*, held_out: bool) -> None:
    rng = np.random.default_rng(0)
    drawn = [sample_attributes(rng, held_out=held_out) for _ in range(500)]
    assert {attributes.held_out for attributes in drawn} == {held_out}
    for column, count in enumerate(COUNTS):
        assert {astuple(attributes)[column] for attributes in drawn} == set(range(count))


def test_about_one_combination_in_twenty_is_held_out() -> None:
    rng = np.random.default_rng(1)
    share = np.mean(
        [ShotAttributes(*(int(rng.integers(n)) for n in COUNTS)).held_out for _ in range(4000)]
    )
    assert share == pytest.approx(1 / HELD_OUT_SHARE, rel=0.25)


def test_what_is_held_out_stays_held_out() -> None:
    """If this fails, clips of an earlier run's score set are trained on."""
    shots = [ShotAttributes(n % 8, n % 7, 0, 0, 0, 0, n % 3) for n in range(100)]
    assert [n for n, shot in enumerate(shots) if shot.held_out] == [7, 18, 19, 22, 42, 58, 78, 98]


labels = st.tuples(*(st.integers(0, count - 1) for count in COUNTS))


@given(labels)
def test_labels_round_trip(values: tuple[int, ...]) -> None:
    attributes = ShotAttributes(*values)
    array = attributes.labels()
    assert array.shape == (7,)
    assert array.dtype == np.int64
    assert ShotAttributes(*array.tolist()) == attributes
    assert [attributes.name(name) for name in CLASSES] == [
        classes[value] for classes, value in zip(CLASSES.values(), values, strict=True)
    ]


@given(st.lists(labels, min_size=1, max_size=20))
def test_mirroring_twice_changes_nothing(rows: list[tuple[int, ...]]) -> None:
    array = np.array(rows)
    before = array.copy()
    mirrored = mirrored_labels(array)
    np.testing.assert_array_equal(array, before)
    np.testing.assert_array_equal(mirrored_labels(mirrored), array)
    np.testing.assert_array_equal(np.delete(mirrored, [4, 5], 1), np.delete(array, [4, 5], 1))


def test_mirroring_swaps_left_and_right() -> None:
    swapped = {"left": "right", "right": "left", "pan_left": "pan_right", "pan_right": "pan_left"}
    for action in ACTIONS:
        for camera in CAMERAS:
            here = shot("car", "blue", action=action, camera=camera)
            there = ShotAttributes(*mirrored_labels(here.labels()).tolist())
            assert there.name("action") == swapped.get(action, action)
            assert there.name("camera") == swapped.get(camera, camera)
