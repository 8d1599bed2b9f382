"""Shots in torch see the windows that the runtime lays out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from animatic.bundle import Geometry, Size
from animatic.window import Layout
from animatic_export.blockout.window import WindowDenoiser
from animatic_training.config import BLOCK, CONTEXT, TEMPORAL_FACTOR
from animatic_training.score_shots import distances
from animatic_training.shots import Model, Shots
from animatic_training.windows import still_position
from tests.training.toy import WordEncoder, shake

if TYPE_CHECKING:
    from animatic_training.config import Config

SEED = 3
GEOMETRY = Geometry(
    spatial_factor=16,
    temporal_factor=TEMPORAL_FACTOR,
    latent_channels=8,
    sizes=(Size(width=64, height=32),),
    frame_counts=(13, 29),
    block_latent_frames=BLOCK,
    context_latent_frames=CONTEXT,
    native_fps="8/1",
    decoder_trim=3,
)


class Seen(WindowDenoiser):
    """Keeps the positions and timesteps that it is asked for."""

    positions: torch.Tensor
    timesteps: torch.Tensor

    def velocity(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        positions: torch.Tensor,
        text: torch.Tensor,
        prompt: torch.Tensor,
        text_mask: torch.Tensor | None,
        kept: torch.Tensor | None = None,
    ) -> torch.Tensor:
        self.timesteps, self.positions = timesteps, positions
        return super().velocity(latents, timesteps, positions, text, prompt, text_mask, kept)


@pytest.fixture
def seen(config: Config) -> Seen:
    made = Seen(config.window)
    shake(made)
    return made.eval()


def begin(config: Config, seen: Seen, guidance: float = 1.0) -> Shots:
    encoder = WordEncoder(config.text_max_tokens, torch.device("cpu"))
    model = Model(seen, (1.0, 0.625), guidance)
    return Shots(model, encoder, ["a red truck", "a blue ball"], (8, 2, 4), SEED)


def assert_laid_out(seen: Seen, layout: Layout, block: int) -> None:
    window = layout.window(block)
    np.testing.assert_allclose(seen.positions[0].numpy(), window.positions)
    np.testing.assert_allclose(seen.timesteps[:1].numpy(), window.timesteps(625.0))


def test_a_shot_begins_and_goes_on(config: Config, seen: Seen) -> None:
    shots = begin(config, seen)
    opening = shots.opening()
    assert opening.shape == (2, 8, 4, 2, 4)
    layout = Layout(GEOMETRY, 2 * BLOCK)
    assert_laid_out(seen, layout, 0)
    assert shots.further(opening).shape == opening.shape
    assert_laid_out(seen, layout, 1)


def test_a_loop_comes_back(config: Config, seen: Seen) -> None:
    shots = begin(config, seen)
    opening = shots.opening()
    shots.further(opening, opening[:, :, :1])
    assert_laid_out(seen, Layout(GEOMETRY, 2 * BLOCK, loops=True), 1)


def test_a_given_picture_is_the_first_latent(config: Config, seen: Seen) -> None:
    picture = torch.randn(2, 8, 1, 2, 4)
    made = begin(config, seen).opening(picture)
    assert torch.equal(made[:, :, :1], picture)
    assert_laid_out(seen, Layout(GEOMETRY, BLOCK, images=(0,)), 0)


def test_a_still_stands_beside_the_block(config: Config, seen: Seen) -> None:
    place = float(still_position(torch.tensor(8)))
    still = torch.randn(2, 8, 1, 2, 4)
    made = begin(config, seen).opening(still=(still, place))
    assert made.shape[2] == BLOCK
    assert_laid_out(seen, Layout(GEOMETRY, BLOCK, images=(8,)), 0)


def test_every_model_is_scored_on_the_same_noise(config: Config, seen: Seen) -> None:
    first, second = (begin(config, seen).opening() for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(begin(config, seen, guidance=3.0).opening(), first)


def test_a_seam_is_a_distance_of_neighbours() -> None:
    pixels = torch.zeros(1, 4, 2, 2, 3, dtype=torch.uint8)
    pixels[:, 2:] = 30
    assert distances(pixels).tolist() == [[0, 30, 0]]
