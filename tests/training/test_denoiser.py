from __future__ import annotations

import pytest
import torch
from torch import Tensor

from animatic_export.blockout.config import DenoiserConfig
from animatic_export.blockout.denoiser import Denoiser, timestep_embedding
from tests.training.toy import assert_near, shake

BATCH, CHANNELS, FRAMES, ROWS, COLUMNS, TOKENS = 2, 8, 3, 2, 4, 7
CONFIG = DenoiserConfig(
    latent_channels=CHANNELS,
    frames=FRAMES,
    rows=ROWS,
    columns=COLUMNS,
    width=32,
    depth=2,
    heads=4,
    text_width=384,
    text_queries=3,
)


@pytest.fixture
def denoiser() -> Denoiser:
    """A denoiser whose every branch is awake."""
    made = Denoiser(CONFIG)
    shake(made)
    return made.eval()


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Latents, timesteps and text states."""
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(BATCH, CHANNELS, FRAMES, ROWS, COLUMNS, generator=generator),
        torch.full((BATCH, FRAMES), 600.0),
        torch.randn(BATCH, TOKENS, 384, generator=generator),
    )


def test_a_fresh_denoiser_predicts_no_velocity(inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    assert not Denoiser(CONFIG)(*inputs).any()


@torch.no_grad()
def test_the_velocity_has_the_latents_shape(
    denoiser: Denoiser, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    velocity = denoiser(*inputs)
    assert velocity.shape == inputs[0].shape
    assert torch.isfinite(velocity).all()
    assert velocity.std() > 0.1


@torch.no_grad()
def test_padding_is_not_seen(denoiser: Denoiser, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, timesteps, states = inputs
    mask = torch.ones(BATCH, TOKENS + 4, dtype=torch.bool)
    mask[:, TOKENS:] = False
    padded = torch.cat([states, 50 * torch.randn(BATCH, 4, 384)], dim=1)
    velocity = denoiser(latents, timesteps, padded, mask)
    assert_near(velocity, denoiser(latents, timesteps, states))
    everything = denoiser(latents, timesteps, padded)
    assert (everything - velocity).abs().max() > 0.01


@torch.no_grad()
def test_clips_of_a_batch_do_not_see_each_other(
    denoiser: Denoiser, inputs: tuple[Tensor, Tensor, Tensor]
) -> None:
    mask = torch.ones(BATCH, TOKENS, dtype=torch.bool)
    mask[0, 4:] = False
    together = denoiser(*inputs, mask)
    for n in range(BATCH):
        alone = denoiser(*(part[n : n + 1] for part in inputs), mask[n : n + 1])
        assert_near(together[n : n + 1], alone)


@torch.no_grad()
@pytest.mark.parametrize("frame", range(FRAMES))
def test_each_frame_has_a_timestep_of_its_own(
    denoiser: Denoiser, inputs: tuple[Tensor, Tensor, Tensor], frame: int
) -> None:
    latents, timesteps, states = inputs
    own = timesteps.clone()
    own[:, frame] = 0
    change = (denoiser(latents, own, states) - denoiser(latents, timesteps, states)).abs()
    by_frame = change.mean((0, 1, 3, 4))
    assert by_frame.argmax() == frame
    assert (by_frame > 0).all()  # the others attend to it


@torch.no_grad()
@pytest.mark.parametrize("masked", [False, True])
def test_reading_the_prompt_once_changes_nothing(
    denoiser: Denoiser, inputs: tuple[Tensor, Tensor, Tensor], *, masked: bool
) -> None:
    latents, timesteps, states = inputs
    mask = (torch.arange(TOKENS) < 5).expand(BATCH, -1) if masked else None
    text, prompt = denoiser.read(states, mask)
    assert text.shape == states.shape
    assert prompt.shape == (BATCH, CONFIG.width)
    velocity = denoiser.velocity(latents, timesteps, text, prompt, mask)
    torch.testing.assert_close(velocity, denoiser(latents, timesteps, states, mask))


@torch.no_grad()
def test_the_prompt_matters(denoiser: Denoiser, inputs: tuple[Tensor, Tensor, Tensor]) -> None:
    latents, timesteps, states = inputs
    other = denoiser(latents, timesteps, states.flip(0))
    assert (other - denoiser(latents, timesteps, states)).abs().max() > 0.01


def test_timesteps_are_told_apart() -> None:
    embedded = timestep_embedding(torch.tensor([[0.0, 1.0, 999.0, 1000.0]]))
    assert embedded.shape == (1, 4, 256)
    assert embedded.abs().max() <= 1
    assert torch.pdist(embedded[0]).min() > 0.5
