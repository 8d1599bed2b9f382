"""Clips of many blocks: what a block is told of the ones before it, and what it costs."""

from __future__ import annotations

import dataclasses
import gc
import tracemalloc
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from animatic.blocks import Clip
from animatic.bundle import Bundle, SamplerSpec, Size, StatePair
from animatic.noise import NoiseStream
from animatic.shot import Shot
from tests.runtime.fake_model import (
    CONTEXT,
    POSITIONED,
    SIGMAS,
    TEXT_ENCODER,
    VAE_DECODER,
    FakeModel,
    fake_bundle,
    tensor,
)

if TYPE_CHECKING:
    from animatic.engine.protocol import Tensors
    from animatic.pipeline import Pipeline, Progress

replace = msgspec.structs.replace
CACHE = tensor("cache", "float32", "batch", 2, "rows", "columns")
CACHED = replace(
    POSITIONED,
    inputs=(*POSITIONED.inputs, CACHE),
    outputs=(*POSITIONED.outputs, replace(CACHE, name="next_cache")),
    states=(StatePair(input="cache", output="next_cache"),),
)
HANDED_ON = SamplerSpec(kind="renoise", sigmas=SIGMAS, context_timestep=0.0)
THREE_BLOCKS = Shot("a red cube", seed=3, frames=33)


def context_bundle(sampler: SamplerSpec = HANDED_ON) -> Bundle:
    return fake_bundle(
        conditioning=CONTEXT, sampler=sampler, graphs=(TEXT_ENCODER, CACHED, VAE_DECODER)
    )


class CausalModel(FakeModel):
    """Its denoiser adds the mean of the last frame that it saw before this block to the target."""

    def __init__(self) -> None:
        super().__init__()
        self.caches: list[float] = []

    def denoiser(self, inputs: Tensors) -> Tensors:
        outputs = super().denoiser(inputs)
        self.caches.append(float(inputs["cache"].mean()))
        return {**outputs, "next_cache": inputs["latents"][:, :, -1] + 0}

    def forget(self) -> None:
        """Drop all that was noted of the calls so far."""
        for notes in vars(self).values():
            notes.clear()


@pytest.fixture
def causal() -> CausalModel:
    return CausalModel()


def test_each_block_is_told_where_it_stands(causal: CausalModel) -> None:
    causal.pipeline(context_bundle()).clip(THREE_BLOCKS)
    assert causal.positions == [0] * 5 + [3] * 5 + [6] * 4


def test_a_block_is_handed_on_clean(causal: CausalModel) -> None:
    causal.pipeline(context_bundle()).clip(THREE_BLOCKS)
    levels = [1000, 937.5, 750, 500]
    assert causal.timesteps == [*levels, 0, *levels, 0, *levels]
    # What the extra run sees is what the decoder was given, and what the next block starts from.
    stats = context_bundle().latents
    mean = np.array(stats.mean, dtype=np.float32).reshape(1, -1, 1, 1, 1)
    std = np.array(stats.std, dtype=np.float32).reshape(1, -1, 1, 1, 1)
    for run, first_raw, next_run in [(4, 0, 5), (9, 3, 10)]:
        clean = causal.latents[run]
        raw = np.concatenate(causal.raw[first_raw : first_raw + 3], axis=2)
        np.testing.assert_array_equal(clean * std + mean, raw)
        assert causal.caches[next_run] == pytest.approx(clean[:, :, -1].mean())


def test_the_pictures_come_before_the_block_is_handed_on(causal: CausalModel) -> None:
    frames = causal.pipeline(context_bundle()).generate(THREE_BLOCKS)
    for _ in range(9):
        next(frames)
    assert causal.calls == ["text_encoder", *["denoiser"] * 4, *["vae_decoder"] * 3]
    next(frames)
    assert causal.calls[8:] == [*["denoiser"] * 5, "vae_decoder"]


def test_without_a_context_timestep_nothing_is_run_twice(causal: CausalModel) -> None:
    plain = SamplerSpec(kind="renoise", sigmas=SIGMAS)
    causal.pipeline(context_bundle(plain)).clip(THREE_BLOCKS)
    assert causal.calls.count("denoiser") == 12


def test_progress_counts_what_is_handed_on(causal: CausalModel) -> None:
    seen: list[Progress] = []
    list(causal.pipeline(context_bundle()).generate(THREE_BLOCKS, on_progress=seen.append))
    block = [*["denoise"] * 4, *["decode"] * 3]
    assert [p.stage for p in seen] == ["text", *block, "denoise", *block, "denoise", *block]
    assert [p.done for p in seen] == list(range(1, 25))
    assert {p.total for p in seen} == {24}


def test_every_block_has_noise_of_its_own(causal: CausalModel) -> None:
    causal.pipeline(context_bundle()).clip(THREE_BLOCKS)
    noise = NoiseStream(THREE_BLOCKS.seed)
    for block, run in enumerate([0, 5, 10]):
        np.testing.assert_array_equal(
            causal.latents[run], noise.initial(block, causal.latents[run].shape)
        )


def test_the_state_begins_anew_with_each_clip(causal: CausalModel) -> None:
    pipeline = causal.pipeline(context_bundle())
    first = pipeline.clip(THREE_BLOCKS)
    np.testing.assert_array_equal(pipeline.clip(THREE_BLOCKS), first)
    assert causal.caches[0] == causal.caches[14] == 0


def test_a_clip_has_one_frame_alone_however_many_blocks(causal: CausalModel) -> None:
    for blocks in (1, 2, 7):
        shot = Shot("a red cube", frames=9 + 12 * (blocks - 1))
        pipeline = causal.pipeline(context_bundle())
        assert sum(1 for _ in pipeline.generate(shot)) == shot.frames


def test_a_block_may_be_shorter_than_usual(causal: CausalModel) -> None:
    assert len(causal.pipeline(context_bundle()).clip(Shot("a red cube", frames=5))) == 5
    assert causal.latents[0].shape[2] == 2


def test_a_hundred_blocks_take_the_memory_of_one(causal: CausalModel) -> None:
    """Latents of a block are 3,072 bytes and its pictures 73,728: a leak of either would show."""
    one_step = SamplerSpec(kind="renoise", sigmas=(1.0,), context_timestep=0.0)
    shot = Shot("a red cube", frames=1197)
    bundle = context_bundle(one_step)
    large = replace(bundle.geometry, sizes=(Size(width=64, height=32),))
    frames = causal.pipeline(replace(bundle, geometry=large)).generate(shot)
    held: list[int] = []
    tracemalloc.start()
    try:
        for frame in frames:
            if frame.index % 12 == 8:  # the last of a block
                causal.forget()
                if frame.index // 12 in {9, 99}:
                    gc.collect()  # empties the interpreter's lists of free tuples too
                    held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    tenth, hundredth = held
    assert hundredth - tenth < 90 * 1000


def test_a_clip_that_is_no_whole_number_of_blocks_is_a_bug() -> None:
    plan = Shot("a red cube", frames=9).plan(context_bundle())
    four = dataclasses.replace(plan, latent_shape=plan.latent_shape._replace(frames=4))
    with pytest.raises(ValueError, match="4 latent frames are not a multiple of 3"):
        Clip(context_bundle(), four, lambda _: None)


def test_context_is_what_makes_a_clip_longer() -> None:
    model = FakeModel()
    pipeline: Pipeline = model.pipeline(fake_bundle(conditioning=CONTEXT))
    assert len(pipeline.clip(Shot("a red cube", seconds=4))) == 33
    assert model.calls.count("denoiser") == 12
