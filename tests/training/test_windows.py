from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from animatic_training.batches import Batches
from animatic_training.windows import (
    OPENING,
    PATTERNS,
    STILL,
    Pattern,
    Window,
    begins,
    cut,
    draw_pattern,
    still_position,
)
from tests.training.toy import WordEncoder, latent_set

if TYPE_CHECKING:
    from animatic_training.config import Config
    from animatic_training.latents import LatentSet

ROWS = torch.tensor([0, 2, 5])


@pytest.fixture
def data(config: Config) -> LatentSet:
    return latent_set(config)


@pytest.mark.parametrize(
    ("pattern", "shape", "positions"),
    [
        (PATTERNS["plain"], "nnnn", [0, 1, 2, 3]),
        (PATTERNS["further"], "ggnnnn", [1, 2, 3, 4, 5, 6]),
        (PATTERNS["first"], "gnnn", [0, 1, 2, 3]),
        (PATTERNS["before"], "nnnngg", [1, 2, 3, 4, 5, 6]),
        (OPENING, "nnnngg", [0, 1, 2, 3, 4, 5]),
        (PATTERNS["join"], "gnnnng", [1, 2, 3, 4, 5, 6]),
        (STILL, "n", [0]),
    ],
)
def test_a_pattern_says_what_is_made_and_where(
    data: LatentSet, pattern: Pattern, shape: str, positions: list[int]
) -> None:
    window = cut(data, ROWS, pattern)
    assert window.made.tolist() == [[letter == "n" for letter in shape]] * len(ROWS)
    assert window.positions.tolist() == [positions] * len(ROWS)
    own = data.latents[ROWS][:, :, positions].float()
    assert torch.equal(window.latents, own)
    assert torch.equal(window.shares, data.shares[ROWS][:, positions])


def test_a_still_is_one_more_given_frame_at_its_own_place(data: LatentSet) -> None:
    window = cut(data, ROWS, PATTERNS["further"], (1, 0))
    assert window.made[0].tolist() == [False, False, True, True, True, True, False, False]
    assert torch.equal(window.latents[:, :, 6], data.stills[ROWS, 1].float())
    assert torch.equal(window.latents[:, :, 7], data.stills[ROWS, 0].float())
    assert window.positions[0, 6:].tolist() == [(20 + 1.5) / 4, (7 + 1.5) / 4]
    assert not window.shares[:, 6:].any()


def test_the_middle_of_a_latent_frames_pictures_is_its_place() -> None:
    """Latent frame 2 stands for frames 5 to 8."""
    assert still_position(torch.tensor([5.0, 6, 7, 8])).mean() == 2


def test_given_frames_stay_exactly_as_they_are(data: LatentSet) -> None:
    window = cut(data, ROWS, PATTERNS["join"], (0,))
    sigma = window.sigma(torch.full((len(ROWS), 1), 0.7))
    assert sigma[0].tolist() == pytest.approx([0, 0.7, 0.7, 0.7, 0.7, 0, 0])
    noise = torch.randn_like(window.latents)
    noisy = window.noised(noise, sigma)
    given = [0, 5, 6]
    assert torch.equal(noisy[:, :, given], window.latents[:, :, given])
    made = 0.3 * window.latents[:, :, 1:5] + 0.7 * noise[:, :, 1:5]
    torch.testing.assert_close(noisy[:, :, 1:5], made)
    kept = window.keep(noise)
    assert torch.equal(kept[:, :, given], window.latents[:, :, given])
    assert torch.equal(kept[:, :, 1:5], noise[:, :, 1:5])


def test_only_pieces_that_begin_their_shot_have_position_0(config: Config, data: LatentSet) -> None:
    assert (data.starts[begins(data)] == 0).all()
    batches = Batches([data], WordEncoder(config.text_max_tokens, torch.device("cpu")))
    latents = data.latents.float()
    for pattern in (*PATTERNS.values(), OPENING):
        window = batches.draw(np.random.default_rng(3), 16, pattern).window
        rows = [_row_of(latents, window, n) for n in range(16)]
        assert not pattern.begins or (data.starts[rows] == 0).all()
        assert pattern.begins or (data.starts[rows] > 0).any()


def _row_of(latents: torch.Tensor, window: Window, n: int) -> int:
    place = int(window.positions[n, 0])
    return int((latents[:, :, place] - window.latents[n, :, 0]).abs().sum((1, 2, 3)).argmin())


def test_patterns_come_as_often_as_they_should() -> None:
    """1,000 draws: three standard deviations of a share of a half are 0.05."""
    shares = {"plain": 1.0, "before": 1.0}
    rng = np.random.default_rng(0)
    drawn = [draw_pattern(rng, shares, 0.3) for _ in range(1000)]
    patterns = [pattern for pattern, _ in drawn]
    assert patterns.count(PATTERNS["plain"]) == pytest.approx(500, abs=50)
    assert patterns.count(OPENING) == pytest.approx(250, abs=45)
    assert sum(bool(stills) for _, stills in drawn) == pytest.approx(300, abs=45)
    alone = {(pattern.begins, stills) for pattern, stills in drawn if len(stills) == 1}
    assert alone == {(True, (0,)), (False, (1,))}


def test_a_batch_is_its_stream_and_views_share_a_caption(config: Config, data: LatentSet) -> None:
    encoder = WordEncoder(config.text_max_tokens, torch.device("cpu"))
    batches = Batches([data, latent_set(config, 7)], encoder, text_dropout=0.5)
    drawn = [
        batches.draw(np.random.default_rng(4), 8, PATTERNS["further"], (0,), views=2)
        for _ in range(2)
    ]
    assert torch.equal(drawn[0].window.latents, drawn[1].window.latents)
    assert torch.equal(drawn[0].states, drawn[1].states)
    assert torch.equal(drawn[0].states[::2], drawn[0].states[1::2])
    assert torch.equal(drawn[0].labels[::2], drawn[0].labels[1::2])
    nothing, mask = encoder([""])
    dropped = [torch.equal(states, nothing[0]) for states in drawn[0].states]
    assert 0 < sum(dropped) < 8
    assert torch.equal(drawn[0].free[0], nothing.expand(8, -1, -1))
    assert torch.equal(drawn[0].free[1], mask.expand(8, -1))
