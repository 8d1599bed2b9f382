from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from animatic_training.world.attributes import CLASSES, COLOURS, SUBJECTS, TIMES, ShotAttributes
from animatic_training.world.lighting import light_of
from animatic_training.world.raycast import render_with_mask
from animatic_training.world.scene import build_scene
from animatic_training.world.solids import BOX, CYLINDER, ELLIPSOID, Solid
from animatic_training.world.subjects import FILL, PALETTE, REGISTRY, build_subject

SPUN = frozenset({"truck", "car", "bus", "motorcycle", "tractor", "ball"})
WALKS = frozenset({"person", "horse", "dog", "elephant", "dinosaur", "robot"})
ALWAYS = frozenset({"helicopter", "airplane", "drone", "bird", "dinosaur", "horse", "dog"})


def bounds(part: Solid) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and highest corner of the box around a solid, metres."""
    cy, cp, cr = np.cos((part.yaw, part.pitch, part.roll))
    sy, sp, sr = np.sin((part.yaw, part.pitch, part.roll))
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[cp, -sp, 0], [sp, cp, 0], [0, 0, 1]])
    roll = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    axes = (yaw @ pitch @ roll) * part.half
    match part.kind:
        case 0:
            reach = np.abs(axes).sum(axis=1)
        case 1:
            reach = np.sqrt((axes**2).sum(axis=1))
        case _:
            reach = np.abs(axes[:, 1]) + np.hypot(axes[:, 0], axes[:, 2])
    return part.centre - reach, part.centre + reach


def silhouette(subject: str, action: str) -> np.ndarray:
    """Return a subject's mask cut out and brought to one size, bool [32, 32]."""
    mask = picture(subject, "red", action)[1]
    rows, columns = np.nonzero(mask)
    size = max(np.ptp(rows), np.ptp(columns)) + 1
    steps = (np.arange(32) - 15.5) / 32 * size
    height, width = mask.shape
    row = np.clip(np.rint((rows.min() + rows.max()) / 2 + steps), 0, height - 1).astype(int)
    column = np.clip(np.rint((columns.min() + columns.max()) / 2 + steps), 0, width - 1)
    return np.asarray(mask[np.ix_(row, column.astype(int))])


def picture(subject: str, colour: str, action: str) -> tuple[np.ndarray, np.ndarray]:
    """Return one frame of a medium shot in the studio, and where the subject is in it."""
    chosen = dict.fromkeys(CLASSES, 0) | {
        "subject": SUBJECTS.index(subject),
        "colour": COLOURS.index(colour),
        "place": CLASSES["place"].index("studio"),
        "time": TIMES.index("day"),
        "action": CLASSES["action"].index(action),
        "size": CLASSES["size"].index("medium"),
        "second": len(SUBJECTS),
        "second_colour": len(COLOURS),
    }
    scene = build_scene(ShotAttributes(**chosen), np.random.default_rng(0), 1, start=1.5)
    pixels, mask = render_with_mask(scene, 72, 128)
    return pixels[0], mask[0] > 0


def lab(linear: np.ndarray) -> np.ndarray:
    """Return CIE L*a*b* (D65) of linear sRGB colours [..., 3] in 0..1."""
    matrix = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    xyz = np.clip(linear, 0, 1) @ matrix.T / matrix.sum(axis=1)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1
    )


def test_the_registry_is_the_vocabulary() -> None:
    assert tuple(REGISTRY) == SUBJECTS
    assert tuple(PALETTE) == COLOURS


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_subject_is_sound_and_as_large_as_it_says(name: str) -> None:
    subject, parts = REGISTRY[name], build_subject(name, "green")
    assert 6 <= len(parts) <= 22
    for part in parts:
        assert part.kind in {BOX, ELLIPSOID, CYLINDER}
        assert min(part.half) > 0
        assert np.isfinite([*part.centre, *part.half, part.yaw, part.pitch, part.roll]).all()
        assert all(0 <= channel <= 1 for channel in part.colour)
        assert part.fill == FILL
    low = np.min([bounds(part)[0] for part in parts], axis=0)
    high = np.max([bounds(part)[1] for part in parts], axis=0)
    # A walking foot may dip by what its sole turns; a flame hangs below its rocket.
    assert -0.2 <= low[1] <= 0.16
    assert high[1] == pytest.approx(subject.height, abs=0.1)
    # A metre is what a tail or a rotor's blade may stick out by more than what is said.
    assert high[0] - low[0] == pytest.approx(subject.length, abs=0.45)
    assert subject.extent >= 0.9 * subject.height
    assert subject.altitude >= 0


@pytest.mark.parametrize("name", SUBJECTS)
def test_what_moves_moves_as_its_kind_does(name: str) -> None:
    motions = [part.motion for part in build_subject(name, "red") if part.motion]
    assert any(m.always for m in motions) == (name in ALWAYS | {"elephant"})
    # What rolls to the right turns its top forward: from +y to +x, against the sense of pitch.
    assert any(m.turns < 0 and m.axis == 2 and not m.always for m in motions) == (name in SPUN)
    walking = [m for m in motions if m.swing and not m.always]
    assert bool(walking) == (name in WALKS)
    if walking:  # left and right legs go against each other
        assert len({round(m.phase % (2 * np.pi), 3) for m in walking}) == 2
    # Two blades look the same after half a turn: at 8 frames a second less than a quarter each.
    assert all(abs(m.turns) / 8 < 0.25 for m in motions)


@pytest.mark.parametrize("action", ["right", "toward"])
def test_silhouettes_differ(action: str) -> None:
    # Brought to one size, the likest pair (crate and ball from the side, truck and bus from
    # the front) shares 0.84 of its area; 1 would be the same outline.
    outlines = {name: silhouette(name, action) for name in SUBJECTS}
    for one, other in combinations(SUBJECTS, 2):
        both, either = outlines[one] & outlines[other], outlines[one] | outlines[other]
        assert both.sum() / either.sum() < 0.86, (one, other)


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_subject_shows_its_colour(name: str) -> None:
    pixels, mask = picture(name, "turquoise", "still")
    red, green, blue = pixels[mask].astype(int).T
    # The least is a tractor's 0.41: its tyres and glass take the rest.
    assert ((green > 1.4 * red) & (blue > 1.4 * red)).mean() > 0.3


@pytest.mark.parametrize("place", ["meadow", "living_room"])
@pytest.mark.parametrize("time", TIMES)
def test_colours_are_well_apart_in_every_light(time: str, place: str) -> None:
    light, _ = light_of(place, time, "clear", 6.0, np.random.default_rng(0))
    albedo = np.array(list(PALETTE.values()))
    shown = lab(albedo * (0.4 * light[1] + 0.8 * light[2] + FILL))
    for one, other in combinations(range(len(COLOURS)), 2):
        # The least, orange and yellow in a room at night, are 24.9 apart; about 2.3 can be seen.
        assert np.linalg.norm(shown[one] - shown[other]) > 20, (COLOURS[one], COLOURS[other])
