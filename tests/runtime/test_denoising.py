"""Guidance: two runs a step, and who may not have it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from animatic.bundle import Bundle, SamplerSpec, StatePair
from animatic.denoising import Denoiser, Words
from animatic.engine import FakeEngine
from animatic.errors import BundleSchemaError, ShotError
from animatic.shot import Shot
from tests.runtime.fake_model import (
    DENOISER,
    SIGMAS,
    TEXT_ENCODER,
    VAE_DECODER,
    FakeModel,
    WordTokenizer,
    fake_bundle,
    tensor,
)

if TYPE_CHECKING:
    from animatic.pipeline import Progress

replace = msgspec.structs.replace
GUIDED = SamplerSpec(kind="euler", sigmas=SIGMAS, guidance=5.0, negative_prompt="blurred dark")
SHOT = Shot("a red cube", seed=3)
COUNT = tensor("count", "float32", "batch")
COUNTING = replace(
    DENOISER,
    inputs=(*DENOISER.inputs, COUNT),
    outputs=(*DENOISER.outputs, replace(COUNT, name="next_count")),
    states=(StatePair(input="count", output="next_count"),),
)


@pytest.fixture
def guided() -> Bundle:
    return fake_bundle(sampler=GUIDED)


def states_of(prompt: str) -> float:
    """The mean of the states that the fake text encoder gives."""
    return float(WordTokenizer().encode(prompt).input_ids.mean()) / 1000


def test_velocity_by_hand() -> None:
    model = FakeModel()
    denoiser = Denoiser(FakeEngine(DENOISER, model.denoiser))
    x = np.random.default_rng(0).standard_normal((1, 2, 3, 2, 2)).astype(np.float32)
    wanted, unwanted = (
        {"text_states": np.full((1, 2, 384), value, dtype=np.float32)} for value in (0.5, -1)
    )
    timesteps = np.full((1, 3), 500, dtype=np.float32)
    positions = np.arange(3, dtype=np.float32)
    velocity = denoiser.velocity(x, timesteps, Words(wanted, unwanted, 3.0), 0, positions)
    first, second = model.velocities
    np.testing.assert_allclose(velocity, second + 3 * (first - second), rtol=0, atol=1e-5)
    # (x - 0.1 tanh x - text) / sigma: 1.5 apart over 0.5, so 3 apart; twice that beyond the first.
    np.testing.assert_allclose(velocity, first - 2 * 3, rtol=0, atol=1e-5)
    assert velocity.dtype == np.float32


def test_a_guided_clip_runs_twice_a_step(guided: Bundle, model: FakeModel) -> None:
    seen: list[Progress] = []
    frames = list(model.pipeline(guided).generate(SHOT, on_progress=seen.append))
    assert len(frames) == 9
    assert model.calls == [*["text_encoder"] * 2, *["denoiser"] * 8, *["vae_decoder"] * 3]
    wanted, unwanted = (states_of(text) for text in (SHOT.prompt, "blurred dark"))
    heard = [float(text.mean()) for text in model.texts]
    assert heard == pytest.approx([wanted, unwanted] * 4)
    # The two runs of a step see the same latents at the same level.
    for one, other in zip(model.latents[::2], model.latents[1::2], strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.timesteps[::2] == model.timesteps[1::2] == [1000, 937.5, 750, 500]
    # A step is one unit of work, however many runs it takes, and so is all of the text.
    assert [p.done for p in seen] == list(range(1, 9))
    assert {p.total for p in seen} == {1 + 4 + 3}


def test_guidance_of_one_is_none(guided: Bundle, model: FakeModel) -> None:
    plain = model.pipeline(guided).clip(replace_shot(guidance=1))
    assert model.calls.count("denoiser") == 4
    assert model.calls.count("text_encoder") == 1
    unguided = FakeModel()
    distilled = fake_bundle(sampler=replace(GUIDED, guidance=1.0))
    np.testing.assert_array_equal(unguided.pipeline(distilled).clip(SHOT), plain)


def replace_shot(**changes: Any) -> Shot:
    return Shot(**{"prompt": SHOT.prompt, "seed": SHOT.seed, **changes})


def test_weight_and_negative_prompt_change_the_clip(guided: Bundle) -> None:
    clips = [
        FakeModel().pipeline(guided).clip(shot)
        for shot in (
            SHOT,
            replace_shot(guidance=2),
            replace_shot(negative_prompt="bright"),
            replace_shot(guidance=5, negative_prompt="blurred dark"),
        )
    ]
    assert (clips[0] != clips[1]).any()
    assert (clips[0] != clips[2]).any()
    np.testing.assert_array_equal(clips[0], clips[3])


def test_both_prompts_are_kept_for_the_next_clip(guided: Bundle, model: FakeModel) -> None:
    pipeline = model.pipeline(guided)
    pipeline.clip(SHOT)
    pipeline.clip(replace_shot(seed=4))
    assert model.calls.count("text_encoder") == 2
    pipeline.clip(replace_shot(negative_prompt="bright"))
    assert model.calls.count("text_encoder") == 3


def test_a_prompt_that_is_its_own_negative(guided: Bundle, model: FakeModel) -> None:
    model.pipeline(guided).clip(replace_shot(negative_prompt=SHOT.prompt))
    assert model.calls.count("text_encoder") == 1
    assert model.calls.count("denoiser") == 8


def test_a_denoiser_with_a_state_is_not_guided(model: FakeModel) -> None:
    """Each of the two runs would move the state on."""
    graphs = (TEXT_ENCODER, COUNTING, VAE_DECODER)
    with pytest.raises(BundleSchemaError, match=r"keeps a state, which the two runs of guidance"):
        model.pipeline(fake_bundle(sampler=GUIDED, graphs=graphs))
    distilled = fake_bundle(graphs=graphs)
    with pytest.raises(ShotError, match="runs without guidance; leave it out"):
        model.pipeline(distilled).generate(replace_shot(guidance=3))
