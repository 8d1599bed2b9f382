from __future__ import annotations

from dataclasses import fields
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from animatic_training.world.attributes import (
    ACROSS,
    CLASSES,
    HELD_OUT_SHARE,
    INTERIORS,
    NONE,
    PLACES,
    SUBJECTS,
    ShotAttributes,
    sample_attributes,
)
from animatic_training.world.scene import NATIVE_FPS, Scene, build_scene
from animatic_training.world.solids import BOX, CYLINDER
from tests.training.shots import shot

COUNTS = [len(classes) for classes in CLASSES.values()]
ASPECTS = (16 / 9, 1.0, 9 / 16, 2.39)
FIRST_BLOCK = 13
SETTLED = 5
"""Frames after which a whip pan has found its subject."""


class Piece(NamedTuple):
    attributes: ShotAttributes
    scene: Scene
    aspect: float


@pytest.fixture(scope="module")
def pieces() -> list[Piece]:
    """First and later pieces of shots in all aspects, all drawn."""
    rng = np.random.default_rng(3)
    drawn = []
    for number in range(120):
        attributes = sample_attributes(rng)
        start = (0.0, 0.0, 1.625, 8.0, 60.0)[number % 5]
        aspect = ASPECTS[number % 4]
        stream = np.random.default_rng(number)
        scene = build_scene(attributes, stream, FIRST_BLOCK, start=start, aspect=aspect)
        drawn.append(Piece(attributes, scene, aspect))
    return drawn


def lowest(scene: Scene) -> np.ndarray:
    """Return the height of every solid's lowest point, [F, S]."""
    steep = scene.turn[..., 1] * scene.half
    box = np.abs(steep).sum(axis=-1)
    drum = np.abs(steep[..., 1]) + np.hypot(steep[..., 0], steep[..., 2])
    ball = np.linalg.norm(steep, axis=-1)
    down = np.select([scene.kind == BOX, scene.kind == CYLINDER], [box, drum], ball)
    return np.asarray(scene.centre[..., 1] - down)


@pytest.mark.parametrize("place", PLACES)
def test_every_subject_can_be_staged_in_every_place(place: str) -> None:
    for subject in SUBJECTS:
        scene = build_scene(shot(subject=subject, place=place), np.random.default_rng(1), 2)
        solids = len(scene.kind)
        shapes = {
            "kind": (solids,), "centre": (2, solids, 3), "half": (solids, 3),
            "turn": (2, solids, 3, 3), "colour": (solids, 3), "fill": (solids,), "eye": (2, 3),
            "basis": (2, 3, 3), "tan_half_fov": (2,), "light": (6, 3), "ground": (4, 3),
            "air": (4,), "seconds": (2,), "subject": (solids,),
        }  # fmt: skip
        assert {field.name for field in fields(scene)} == set(shapes)
        for name, shape in shapes.items():
            array = getattr(scene, name)
            assert array.shape == shape, name
            assert array.dtype == (np.uint8 if name in {"kind", "subject"} else np.float32), name
            assert np.isfinite(array).all(), name
        assert set(scene.subject) == {0, 1}


def test_turns_and_bases_are_rotations(pieces: list[Piece]) -> None:
    """Within 1e-5: float32 products of three sines."""
    for _, scene, _ in pieces[:40]:
        for axes in (scene.turn, scene.basis):
            identity = np.einsum("...ij,...kj->...ik", axes, axes)
            np.testing.assert_allclose(identity, np.broadcast_to(np.eye(3), axes.shape), atol=1e-5)
            np.testing.assert_allclose(np.linalg.det(axes), 1, atol=1e-5)  # none is mirrored


def test_the_subject_is_in_the_frame_whatever_moves_for_however_long(pieces: list[Piece]) -> None:
    for attributes, scene, aspect in pieces:
        whips = attributes.name("camera") == "whip_pan" and scene.seconds[0] == 0
        parts = scene.centre[:, scene.subject == 1]
        middle = (parts.min(axis=1) + parts.max(axis=1)) / 2
        seen = np.einsum("fij,fj->fi", scene.basis, middle - scene.eye)[SETTLED if whips else 0 :]
        tan = scene.tan_half_fov[SETTLED if whips else 0 :]
        assert seen[:, 2].min() > 0, attributes
        assert np.abs(seen[:, 0] / seen[:, 2] / tan / aspect).max() < 1, attributes
        assert np.abs(seen[:, 1] / seen[:, 2] / tan).max() < 1, attributes


def test_no_subject_sinks_into_the_ground_and_no_eye(pieces: list[Piece]) -> None:
    """A centimetre is what paws and skids are given to stand on."""
    for attributes, scene, _ in pieces:
        assert lowest(scene)[:, scene.subject > 0].min() > -0.011, attributes
        assert scene.eye[:, 1].min() >= 0.249, attributes


def test_no_eye_is_inside_a_solid(pieces: list[Piece]) -> None:
    for attributes, scene, _ in pieces:
        own = np.einsum("fsij,fsj->fsi", scene.turn, scene.eye[:, None] - scene.centre)
        assert not (np.abs(own) < scene.half).all(axis=-1).any(), attributes


@pytest.mark.parametrize("start", [0.0, 1.625, 8.0, 60.0])
def test_a_piece_is_the_same_wherever_it_starts(start: float) -> None:
    """Frames that two pieces share are equal, within float32 of metres times radians."""
    rng = np.random.default_rng(6)
    for number in range(8):
        attributes = sample_attributes(rng)
        whole = build_scene(attributes, np.random.default_rng(number), 9, start=start)
        later = start + 4 / NATIVE_FPS
        piece = build_scene(attributes, np.random.default_rng(number), 5, start=later)
        for name in ("centre", "turn", "eye", "basis", "tan_half_fov", "seconds"):
            np.testing.assert_allclose(
                getattr(whole, name)[4:], getattr(piece, name), atol=2e-4, err_msg=name
            )
        for name in ("kind", "half", "colour", "fill", "light", "ground", "air", "subject"):
            np.testing.assert_array_equal(getattr(whole, name), getattr(piece, name))


def test_a_second_subject_has_its_own_solids_and_colour() -> None:
    attributes = shot(relation="beside", second="dog", second_colour="green")
    scene = build_scene(attributes, np.random.default_rng(0), 2)
    assert set(scene.subject) == {0, 1, 2}
    first, second = (scene.colour[scene.subject == who] for who in (1, 2))
    assert (first[:, 0] > 4 * first[:, 1]).any()
    assert not (first[:, 1] > 2 * first[:, 0]).any()
    assert (second[:, 1] > 2 * second[:, 0]).any()


def test_another_seed_is_another_shot() -> None:
    one, other = (build_scene(shot(), np.random.default_rng(n), 2) for n in (0, 1))
    assert np.abs(one.eye - other.eye).max() > 0.01


@pytest.mark.parametrize("held_out", [False, True])
def test_shots_are_possible_and_held_out_only_when_asked_for(*, held_out: bool) -> None:
    rng = np.random.default_rng(0)
    drawn = [sample_attributes(rng, held_out=held_out) for _ in range(20 if held_out else 300)]
    assert {attributes.held_out for attributes in drawn} == {held_out}
    for attributes in drawn:
        name = attributes.name
        assert attributes.possible
        assert name("place") not in INTERIORS or name("weather") == "clear"
        assert name("camera") != "tracking" or name("action") in ACROSS
        assert name("angle") != "overhead" or not name("camera").startswith(("tilt", "pan", "zoom"))
        assert (name("relation") == "alone") == (name("second") == NONE)


def test_every_class_is_drawn() -> None:
    rng = np.random.default_rng(2)
    table = np.array([sample_attributes(rng).labels() for _ in range(700)])
    for column, count in enumerate(COUNTS):
        assert set(table[:, column]) == set(range(count))


def test_about_one_combination_in_twenty_is_held_out() -> None:
    rng = np.random.default_rng(1)
    share = np.mean(
        [ShotAttributes(*(int(rng.integers(n)) for n in COUNTS)).held_out for _ in range(1500)]
    )
    assert share == pytest.approx(1 / HELD_OUT_SHARE, rel=0.3)


def test_what_is_held_out_stays_held_out() -> None:
    """If this fails, clips of an earlier run's score set are trained on."""
    shots = [ShotAttributes(n % 8, n % 7, 0, 0, 0, 0, n % 3, *[0] * 6) for n in range(100)]
    assert [n for n, one in enumerate(shots) if one.held_out] == [7, 18, 19, 22, 42, 58, 78, 98]


@settings(max_examples=30)
@given(st.tuples(*(st.integers(0, count - 1) for count in COUNTS)))
def test_labels_round_trip(values: tuple[int, ...]) -> None:
    attributes = ShotAttributes(*values)
    array = attributes.labels()
    assert array.shape == (len(CLASSES),)
    assert array.dtype == np.int64
    assert ShotAttributes(*array.tolist()) == attributes
