from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from animatic_training.world.attributes import PLACES, WEATHERS, sample_attributes
from animatic_training.world.raycast import render_with_mask
from animatic_training.world.raycast_torch import draw_stage, render_batch, tensors
from animatic_training.world.scene import build_scene
from animatic_training.world.stage import set_stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from animatic_training.world.attributes import ShotAttributes
    from animatic_training.world.scene import Scene

HEIGHT, WIDTH, FRAMES = 72, 128, 2


def a_scene(wanted: Callable[[ShotAttributes], bool], seed: int, frames: int = FRAMES) -> Scene:
    rng = np.random.default_rng(seed)
    while not wanted(attributes := sample_attributes(rng)):
        pass
    return build_scene(attributes, rng, frames)


def differing(scene: Scene, height: int, width: int) -> tuple[float, float]:
    """Shares of the pixels that differ by more than two levels, and of the mask's."""
    theirs, their_mask = render_with_mask(scene, height, width)
    ours, mask = render_batch([scene], height, width, "cpu", fine_share=1.0)
    assert ours.dtype == mask.dtype == torch.uint8
    difference = np.abs(ours[0].numpy().astype(int) - theirs).max(axis=-1)
    return float((difference > 2).mean()), float((mask[0].numpy() != their_mask).mean())


@pytest.mark.parametrize("place", PLACES)
def test_the_picture_is_the_other_renderer_s(place: str) -> None:
    """Rounding moves a ray across an edge now and then, at most at one pixel in 1000.

    Where two faces lie in one plane it decides which is seen: one pixel in 250 in all.
    """
    scene = a_scene(lambda shot: shot.name("place") == place, PLACES.index(place))
    pixels, mask = differing(scene, HEIGHT, WIDTH)
    assert pixels < 0.004
    assert mask < 0.001


@pytest.mark.parametrize("weather", WEATHERS)
def test_every_weather_is_drawn_alike(weather: str) -> None:
    scene = a_scene(lambda shot: shot.name("weather") == weather, 3)
    assert differing(scene, HEIGHT, WIDTH)[0] < 0.004


def test_company_does_not_change_the_picture() -> None:
    """Scenes of a batch are padded to the solids of the largest; the padding is not seen."""
    scenes = [
        a_scene(lambda shot, place=place: shot.name("place") == place, 4, frames=1)  # type: ignore[misc]
        for place in ("studio", "forest", "corridor")
    ]
    assert len({-(-len(scene.kind) // 16) for scene in scenes}) > 1
    pixels, mask = render_batch(scenes, 18, 32, "cpu")
    assert pixels.shape == (3, 1, 18, 32, 3)
    assert mask.shape == (3, 1, 18, 32)
    for index, scene in enumerate(scenes):
        alone, its_mask = render_batch([scene], 18, 32, "cpu")
        # Sums over more solids are grouped differently: a level at most.
        assert (alone[0].int() - pixels[index].int()).abs().max() <= 1
        assert torch.equal(its_mask[0], mask[index])


def test_pixels_that_the_share_leaves_out_are_counted() -> None:
    """At 9 x 16 nearly every pixel of a city is at an edge."""
    scene = a_scene(lambda shot: shot.name("place") == "city", 1)
    drawing = draw_stage(tensors(set_stage(scene, 9), 96, "cpu"), 9, 16, 36)
    assert drawing.left_out.shape == (FRAMES,)
    assert 0 < int(drawing.left_out.min()) <= int(drawing.left_out.max()) < 9 * 16 * 3 / 4


def test_frame_counts_must_agree() -> None:
    scenes = [a_scene(lambda _: True, 0, frames=frames) for frames in (1, 2)]
    with pytest.raises(ValueError, match=r"one number of frames, not \[1, 2\]"):
        render_batch(scenes, 18, 32, "cpu")


@pytest.mark.slow
def test_no_shape_depends_on_what_is_drawn() -> None:
    """Traced without values into one graph, another scene's drawing comes out of it."""
    scenes = [a_scene(lambda _: True, seed) for seed in (0, 1)]
    first, second = (tensors(set_stage(scene, 18), 96, "cpu") for scene in scenes)

    def draw(*stage: torch.Tensor) -> tuple[torch.Tensor, ...]:
        table, settings, falling, subject = stage
        return tuple(draw_stage((table, settings, falling, subject), 18, 32, 144))

    graph = make_fx(draw, tracing_mode="fake")(*first)
    for replayed, drawn in zip(graph(*second), draw(*second), strict=True):
        assert torch.equal(replayed, drawn)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own
def test_it_compiles_into_one_graph() -> None:
    scene = a_scene(lambda shot: shot.name("weather") == "rain", 5)
    eager, _ = render_batch([scene], 18, 32, "cpu")
    compiled, _ = render_batch([scene], 18, 32, "cpu", compiled=True)
    # Compiled arithmetic may fuse a product and a sum, which rounds once, not twice.
    assert ((eager.int() - compiled.int()).abs().amax(-1) > 2).float().mean() < 0.005
