from __future__ import annotations

from dataclasses import replace
from math import cos, pi, sin

import numpy as np
import pytest

from animatic_training.world.raycast import render, render_with_mask
from animatic_training.world.scene import Scene
from animatic_training.world.solids import BOX, CYLINDER, ELLIPSOID

HEIGHT, WIDTH = 36, 48
TAN = 0.5
DISTANCE = 12.0
"""Of the eye from the middle of the solids, metres: a pixel there is 1/3 m wide."""


def turn(*, yaw: float = 0.0, pitch: float = 0.0) -> np.ndarray:
    """Rows: the axes of a solid whose front goes up by `pitch`, then turned by `yaw`."""
    about_y = np.array([[cos(yaw), 0, sin(yaw)], [0, 1, 0], [-sin(yaw), 0, cos(yaw)]])
    about_z = np.array([[cos(pitch), -sin(pitch), 0], [sin(pitch), cos(pitch), 0], [0, 0, 1]])
    rows: np.ndarray = (about_y @ about_z).T
    return rows


def stage(
    kind: int = BOX,
    *,
    frames: int = 1,
    centre: tuple[float, float, float] = (0.0, 3.0, 0.0),
    half: tuple[float, float, float] = (1.0, 1.0, 1.0),
    axes: np.ndarray | None = None,
    sun: tuple[float, float, float] = (0.0, 0.8, -0.6),
    haze: float = 0.0,
) -> Scene:
    """One solid before a plain ground under a plain sky, seen along +z from its own height."""
    float32 = np.float32
    return Scene(
        kind=np.array([kind], np.uint8),
        centre=np.tile(np.array(centre, float32), (frames, 1, 1)),
        half=np.array([half], float32),
        turn=np.tile((np.eye(3) if axes is None else axes).astype(float32), (frames, 1, 1, 1)),
        colour=np.array([[0.8, 0.1, 0.1]], float32),
        fill=np.zeros(1, float32),
        eye=np.tile(np.array([0.0, 3.0, -DISTANCE], float32), (frames, 1)),
        basis=np.tile(np.eye(3, dtype=float32), (frames, 1, 1)),
        tan_half_fov=np.full(frames, TAN, float32),
        light=np.array(
            [sun, (0.7, 0.7, 0.7), (0.2, 0.2, 0.2), (0.1, 0.2, 0.9), (0.1, 0.2, 0.9), (haze, 0, 0)],
            float32,
        ),
        ground=np.array([(0.3, 0.6, 0.3), (0.3, 0.6, 0.3), (0, 0, 0), (2, 1e9, 1e9)], float32),
        air=np.zeros(4, float32),
        seconds=np.arange(frames, dtype=float32) / 8,
        subject=np.ones(1, np.uint8),
    )


def yawed(angle: float) -> np.ndarray:
    """The basis of a camera that looks to the right by `angle`: rows right, up, forward."""
    return np.array(
        [[cos(angle), 0, -sin(angle)], [0, 1, 0], [sin(angle), 0, cos(angle)]], np.float32
    )


def outline(
    kind: int, half: tuple[float, float, float], axes: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """Whether rays from the eye through `points` meet the solid, by small steps: bool [N]."""
    eye = np.array([0, 0, -DISTANCE])
    along = np.linspace(0.7, 1.3, 1200)[:, None, None]
    own = (eye + along * (points - eye)) @ axes.T / np.array(half)
    x, y, z = np.moveaxis(own, -1, 0)
    inside = {
        BOX: np.abs(own).max(-1) <= 1,
        ELLIPSOID: x * x + y * y + z * z <= 1,
        CYLINDER: (x * x + z * z <= 1) & (np.abs(y) <= 1),
    }[kind]
    hit: np.ndarray = inside.any(0)
    return hit


@pytest.mark.parametrize("kind", [BOX, ELLIPSOID, CYLINDER])
@pytest.mark.parametrize(
    "axes", [turn(), turn(yaw=0.5), turn(yaw=-0.4, pitch=0.8), turn(pitch=pi / 2)]
)
def test_solids_are_seen_where_geometry_says(kind: int, axes: np.ndarray) -> None:
    half = (2.0, 0.8, 1.0)
    _, mask = render_with_mask(stage(kind, half=half, axes=axes), HEIGHT, WIDTH)
    pixel = 2 * TAN * DISTANCE / HEIGHT
    x = (np.arange(WIDTH) - (WIDTH - 1) / 2) * pixel
    y = ((HEIGHT - 1) / 2 - np.arange(HEIGHT)) * pixel
    points = np.stack([*np.meshgrid(x, y), np.zeros((HEIGHT, WIDTH))], axis=-1).reshape(-1, 3)
    expected = outline(kind, half, axes, points).reshape(HEIGHT, WIDTH)
    assert expected.sum() > 30
    # The steps of `outline` are 6 mm: a ray may pass between two of them at a corner.
    assert (expected != (mask[0] == 1)).sum() <= 2


def test_a_face_is_lit_by_the_angle_to_the_sun() -> None:
    """Facing the sun squarely, half turned away, and turned from it."""
    shown = [
        int(render(stage(sun=sun), HEIGHT, WIDTH)[0, HEIGHT // 2, WIDTH // 2, 0])
        for sun in ((0.0, 0.0, -1.0), (0.0, 0.8, -0.6), (0.0, 0.6, 0.8))
    ]
    # Linear 0.8 (0.7 cos + 0.2 * 0.75 and a little), gamma 2.2; the face's highlight adds some.
    assert shown[0] > shown[1] > shown[2]
    assert shown[2] == pytest.approx(255 * (0.8 * 0.2 * 0.75) ** (1 / 2.2), abs=3)
    assert shown[1] == pytest.approx(255 * (0.8 * (0.7 * 0.6 + 0.15)) ** (1 / 2.2), abs=12)


def test_the_shadow_falls_away_from_the_sun() -> None:
    scene = replace(stage(sun=(0.6, 0.8, 0.0)), eye=np.array([[0, 9, -DISTANCE]], np.float32))
    down = np.array([[[1, 0, 0], [0, 0.8, 0.6], [0, -0.6, 0.8]]], np.float32)
    picture = render(replace(scene, basis=down), 96, 128)[0].astype(int)

    def ground_at(x: float, z: float) -> int:
        point = np.array([x, 0, z]) - scene.eye[0]
        right, up, forward = down[0] @ point
        size = 2 * TAN / 96
        return int(
            picture[round(47.5 - up / forward / size), round(63.5 + right / forward / size), 1]
        )

    # The box hangs 3 m high: its shadow's middle lies 3 * 0.6 / 0.8 = 2.25 m from beneath it.
    lit, shadow = ground_at(3.5, 0), ground_at(-2.25, 0)
    assert shadow < 0.7 * lit
    # Its edge is soft, 1 m to each side of the middle and a share of the light wide.
    assert shadow <= ground_at(-3.24, 0) <= ground_at(-3.5, 0) + 1
    assert ground_at(-5.0, 0) == pytest.approx(lit, abs=6)


def test_what_stands_on_the_ground_darkens_it() -> None:
    scene = stage(centre=(0, 1, 0), sun=(0.0, 0.8, -0.6))
    high = replace(scene, centre=scene.centre + np.array([0, 50, 0], np.float32))
    standing, empty = (render(s, HEIGHT, WIDTH)[0].astype(int) for s in (scene, high))
    darker = empty - standing
    row = HEIGHT - 1 - int(HEIGHT * 0.2)  # ground just before the box
    assert darker[row - 2, WIDTH // 2, 1] > darker[HEIGHT - 1, WIDTH // 2, 1]


def test_the_mask_tells_subjects_from_the_set() -> None:
    one = stage()
    scene = replace(
        one,
        kind=np.array([BOX, ELLIPSOID, BOX], np.uint8),
        centre=np.array([[(-4, 3, 0), (0, 3, 0), (4, 3, 0)]], np.float32),
        half=np.ones((3, 3), np.float32),
        turn=np.tile(np.eye(3, dtype=np.float32), (1, 3, 1, 1)),
        colour=np.full((3, 3), 0.5, np.float32),
        fill=np.zeros(3, np.float32),
        subject=np.array([1, 2, 0], np.uint8),
    )
    pixels, mask = render_with_mask(scene, HEIGHT, WIDTH)
    assert mask.shape == (1, HEIGHT, WIDTH)
    assert mask.dtype == np.uint8
    middle = mask[0, HEIGHT // 2]
    assert [int(middle[round(23.5 + x * 3)]) for x in (-4, 0, 4)] == [1, 2, 0]
    assert set(np.unique(mask)) == {0, 1, 2}
    np.testing.assert_array_equal(pixels, render(scene, HEIGHT, WIDTH))


def test_haze_takes_what_is_far_to_the_horizon() -> None:
    clear, hazy, thick = (
        render(stage(haze=haze), HEIGHT, WIDTH)[0, HEIGHT // 2, WIDTH // 2].astype(int)
        for haze in (0.0, 0.05, 10.0)
    )
    horizon = 255 * np.array([0.1, 0.2, 0.9]) ** (1 / 2.2)
    assert np.abs(clear - horizon).sum() > np.abs(hazy - horizon).sum()
    np.testing.assert_allclose(thick, horizon, atol=1)


def test_a_zoom_magnifies() -> None:
    scene = replace(stage(frames=2), tan_half_fov=np.array([0.5, 0.25], np.float32))
    _, mask = render_with_mask(scene, 4 * HEIGHT, 4 * WIDTH)
    # The nearer face is seen: its edges are at 1 m of 11, and grow by half a pixel at most.
    assert int(mask[1].sum()) == pytest.approx(4 * int(mask[0].sum()), rel=0.05)


def test_edges_are_smooth() -> None:
    picture = render(stage(ELLIPSOID, half=(3, 3, 3)), HEIGHT, WIDTH)[0]
    blues = np.unique(picture[: HEIGHT // 2, :, 2])
    assert ((blues > 120) & (blues < 220)).sum() >= 3  # neither solid nor sky


def test_dry_air_needs_no_clock() -> None:
    scene = replace(stage(frames=2), seconds=np.array([0.0, 900.0], np.float32))
    first, second = render(scene, HEIGHT, WIDTH)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(render(scene, HEIGHT, WIDTH)[0], first)


def drops(scene: Scene, size: int = 96) -> np.ndarray:
    """How much brighter what falls makes each pixel: float [F, H, W], less its mean."""
    air = scene.air.copy()
    air[:2] = 0
    wet = render(scene, size, size).astype(float).sum(-1)
    dry = render(replace(scene, air=air), size, size).astype(float).sum(-1)
    difference: np.ndarray = wet - dry
    difference -= difference.mean()
    return difference


def best_shift(before: np.ndarray, after: np.ndarray, axis: int, most: int) -> int:
    """By how many pixels `after` is moved along `axis`, by their correlation."""
    scores = {}
    for shift in range(-most, most + 1):
        first = np.take(before, range(max(0, -shift), before.shape[axis] - max(0, shift)), axis)
        then = np.take(after, range(max(0, shift), after.shape[axis] - max(0, -shift)), axis)
        scores[shift] = float((first * then).mean())
    return max(scores, key=lambda shift: scores[shift])


def black(frames: int, rain: float, snow: float) -> Scene:
    """Nothing but what falls: the solid is behind the eye, and all is of one colour."""
    scene = stage(frames=frames, centre=(0, 3, -90), sun=(0.0, 0.8, 0.6))
    air = np.array([rain, snow, 0, 5], np.float32)
    up = np.array([[[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]]], np.float32)
    return replace(scene, air=air, basis=np.repeat(up, frames, axis=0))


@pytest.mark.parametrize(("rain", "snow", "speed", "depth"), [(1, 0, 5.0, 4.0), (0, 1, 0.9, 3.0)])
def test_rain_and_snow_fall(rain: float, snow: float, speed: float, depth: float) -> None:
    """In 1/20 s the nearest layer falls by its speed over its depth, the others by less."""
    scene = replace(black(2, rain, snow), seconds=np.array([3.0, 3.05], np.float32))
    before, after = drops(scene)
    assert before.std() > 3
    pixel = 2 * TAN / 96 * depth
    expected = speed * 0.05 / pixel
    assert 1 <= best_shift(before, after, 0, 12) <= expected + 1


def test_a_pan_moves_what_falls_the_other_way() -> None:
    still = black(2, 0, 1)
    angle = 6 * 2 * TAN / 96  # six pixels at the middle of the picture
    basis = np.stack([still.basis[0], still.basis[0] @ yawed(angle)])
    scene = replace(still, basis=basis.astype(np.float32), seconds=np.full(2, 3, np.float32))
    before, after = drops(scene)
    # The camera looks up by 37 degrees: a turn about the vertical moves the view by less.
    assert -7 <= best_shift(before, after, 1, 12) <= -4


def test_every_shape_of_picture_is_drawn() -> None:
    for height, width in ((18, 32), (20, 13), (3, 5)):
        assert render(stage(), height, width).shape == (1, height, width, 3)
