"""Decoders that stream and decoders that look ahead, small ones, and the noise that one wants."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from animatic.bundle import Bundle, LatentStats, SamplerSpec, Tier
from animatic.decoding import Decoded
from animatic.errors import BundleSchemaError, EngineError
from animatic.noise import NoiseStream
from animatic.pipeline import Pipeline, Progress
from animatic.shot import Shot
from tests.runtime.fake_model import (
    CONTEXT,
    DENOISER,
    LOOK_AHEAD,
    MEAN,
    SIGMAS,
    STD,
    TEXT_ENCODER,
    TINY_DECODER,
    VAE_DECODER,
    FakeModel,
    WordTokenizer,
    fake_bundle,
    tensor,
)

replace = msgspec.structs.replace
SHOT = Shot("a red cube", seed=3)
BOTH = (TEXT_ENCODER, DENOISER, VAE_DECODER, TINY_DECODER)
AHEAD = (TEXT_ENCODER, DENOISER, LOOK_AHEAD)


def noisy(share: float, **changes: Any) -> Bundle:
    stats = LatentStats(mean=MEAN, std=STD, decode_noise=share)
    return fake_bundle(latents=stats, **changes)


def test_one_that_looks_ahead_is_called_once(model: FakeModel) -> None:
    seen: list[Progress] = []
    frames = list(model.pipeline(fake_bundle(graphs=AHEAD)).generate(SHOT, on_progress=seen.append))
    assert [frame.index for frame in frames] == list(range(9))
    assert model.calls.count("vae_decoder") == 1
    assert model.raw[0].shape == (1, 2, 3, 2, 4)
    # The first three of twelve are dropped: one of the first latent frame, four of each other.
    greys = [frame.pixels[0, 0, 0] for frame in frames]
    assert len(set(greys[1:5])) == len(set(greys[5:9])) == 1
    assert seen[-1] == Progress(8, 8, "decode")
    assert [p.done for p in seen] == [1, 2, 3, 4, 5, 8]


def test_both_kinds_give_the_same_pictures(model: FakeModel) -> None:
    """But for what a streaming one does of call and frame: levels that are taken off here."""
    ahead = FakeModel().pipeline(fake_bundle(graphs=AHEAD)).clip(SHOT).astype(int)
    streamed = model.pipeline().clip(SHOT).astype(int)
    rising = [3, 0, 1, 2, 3, 0, 1, 2, 3]
    calls = [0, 1, 1, 1, 1, 2, 2, 2, 2]
    added = np.array([255 * place / 64 + call for place, call in zip(rising, calls, strict=True)])
    np.testing.assert_allclose(streamed - added.reshape(-1, 1, 1, 1), ahead, rtol=0, atol=1)


def test_one_that_looks_ahead_cannot_draw_blocks(model: FakeModel) -> None:
    with pytest.raises(BundleSchemaError, match=r"vae_decoder looks ahead, .* one by one; export"):
        model.pipeline(fake_bundle(graphs=AHEAD, conditioning=CONTEXT))
    two = (*BOTH[:3], replace(LOOK_AHEAD, role="tiny_decoder"))
    with pytest.raises(BundleSchemaError, match=r"tiny_decoder looks ahead"):
        model.pipeline(fake_bundle(graphs=two, conditioning=CONTEXT))


@pytest.mark.parametrize("shape", [("batch", 2, 2, "rows", "columns"), ("batch", 2)])
def test_one_that_takes_two_latent_frames(model: FakeModel, shape: tuple[int | str, ...]) -> None:
    wrong = replace(VAE_DECODER, inputs=(tensor("latents", "float32", *shape),), states=())
    with pytest.raises(BundleSchemaError, match="third axis is neither 1 nor dynamic; export"):
        model.pipeline(fake_bundle(graphs=(TEXT_ENCODER, DENOISER, wrong)))


def test_the_tiny_one_draws_where_there_is_one(model: FakeModel) -> None:
    pipeline = model.pipeline(fake_bundle(graphs=BOTH))
    tiny = pipeline.clip(SHOT)
    assert model.calls.count("tiny_decoder") == 3
    assert model.calls.count("vae_decoder") == 0
    full = pipeline.clip(Shot(SHOT.prompt, seed=3, decoder="vae_decoder"))
    assert model.calls.count("vae_decoder") == 3
    assert model.states == [0, 1, 2, 0, 1, 2]
    # The very same latents, an eighth darker.
    np.testing.assert_allclose(full.astype(int) - tiny, 255 / 8, rtol=0, atol=1)


def test_a_tier_says_which(model: FakeModel) -> None:
    size = fake_bundle().geometry.sizes[0]
    tiers = (
        Tier(name="preview", size=size, decoder="tiny_decoder"),
        Tier(name="final", size=size),
    )
    pipeline = model.pipeline(fake_bundle(graphs=BOTH, tiers=tiers))
    for tier, role in [("preview", "tiny_decoder"), ("final", "vae_decoder")]:
        model.calls.clear()
        pipeline.clip(Shot(SHOT.prompt, tier=tier))
        assert model.calls[-3:] == [role] * 3


def test_a_decoder_that_was_not_opened(model: FakeModel) -> None:
    bundle = fake_bundle(graphs=BOTH)
    opened = model.pipeline(bundle).bundle
    engines = model.engines(bundle)
    del engines["tiny_decoder"]
    pipeline = Pipeline(opened, WordTokenizer(), engines)
    with pytest.raises(EngineError, match=r"tiny_decoder .* was not opened .* the vae_decoder"):
        pipeline.generate(SHOT)
    assert len(pipeline.clip(Shot(SHOT.prompt, decoder="vae_decoder"))) == 9


def raw_noise(block: int, shape: tuple[int, ...]) -> np.ndarray:
    """The decoder's noise for a block of the shot, made raw."""
    mean, std = (np.array(v, np.float32).reshape(1, -1, 1, 1, 1) for v in (MEAN, STD))
    made: np.ndarray = NoiseStream(SHOT.seed).decode(block, shape) * std + mean
    return made


@pytest.mark.parametrize("graphs", [(TEXT_ENCODER, DENOISER, VAE_DECODER), AHEAD])
def test_decode_noise_by_hand(graphs: tuple[Any, ...]) -> None:
    clean, mixed = FakeModel(), FakeModel()
    clean.pipeline(noisy(0.0, graphs=graphs)).clip(SHOT)
    mixed.pipeline(noisy(0.025, graphs=graphs)).clip(SHOT)
    before, after = (np.concatenate(model.raw, axis=2) for model in (clean, mixed))
    # The noise is of the model's own latents, whose deviation is 1: it is made raw with them.
    noise = raw_noise(0, before.shape)
    np.testing.assert_allclose(after, 0.975 * before + 0.025 * noise, rtol=0, atol=1e-6)
    assert after.dtype == np.float32


def test_a_seed_still_means_one_clip() -> None:
    one, other = (FakeModel().pipeline(noisy(0.5)).clip(SHOT) for _ in range(2))
    np.testing.assert_array_equal(one, other)


def test_the_tiny_one_is_given_no_noise() -> None:
    clean, mixed = FakeModel(), FakeModel()
    clean.pipeline(noisy(0.0, graphs=BOTH)).clip(SHOT)
    mixed.pipeline(noisy(0.5, graphs=BOTH)).clip(SHOT)
    np.testing.assert_array_equal(np.stack(mixed.raw), np.stack(clean.raw))


def test_noise_of_each_block_is_its_own(model: FakeModel) -> None:
    sampler = SamplerSpec(kind="euler", sigmas=SIGMAS)
    bundle = noisy(1.0, conditioning=CONTEXT, sampler=sampler)
    model.pipeline(bundle).clip(Shot(SHOT.prompt, seed=3, frames=21))
    for block in range(2):
        raw = np.concatenate(model.raw[3 * block : 3 * block + 3], axis=2)
        np.testing.assert_array_equal(raw, raw_noise(block, raw.shape))


def test_pictures_come_one_by_one() -> None:
    """What a whole clip would be in float64 and uint8 at once does not fit beside a model."""
    frames = np.full((1, 3, 4, 2, 2), 0.5, dtype=np.float32)
    frames[0, :, 3] = np.nan
    pictures = Decoded(1, frames).pictures(1)
    for _ in range(2):
        np.testing.assert_array_equal(next(pictures), np.full((2, 2, 3), 128, dtype=np.uint8))
    with pytest.raises(EngineError, match="not numbers; try another seed"):
        next(pictures)
