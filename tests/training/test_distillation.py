from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
import torch

from animatic_export.blockout.spectrum import Noisy, Spectrum
from animatic_export.blockout.window import WindowDenoiser
from animatic_training.batches import Batch, Batches
from animatic_training.distill import METHODS
from animatic_training.dmd import DistributionMatching
from animatic_training.perflow import PiecewiseFlow, lessons, teacher_levels, walk
from animatic_training.sampling import euler, guided, level_of, shifted_sigmas, start
from animatic_training.windows import PATTERNS
from tests.training.toy import WordEncoder, latent_set, read_toml, shake

if TYPE_CHECKING:
    from pathlib import Path

    from animatic_training.config import Config

FOUR = (1.0, 0.9375, 0.8333333333333334, 0.625)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Without guidance, so that a student can be equal to its teacher."""
    config = read_toml(tmp_path)
    plain = msgspec.structs.replace(config.distill, guidance=1.0)
    return msgspec.structs.replace(config, distill=plain)


@pytest.fixture
def teacher(config: Config) -> WindowDenoiser:
    torch.manual_seed(1)
    made = WindowDenoiser(config.window)
    shake(made)
    return made.eval().requires_grad_(requires_grad=False)


class NoEstimate(Spectrum):
    """What the network makes is the velocity."""

    def seen(self, latents: torch.Tensor, sigma: torch.Tensor) -> Noisy:
        noisy = super().seen(latents, sigma)
        nothing, one = torch.zeros_like(noisy.estimate), torch.ones_like(noisy.deviation)
        return noisy._replace(estimate=nothing, deviation=one)


@pytest.fixture
def straight(config: Config) -> WindowDenoiser:
    """A teacher whose velocity is the same everywhere: its paths are straight."""
    made = WindowDenoiser(config.window)
    made.spectrum = NoEstimate(config.window.latent_channels)
    with torch.no_grad():
        made.out.bias.copy_(torch.linspace(-1, 1, len(made.out.bias)))
    return made.eval().requires_grad_(requires_grad=False)


@pytest.fixture
def batch(config: Config) -> Batch:
    batches = Batches([latent_set(config)], WordEncoder(12, torch.device("cpu")))
    return batches.draw(np.random.default_rng(0), 4, PATTERNS["join"], (1,))


def given_of(batch: Batch) -> Any:
    return ~batch.window.made[0]


def test_what_is_given_stays_given_while_the_rest_is_made(
    teacher: WindowDenoiser, batch: Batch
) -> None:
    window = batch.window
    noise = torch.randn_like(window.latents)
    begun = start(window, noise)
    given = given_of(batch)
    assert torch.equal(begun[:, :, given], window.latents[:, :, given])
    assert torch.equal(begun[:, :, ~given], noise[:, :, ~given])
    ended = euler(guided(teacher, batch, 2.0), window, begun, [*FOUR, 0.0])
    assert torch.equal(ended[:, :, given], window.latents[:, :, given])
    assert (ended[:, :, ~given] - noise[:, :, ~given]).abs().min() > 0


def test_guidance_goes_from_no_prompt_past_the_prompt(
    teacher: WindowDenoiser, batch: Batch
) -> None:
    window = batch.window
    latents, sigma = torch.randn_like(window.latents), level_of(window, 0.5)

    def velocity(guidance: float) -> torch.Tensor:
        return guided(teacher, batch, guidance)(latents, sigma, window.positions)

    one, three, none = velocity(1.0), velocity(3.0), velocity(1e-6)
    # 1e-3: two passes of a batch of 8 in one case, one of 4 in the other.
    torch.testing.assert_close(three, none + 3 * (one - none), rtol=1e-3, atol=1e-3)
    assert (one - none).abs().max() > 1e-3


def test_noise_levels_of_a_teacher_are_shifted() -> None:
    assert shifted_sigmas(2, 2.0) == pytest.approx([1, 2 / 3])


def test_a_walk_passes_every_level_of_the_schedules() -> None:
    levels = teacher_levels(FOUR, [2, 2, 2, 4])
    assert len(levels) == 11
    assert levels == sorted(levels, reverse=True)
    assert set(FOUR) <= set(levels)
    assert levels[-1] == 0


def test_a_student_is_right_at_once_where_paths_are_straight(
    config: Config, straight: WindowDenoiser, batch: Batch
) -> None:
    """Up to rounding: a difference of places over a difference of levels of 0.2 at least."""
    method = PiecewiseFlow(config, straight)
    velocity = guided(straight, batch, 1.0)
    noise = torch.randn_like(batch.window.latents)
    places = walk(velocity, batch.window, noise, teacher_levels([1.0, 0.625], [1, 2]))
    taught = [lesson for own in config.distill.schedules for lesson in lessons(places, own)]
    assert len(taught) == 3
    assert all(method.loss(batch, lesson).item() < 1e-10 for lesson in taught)
    shake(method.student, seed=5)
    assert all(method.loss(batch, lesson).item() > 0.01 for lesson in taught)


def test_a_lesson_ends_where_the_teacher_lands(teacher: WindowDenoiser, batch: Batch) -> None:
    velocity = guided(teacher, batch, 1.0)
    noise = torch.randn_like(batch.window.latents)
    places = walk(velocity, batch.window, noise, teacher_levels(FOUR, [1, 1, 1, 2]))
    (lesson,) = lessons(places, (1.0,))
    torch.testing.assert_close(lesson.latents - lesson.velocity, places[0.0])
    given = given_of(batch)
    assert not lesson.velocity[:, :, given].any()


def test_distributions_that_agree_pull_nowhere(
    config: Config, teacher: WindowDenoiser, batch: Batch
) -> None:
    """The critic is the teacher until it has learnt: then nothing tells the clips apart.

    1e-10: networks that are trained and that are not round differently.
    """
    method = DistributionMatching(config, teacher)
    clip = method.make(batch, (1.0, 0.625), 1)
    assert method.student_loss(batch, clip).item() < 1e-10
    shake(method.critic, seed=5)
    loss = method.student_loss(batch, clip)
    assert loss.item() > 1e-4
    loss.backward()
    assert any(p.grad is not None and p.grad.any() for p in method.student.parameters())
    assert not any(p.grad is not None for p in method.critic.parameters())


def test_the_student_is_trained_on_clips_made_as_the_runtime_makes_them(
    config: Config, teacher: WindowDenoiser, batch: Batch
) -> None:
    method = DistributionMatching(config, teacher)
    torch.manual_seed(3)
    clip = method.make(batch, (1.0, 0.625), 1)
    torch.manual_seed(3)
    noise = torch.randn_like(batch.window.latents)
    sampled = euler(
        guided(method.student, batch, 1.0),
        batch.window,
        start(batch.window, noise),
        [1.0, 0.625, 0.0],
    )
    torch.testing.assert_close(clip.detach(), sampled)
    given = given_of(batch)
    assert torch.equal(clip[:, :, given], batch.window.latents[:, :, given])


def test_one_step_makes_what_one_velocity_leads_to(
    config: Config, straight: WindowDenoiser, batch: Batch
) -> None:
    """On straight paths every schedule makes the same clip."""
    method = DistributionMatching(config, straight)
    clips = []
    for schedule in ((1.0,), (1.0, 0.625), FOUR):
        torch.manual_seed(3)
        clips.append(method.make(batch, schedule, len(schedule) - 1))
    torch.testing.assert_close(clips[1], clips[0])
    torch.testing.assert_close(clips[2], clips[0])


@pytest.mark.parametrize("name", list(METHODS))
def test_a_step_moves_the_student_and_leaves_the_teacher(
    config: Config, teacher: WindowDenoiser, batch: Batch, name: str
) -> None:
    before = copy.deepcopy(teacher.state_dict())
    method = METHODS[name](config, teacher)
    figures = method.step(batch, np.random.default_rng(0), 0, 1.0)
    assert all(torch.isfinite(value) for value in figures.values())
    modules = method.modules()
    weight = "blocks.0.qkv.weight"
    assert not torch.equal(modules["student"].state_dict()[weight], before[weight])
    assert torch.equal(teacher.state_dict()[weight], before[weight])
