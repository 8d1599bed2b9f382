from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
import torch

from animatic_export.blockout.vae import VideoVae
from animatic_export.blockout.window import WindowDenoiser
from animatic_training import plan
from animatic_training.batches import Batches
from animatic_training.distill import METHODS
from animatic_training.learner import Learner
from animatic_training.objective import FlowObjective
from animatic_training.train_vae import VaeObjective, crop_latents
from animatic_training.windows import PATTERNS
from tests.training.toy import WordEncoder, latent_set

if TYPE_CHECKING:
    from animatic_training.config import Config

CPU = torch.device("cpu")


def by_hand(config: Config, batch: int, length: int) -> int:
    """Return the operations of a denoiser's forward pass, written out."""
    width, text, words = config.denoiser.width, 384, config.text_max_tokens
    queries, cells = config.denoiser.text_queries, 2 * config.vae.latent_channels
    rows, columns = config.sizes[0].grid
    tokens = rows * columns // 2
    seen = length * tokens
    block = 2 * seen * width * 12 * width  # qkv, proj, up and down
    block += 2 * words * text * 2 * width
    block += 2 * 2 * seen * (seen + words) * width  # scores and mixing
    pool = 2 * words * text * text + 2 * 2 * queries * words * text
    pool += 2 * (queries * text * width + width * width)
    frames = 2 * length * (256 * width + width * width + 6 * width * width + 2 * width * width)
    ends = 2 * 2 * seen * cells * width
    ends += 2 * 2 * 2 * seen * (cells // 2) ** 2  # to the latents' own directions and back
    places = 2 * tokens * 17 * width
    return batch * (config.denoiser.depth * block + pool + frames + ends) + places


@pytest.mark.parametrize("length", [1, 4, 7])
def test_a_forward_pass_counts_what_it_multiplies(config: Config, length: int) -> None:
    counted = plan.denoiser_operations(config, config.sizes[0], 3, length)
    assert counted == by_hand(config, 3, length)


def test_a_training_step_counts_what_torch_counts(config: Config) -> None:
    """Within 1 %: the plan leaves out the reader of attributes."""
    batches = Batches([latent_set(config)], WordEncoder(12, CPU))
    batch = batches.draw(np.random.default_rng(0), 4, PATTERNS["plain"])
    objective = FlowObjective(WindowDenoiser(config.window), 4.0)
    noise, level = torch.randn_like(batch.window.latents), torch.rand(4, 1)

    def step() -> None:
        flow, reading = objective(batch, noise, level)
        (flow + reading).backward()

    planned = plan.denoiser_operations(config, config.sizes[0], 4, 4, trained=True)
    assert planned == pytest.approx(plan.count(step), rel=0.01)


def test_a_step_of_the_vae_counts_what_torch_counts(config: Config) -> None:
    objective = VaeObjective(VideoVae(config.vae), 1e-4)
    settings = config.vae_training
    video = torch.rand(settings.batch, settings.frames, 3, settings.crop, settings.crop)
    noise = torch.randn(settings.batch, *crop_latents(config))

    def step() -> None:
        objective(video, noise, torch.zeros(()))[0].backward()

    assert plan.vae_operations(config) == plan.count(step)


def test_muon_counts_what_newton_schulz_multiplies() -> None:
    tall, kernel = torch.zeros(24, 8), torch.zeros(6, 4, 3, 3)  # a matrix of 6 x 36
    by_hand = sum(5 * (2 * (2 * m * m * n) + 2 * m**3) for m, n in ((8, 24), (6, 36)))
    assert plan.muon_operations([tall, kernel]) == by_hand


@pytest.mark.slow
@pytest.mark.parametrize("method", list(METHODS))
def test_a_step_of_distillation_counts_what_torch_counts(
    config: Config, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the optimisers. Within 10 %: the teacher reads its prompts once for many steps."""

    def step(learner: Learner, loss: torch.Tensor, rate: float) -> None:
        del rate
        learner.module.zero_grad()
        loss.backward()

    monkeypatch.setattr(Learner, "step", step)
    # One schedule, and of dmd its only step: what is drawn must not decide what is counted.
    sigmas = (1.0,) if method == "dmd" else (1.0, 0.625)
    alone = msgspec.structs.replace(config.distill, schedules=(sigmas,), schedule_shares=(1.0,))
    patterns = msgspec.structs.replace(
        config.train.patterns, plain=1.0, further=0.0, first=0.0, before=0.0, join=0.0
    )
    plain = msgspec.structs.replace(config.train, still_share=0.0, patterns=patterns)
    # Deep, so that the pool is a small part.
    deep = msgspec.structs.replace(config.denoiser, depth=6)
    config = msgspec.structs.replace(config, distill=alone, train=plain, denoiser=deep)
    batches = Batches([latent_set(config)], WordEncoder(12, CPU))
    batch = batches.draw(np.random.default_rng(0), config.distill.batch, PATTERNS["plain"])
    teacher = WindowDenoiser(config.window).requires_grad_(requires_grad=False)
    made = METHODS[method](config, teacher)
    counted = plan.count(lambda: made.step(batch, np.random.default_rng(0), 0, 1.0))
    assert plan.distillation_operations(config, method) == pytest.approx(counted, rel=0.1)


@pytest.mark.slow
def test_the_plan_is_a_table(config: Config) -> None:
    text = plan.describe(config, "perflow", 1e11)
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()}
    assert float(rows["stills"][1]) == 0.1
    operations, _, steps, seen, seconds = (float(x.replace(",", "")) for x in rows["stills"])
    assert seconds == pytest.approx(60 * config.train.still_minutes, abs=1)
    assert steps * operations * 1e9 / 1e11 == pytest.approx(seconds, rel=0.5)  # as it is rounded
    assert seen == pytest.approx(steps * config.train.still_batch, rel=0.01)
