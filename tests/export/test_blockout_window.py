"""What Blockout's second networks promise, asked of the modules themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
import torch
from torch import Tensor

from animatic_export.blockout.window_graphs import (
    WINDOWS,
    DecoderGraph,
    EncoderGraph,
    state_channels,
    window_inputs,
)
from animatic_export.typed import typed_module
from tests.export.toy import VAE
from tests.export.window_toy import WINDOW, toy_denoiser, toy_vae

if TYPE_CHECKING:
    from animatic_export.blockout.window import WindowDenoiser

NEAR = 1e-4
"""Sums of float32 products in another order; the values compared are about 1."""
FELT = 20 * NEAR
"""A difference that is one."""


@pytest.fixture(scope="module")
def denoiser() -> WindowDenoiser:
    return toy_denoiser()


def off(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())


@pytest.mark.parametrize("window", WINDOWS)
def test_every_window_gives_a_velocity_of_its_own_shape(
    denoiser: WindowDenoiser, window: tuple[int, int, int]
) -> None:
    inputs = window_inputs(WINDOW, *window)
    velocity = denoiser(*inputs)
    assert velocity.shape == inputs[0].shape
    assert velocity.isfinite().all()
    assert velocity.std() > 0.1


def test_the_network_is_the_one_that_was_trained(denoiser: WindowDenoiser) -> None:
    """Golden values, of a still in a window of an odd number of columns.

    Weights are for one way to tell a token its place and to turn its query and key; another one
    fits them as well and draws nonsense, and nothing else here would know.
    """
    velocity = denoiser(*window_inputs(WINDOW, 7, 2, 5))
    wanted = [0.32385, -0.99410, 3.56568, -2.94554, 5.42493, -0.65689, 2.46539, 0.81807]
    assert off(velocity[0, :, 6, 1, 4], torch.tensor(wanted)) < NEAR


@pytest.mark.parametrize("columns", [6, 7])
def test_a_token_is_two_cells_of_a_row_in_their_order(columns: int) -> None:
    """Without blocks a token knows itself alone, so a cell moves its own pair and no other."""
    denoiser = toy_denoiser(msgspec.structs.replace(WINDOW, depth=0))
    latents, *others = window_inputs(WINDOW, 3, 2, columns)
    before = denoiser(latents, *others)
    for column in range(columns):
        changed = latents.clone()
        changed[0, 0, 1, 1, column] += 1
        moved = (denoiser(changed, *others) != before).any(dim=1)[0].nonzero().tolist()
        first = column - column % 2
        pair = [[1, 1, each] for each in (first, first + 1) if each < columns]
        assert moved == pair


def test_what_is_given_changes_what_is_made(denoiser: WindowDenoiser) -> None:
    """A context before, a frame to come, a still: each is seen by the frames being made."""
    latents, timesteps, positions, text = window_inputs(WINDOW, 7, 3, 4)
    timesteps = torch.tensor([[0.0, 0.0, 900.0, 900.0, 900.0, 0.0, 0.0]])
    before = denoiser(latents, timesteps, positions, text)[:, :, 2:5]
    for given in (0, 1, 5, 6):
        changed = latents.clone()
        changed[:, :, given] += 1
        made = denoiser(changed, timesteps, positions, text)[:, :, 2:5]
        assert off(made, before) > FELT


def test_given_frames_are_told_by_their_timesteps_alone(denoiser: WindowDenoiser) -> None:
    latents, timesteps, *others = window_inputs(WINDOW, 5, 3, 4)
    made = denoiser(latents, timesteps, *others)
    assert timesteps[0].tolist() == [937.5] * 4 + [0]
    assert off(denoiser(latents, torch.full_like(timesteps, 937.5), *others), made) > FELT
    # At a given frame stands no zero: whoever samples must leave such frames as they are.
    assert made[:, :, 4].abs().mean() > 0.1


def test_the_velocity_at_given_frames_reaches_no_frame_that_is_made(
    denoiser: WindowDenoiser,
) -> None:
    """The last layer serves each frame for itself: other weights for one change no other."""
    inputs = window_inputs(WINDOW, 5, 3, 4)
    wanted = denoiser(*inputs)

    def spoil(_module: object, _inputs: object, made: Tensor) -> Tensor:
        made = made.clone()
        made[:, 4] = torch.nan
        return made

    handle = denoiser.out.register_forward_hook(spoil)
    try:
        made = denoiser(*inputs)
    finally:
        handle.remove()
    assert made[:, :, 4].isnan().all()
    assert torch.equal(made[:, :, :4], wanted[:, :, :4])


def test_a_window_is_a_set_of_frames_at_positions(denoiser: WindowDenoiser) -> None:
    """Where a frame stands among the others means nothing: a still may come first or last."""
    latents, timesteps, positions, text = window_inputs(WINDOW, 7, 3, 4)
    order = torch.tensor([6, 4, 0, 1, 2, 3, 5])
    made = denoiser(latents[:, :, order], timesteps[:, order], positions[:, order], text)
    wanted = denoiser(latents, timesteps, positions, text)[:, :, order]
    assert off(made, wanted) < NEAR


def test_the_frame_at_position_0_is_marked_as_the_shots_beginning(
    denoiser: WindowDenoiser,
) -> None:
    latents, timesteps, _, text = window_inputs(WINDOW, 4, 3, 4)
    plain = toy_denoiser()
    plain.begin.zero_()
    first, inside, late = (torch.arange(4.0)[None] + start for start in (0, 1, 5))
    made = denoiser(latents, timesteps, inside, text)
    assert torch.equal(plain(latents, timesteps, inside, text), made)
    begun = denoiser(latents, timesteps, first, text)
    assert off(plain(latents, timesteps, first, text), begun) > FELT
    assert off(begun, made) > FELT
    assert off(denoiser(latents, timesteps, late, text), made) > FELT


def test_a_padded_prompt_is_read_as_if_it_were_alone(denoiser: WindowDenoiser) -> None:
    latents, timesteps, positions, text = window_inputs(WINDOW, 4, 3, 4, batch=2, tokens=9)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 5:] = False
    made = denoiser(latents, timesteps, positions, text, mask)
    alone = denoiser(latents[1:], timesteps[1:], positions[1:], text[1:, :5])
    assert off(made[1:], alone) < NEAR
    unmasked = denoiser(latents, timesteps, positions, text)
    assert off(made[:1], unmasked[:1]) < NEAR
    assert off(made[1:], unmasked[1:]) > FELT


def test_half_precision_stays_near() -> None:
    """Weights and tokens in float16, eleven bits: a thousandth of relative error and some more."""
    denoiser = toy_denoiser()
    half = typed_module(denoiser, torch.float16)
    types = {name: parameter.dtype for name, parameter in half.named_parameters()}
    assert types["place.weight"] == types["time.0.weight"] == torch.float32
    assert types["embed.weight"] == types["blocks.1.down.weight"] == torch.float16
    inputs = window_inputs(WINDOW, 7, 8, 19)
    wanted, made = denoiser(*inputs), half(*inputs)
    assert made.dtype == torch.float32
    assert float((made - wanted).norm() / wanted.norm()) < 5e-3


def test_the_decoder_streams_what_the_vae_decodes_at_once() -> None:
    vae = toy_vae()
    graph = DecoderGraph(vae.decoder, VAE.temporal_factor)
    raw = torch.randn(1, VAE.latent_channels, 3, 2, 5)
    wanted = vae.decode(raw).clamp(0, 1)[0]
    states = tuple(torch.zeros(1, count, 2, 5) for count in state_channels(vae.decoder))
    frames = []
    for place in range(3):
        made, *left = graph(raw[:, :, place : place + 1], *states)
        assert [state.shape for state in left] == [state.shape for state in states]
        states = tuple(left)
        frames.append(made[0].transpose(0, 1))
    assert off(torch.cat(frames)[VAE.temporal_factor - 1 :], wanted) < NEAR


def test_the_encoder_gives_the_vaes_means() -> None:
    vae = toy_vae()
    graph = EncoderGraph(vae.encoder, VAE)
    video = torch.rand(2, 9, 3, 32, 48)
    wanted, _ = vae.encode(video)
    first = video[:, :1].expand(-1, 3, -1, -1, -1)
    made = graph(torch.cat([first, video], dim=1).transpose(1, 2))
    assert made.shape == (2, VAE.latent_channels, 3, 2, 3)
    assert off(made, wanted) < NEAR
    still = graph(video[:, 4:5].transpose(1, 2).expand(-1, -1, 4, -1, -1))
    assert off(still, vae.encode(video[:, 4:5])[0]) < NEAR
