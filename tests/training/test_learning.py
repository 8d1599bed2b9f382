"""What a training step looks at: some of the tokens, noise levels evenly, captions before all."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch import Tensor

from animatic_export.blockout.window import PAIR, WindowDenoiser
from animatic_training.batches import Batches
from animatic_training.objective import FlowObjective, cells_of, draw_level
from animatic_training.reading import encoded_captions, learn_to_read
from animatic_training.train_denoiser import draw_tokens
from animatic_training.windows import PATTERNS
from animatic_training.world.attributes import CLASSES
from tests.training.toy import WordEncoder, latent_set, shake

if TYPE_CHECKING:
    from animatic_training.config import Config

CPU = torch.device("cpu")
ROWS, COLUMNS, FRAMES = 2, 5, 3  # the last token of a row is half outside
TOKENS = ROWS * 3


@pytest.fixture
def denoiser(config: Config) -> WindowDenoiser:
    made = WindowDenoiser(config.window)
    shake(made)
    return made.eval()


def velocity(denoiser: WindowDenoiser, latents: Tensor, kept: Tensor | None) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    states = torch.randn(len(latents), 4, 384, generator=generator)
    # Where one half is noise and all directions vary alike, the linear estimate is nothing.
    times = torch.full(latents.shape[::2][:2], 500.0)
    places = torch.arange(FRAMES).float().expand_as(times)
    text, prompt = denoiser.read(states, None)
    return denoiser.velocity(latents, times, places, text, prompt, None, kept)


@torch.no_grad()
def test_all_tokens_in_any_order_are_the_whole_picture(denoiser: WindowDenoiser) -> None:
    latents = torch.randn(2, denoiser.config.latent_channels, FRAMES, ROWS, COLUMNS)
    kept = torch.stack([torch.randperm(TOKENS) for _ in range(FRAMES)])
    whole = velocity(denoiser, latents, None)
    torch.testing.assert_close(velocity(denoiser, latents, kept), whole, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_what_is_not_looked_at_is_neither_seen_nor_made(denoiser: WindowDenoiser) -> None:
    latents = torch.randn(2, denoiser.config.latent_channels, FRAMES, ROWS, COLUMNS)
    kept = torch.tensor([[0, 4], [1, 2], [3, 5]])
    shown = cells_of(kept, ROWS, COLUMNS)[:, None] > 0
    made = velocity(denoiser, latents, kept)
    assert torch.equal(made != 0, shown.expand_as(made))
    other = torch.where(shown, latents, 9.0)
    assert torch.equal(velocity(denoiser, other, kept), made)


def test_the_cells_of_a_token_are_a_pair() -> None:
    kept = torch.tensor([[0, 4], [1, 2], [3, 5]])
    cells = cells_of(kept, ROWS, COLUMNS)
    assert cells.shape == (1, FRAMES, ROWS, COLUMNS)
    assert cells[0, 0].tolist() == [[3, 3, 0, 0, 0], [0, 0, 3, 3, 0]]
    assert cells[0, 1].tolist() == [[0, 0, 3, 3, 3], [0, 0, 0, 0, 0]]
    assert cells[0, 2].tolist() == [[0, 0, 0, 0, 0], [3, 3, 0, 0, 3]]


def test_tokens_are_drawn_for_each_frame() -> None:
    latents = torch.zeros(2, 4, 40, ROWS, COLUMNS)
    assert draw_tokens(latents, 1.0) is None
    kept = draw_tokens(latents, 0.5)
    assert kept is not None
    assert kept.shape == (40, TOKENS // 2)
    assert (kept.diff(dim=1) > 0).all()
    assert kept.unique().tolist() == list(range(TOKENS))
    assert len(kept.unique(dim=0)) > 5


@torch.no_grad()
def test_the_loss_of_some_tokens_is_on_average_that_of_all(config: Config) -> None:
    """A fresh denoiser predicts 0: its error at a token is then the same whatever else is seen."""
    batches = Batches([latent_set(config)], WordEncoder(12, CPU))
    batch = batches.draw(np.random.default_rng(0), 4, PATTERNS["plain"])
    objective = FlowObjective(WindowDenoiser(config.window), 4.0)
    noise, level = torch.randn_like(batch.window.latents), torch.rand(4, 1)
    whole, _ = objective(batch, noise, level)
    frames, rows, columns = noise.shape[2:]
    halves = torch.arange(rows * columns // PAIR).expand(frames, -1).chunk(2, dim=1)
    parts = [objective(batch, noise, level, kept)[0] for kept in halves]
    assert parts[0] != parts[1]
    torch.testing.assert_close(sum(parts) / 2, whole)


def test_noise_levels_are_spread_evenly() -> None:
    torch.manual_seed(0)
    levels = draw_level(8, 1.0, CPU)
    assert levels.shape == (8, 1)
    # One in each eighth of the distribution, in no order.
    eighths = (8 * torch.special.ndtr(levels.logit())).floor().flatten()
    assert eighths.sort().values.tolist() == list(range(8))
    assert eighths.tolist() != list(range(8))
    assert (draw_level(8, 3.0, CPU).mean() > levels.mean()).all()
    many = torch.cat([draw_level(5, 1.0, CPU) for _ in range(400)]).logit()
    assert abs(float(many.mean())) < 0.05
    assert float(many.std()) == pytest.approx(1, abs=0.05)


def test_captions_of_new_shots_come_with_what_they_say() -> None:
    encoder = WordEncoder(20, CPU)
    states, mask, labels = encoded_captions(np.random.default_rng(0), encoder, 30)
    assert states.shape == (30, 20, 384)
    assert mask.shape == states.shape[:2]
    assert labels.shape == (30, len(CLASSES))
    assert len(labels.unique(dim=0)) > 25
    assert (states[mask].abs().sum(1) > 0).all()


def test_the_pool_learns_to_read_and_nothing_else_changes(config: Config) -> None:
    objective = FlowObjective(WindowDenoiser(config.window), 4.0)
    before = copy.deepcopy(objective.state_dict())
    encoder, seed = WordEncoder(24, CPU), config.data.seed
    states, mask, labels = encoded_captions(np.random.default_rng((seed, 5)), encoder, 64)

    def surprise() -> float:
        with torch.no_grad():
            _, prompt = objective.denoiser.read(states.float(), mask)
            return float(objective.reader(prompt, labels))

    at_first = surprise()
    learn_to_read(objective, encoder, config.reading, seed)
    assert surprise() < at_first - 0.3
    changed = {n for n, w in objective.state_dict().items() if not torch.equal(w, before[n])}
    learnt = {n for n in before if n.startswith(("denoiser.pool.", "reader."))}
    assert changed == learnt
