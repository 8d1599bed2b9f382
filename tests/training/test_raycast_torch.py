from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from animatic_training.world.attributes import PLACES, ShotAttributes, sample_attributes
from animatic_training.world.raycast import render
from animatic_training.world.raycast_torch import render_batch
from animatic_training.world.scene import build_scene

if TYPE_CHECKING:
    from animatic_training.world.scene import Scene

HEIGHT, WIDTH, FRAMES = 36, 64, 3


def random_scenes(count: int, *, frames: int = FRAMES) -> list[Scene]:
    rng = np.random.default_rng(3)
    return [build_scene(sample_attributes(rng), rng, frames) for _ in range(count)]


def test_the_picture_is_the_other_renderer_s() -> None:
    scenes = random_scenes(20)
    ours = render_batch(scenes, HEIGHT, WIDTH, "cpu")
    assert ours.shape == (20, FRAMES, HEIGHT, WIDTH, 3)
    theirs = np.stack([render(scene, HEIGHT, WIDTH) for scene in scenes])
    difference = np.abs(ours.numpy().astype(int) - theirs)
    assert difference.mean() < 0.5
    assert (difference.max(axis=-1) <= 3).mean() > 0.995


@pytest.mark.parametrize("place", range(len(PLACES)), ids=PLACES)
def test_every_place_is_drawn_alike(place: int) -> None:
    scene = build_scene(ShotAttributes(6, 0, place, 2, 1, 3, 1), np.random.default_rng(place), 1)
    ours = render_batch([scene], 18, 32, "cpu")[0].numpy()
    assert (np.abs(ours.astype(int) - render(scene, 18, 32)).max(axis=-1) <= 3).mean() > 0.99


@pytest.mark.parametrize("rays", [50, 18 * 32, 2 * 18 * 32 + 1, 1 << 20])
def test_chunks_do_not_change_the_picture(rays: int) -> None:
    """Fewer rays than a picture has, a picture at a time, two at a time, everything at once."""
    scenes = random_scenes(2, frames=2)
    whole = render_batch(scenes, 18, 32, "cpu", rays_per_chunk=3 * 18 * 32)
    parts = render_batch(scenes, 18, 32, "cpu", rays_per_chunk=rays)
    np.testing.assert_array_equal(parts.numpy(), whole.numpy())


def test_company_does_not_change_the_picture() -> None:
    """Scenes of a batch are padded to the solids of the largest; the padding is not seen."""
    scenes = random_scenes(4, frames=1)
    assert len({len(scene.kind) for scene in scenes}) > 1
    together = render_batch(scenes, 18, 32, "cpu").numpy()
    for scene, pixels in zip(scenes, together, strict=True):
        np.testing.assert_array_equal(render_batch([scene], 18, 32, "cpu")[0].numpy(), pixels)


def test_frame_counts_must_agree() -> None:
    scenes = [*random_scenes(1, frames=1), *random_scenes(1, frames=2)]
    with pytest.raises(ValueError, match=r"one number of frames, not \[1, 2\]"):
        render_batch(scenes, 18, 32, "cpu")
