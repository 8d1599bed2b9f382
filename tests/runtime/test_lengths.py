"""How long a clip may be: listed counts, whole blocks, and what lies nearest to a time."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from animatic.errors import ShotError
from animatic.shot import Shot
from tests.runtime.fake_model import CONTEXT, fake_bundle

if TYPE_CHECKING:
    from animatic.bundle import Bundle

replace = msgspec.structs.replace


@pytest.mark.parametrize(
    ("seconds", "fps", "frames"),
    [
        (1, None, 9),
        (1.125, None, 9),
        (0.875, None, 9),  # 7 frames lie as near to 5 as to 9
        (0.874, None, 5),
        (0.5, None, 5),
        (0.375, Fraction(24), 9),
        (0.2, Fraction(24), 5),
        (9 * 1001 / 24000, Fraction(24000, 1001), 9),
    ],
)
def test_seconds(bundle: Bundle, seconds: float, fps: Fraction | None, frames: int) -> None:
    assert Shot("x", seconds=seconds, fps=fps).plan(bundle).frames == frames


@pytest.mark.parametrize(
    "seconds",
    [np.float32(1), np.float64(1), np.int64(1), np.uint8(1), Fraction(1), Fraction(9, 8)],
)
def test_seconds_are_any_real_number(bundle: Bundle, seconds: Any) -> None:
    assert Shot("x", seconds=seconds).plan(bundle).frames == 9


@pytest.mark.parametrize(
    "seconds",
    [True, np.True_, np.float32("nan"), np.float64("inf"), 1j, np.array([1.0]), np.array(1.0), "1"],
)
def test_other_seconds(bundle: Bundle, seconds: Any) -> None:
    with pytest.raises(ShotError, match="length in seconds cannot be used; choose a number"):
        Shot("x", seconds=seconds).plan(bundle)


def test_more_than_one_block_needs_context() -> None:
    with pytest.raises(ShotError, match=r"that many frames; choose 9 or 5\."):
        Shot("x", frames=21).plan(fake_bundle())

    geometry = replace(fake_bundle().geometry, frame_counts=(9, 21, 5))
    joining = fake_bundle(geometry=geometry, conditioning=CONTEXT)
    assert Shot("x", frames=21).plan(joining).latent_shape.frames == 6
    # 13 frames are 4 latent frames: one block and a third.
    sentence = "choose 9, 21 or 5, or 9 plus any number of blocks of 12, up to 86,400 seconds"
    with pytest.raises(ShotError, match=f"that many frames; {sentence}"):
        Shot("x", frames=13).plan(joining)


@pytest.fixture
def joining() -> Bundle:
    """Blocks of 3 latent frames: 9 frames, then 12 more for each."""
    return fake_bundle(conditioning=CONTEXT)


@pytest.mark.parametrize("frames", [5, 9, 21, 33, 9 + 12 * 1000, np.int64(33)])
def test_any_whole_number_of_blocks(joining: Bundle, frames: Any) -> None:
    plan = Shot("x", frames=frames).plan(joining)
    assert plan.frames == frames
    assert type(plan.frames) is int
    assert plan.latent_shape.frames * 4 - 3 == frames


@pytest.mark.parametrize(
    "frames", [-3, 1, 8, 13, 20, 691_209, 9 + 12 * 10**1000, 33.5, "33", Fraction(67, 2)]
)
def test_no_other_number_of_frames(joining: Bundle, frames: Any) -> None:
    with pytest.raises(ShotError, match="that many frames; choose 9 or 5, or 9 plus"):
        Shot("x", frames=frames).plan(joining)


@pytest.mark.parametrize(
    ("seconds", "frames"),
    [
        (0.1, 5),  # 0.8 frames are nearer to 5, which is listed, than to a block of 9
        (0.625, 5),
        (0.874, 5),
        (0.875, 9),  # 7 frames lie as near to 5 as to 9
        (1.8, 9),
        (1.9, 21),  # 15.2 frames are nearer to 21 than to 9
        (1.875, 21),  # 15 lie as near to both
        (4, 33),
        (60, 477),  # 480 frames
        (86_400, 691_197),  # one block more would be beyond the day
    ],
)
def test_seconds_are_whole_blocks(joining: Bundle, seconds: float, frames: int) -> None:
    assert Shot("x", seconds=seconds).plan(joining).frames == frames


def test_the_nearest_of_blocks_and_what_is_listed(joining: Bundle) -> None:
    """By trying every length there is."""
    geometry = replace(joining.geometry, frame_counts=(9, 5, 1))
    bundle = replace(joining, geometry=geometry)
    lengths = [1, 5, *range(9, 80, 12)]
    for wanted in range(1, 60):
        nearest = min(abs(n - wanted) for n in lengths)
        frames = Shot("x", seconds=Fraction(wanted, 8)).plan(bundle).frames
        assert frames == max(n for n in lengths if abs(n - wanted) == nearest)


@pytest.mark.parametrize(
    "frames",
    [True, 9.0, np.float64(9), Fraction(9), "9", np.array([9, 5]), np.array([9]), np.True_],
)
def test_frames_are_a_whole_number(bundle: Bundle, frames: Any) -> None:
    with pytest.raises(ShotError, match="that many frames; choose 9 or 5"):
        Shot("x", frames=frames).plan(bundle)
