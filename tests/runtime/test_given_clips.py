"""Shots that are given pictures and clips: what the denoiser and the decoder see, call by call."""

from __future__ import annotations

import gc
import tracemalloc
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from animatic.bundle import SamplerSpec, Size
from animatic.errors import EngineError
from animatic.noise import NoiseStream
from animatic.pipeline import Pipeline, Progress
from animatic.shot import Shot
from tests.runtime.fake_model import MEAN, SIGMAS, STD, WordTokenizer
from tests.runtime.windowed_model import (
    GEOMETRY,
    VAE_ENCODER,
    WindowedModel,
    latents_of,
    some_clip,
    windowed_bundle,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]

replace = msgspec.structs.replace
STEPS = len(SIGMAS)
ONE_STEP = SamplerSpec(kind="renoise", sigmas=(1.0,))
MADE = 1000.0
CLIP = some_clip(20)
AFTER = some_clip(20, seed=1)
STILL = some_clip(1, seed=2)[0]
STILL_2 = some_clip(1, seed=3)[0]


@pytest.fixture
def model() -> WindowedModel:
    return WindowedModel()


def made_raw(model: WindowedModel) -> Floats:
    """What the decoder was given, as the model's own latents, joined along the frames."""
    mean, std = (np.array(v, np.float32).reshape(1, -1, 1, 1, 1) for v in (MEAN, STD))
    latents: Floats = (np.concatenate(model.raw, axis=2) - mean) / std
    return latents


def held(picture: Pixels) -> Floats:
    return latents_of(np.repeat(picture[np.newaxis], 4, axis=0))


def ending(clip: Pixels) -> Floats:
    return latents_of(clip[-12:])[:, :, 1:]


def beginning(clip: Pixels) -> Floats:
    return latents_of(np.concatenate([*[clip[:1]] * 4, clip[:8]]))[:, :, 1:]


def close(actual: Floats, expected: Floats) -> None:
    """Equal but for the rounding of (x * std + mean - mean) / std in float32."""
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2e-6)


def test_words_alone(model: WindowedModel) -> None:
    clip = model.pipeline(windowed_bundle(ONE_STEP)).clip(Shot("a red cube", frames=45))
    assert len(clip) == 45
    assert [w.positions for w in model.windows] == [[0, 1, 2, 3], *[[1, 2, 3, 4, 5, 6]] * 2]
    assert [w.timesteps for w in model.windows] == [[MADE] * 4, *[[0, 0, *[MADE] * 4]] * 2]
    assert model.encoded == []
    made = made_raw(model)
    for block in (1, 2):
        close(model.windows[block].latents[:, :, :2], made[:, :, 4 * block - 2 : 4 * block])


def test_given_latents_stay_what_they_are_in_every_step(model: WindowedModel) -> None:
    model.pipeline(windowed_bundle()).clip(Shot("a red cube", frames=29))
    further = model.windows[STEPS:]
    for window, sigma in zip(further, SIGMAS, strict=True):
        assert window.timesteps == [0, 0, *[1000 * sigma] * 4]
        np.testing.assert_array_equal(window.latents[:, :, :2], further[0].latents[:, :, :2])


@pytest.mark.parametrize("image", [{}, {0: STILL}])
def test_noise_is_keyed_by_block(model: WindowedModel, image: dict[int, Pixels]) -> None:
    """And is the same for what is made, whether its first latent is given or not."""
    model.pipeline(windowed_bundle(ONE_STEP)).clip(Shot("x", seed=5, frames=29, images=image))
    noise = NoiseStream(5)
    shape = (1, 2, 4, 2, 4)
    first = len(image)
    first_block, second_block = (window.latents for window in model.windows)
    np.testing.assert_array_equal(first_block[:, :, first:], noise.initial(0, shape)[:, :, first:])
    np.testing.assert_array_equal(second_block[:, :, 2:], noise.initial(1, shape))


def test_fresh_noise_belongs_to_its_latents(model: WindowedModel) -> None:
    """With the first latent given, the others get the noise that they would have got anyway.

    Here a step's clean latents are a tenth of tanh(x), and a number that the words give; what is
    left without these and the noise is that number, to the rounding of float32.
    """
    sampler = SamplerSpec(kind="renoise", sigmas=(1.0, 0.5))
    shot = Shot("x", seed=5, frames=13, images={0: STILL})
    model.pipeline(windowed_bundle(sampler)).clip(shot)
    before, after = (window.latents[:, :, 1:] for window in model.windows)
    fresh = NoiseStream(5).fresh(0, 0, (1, 2, 4, 2, 4))[:, :, 1:]
    left = after - 0.5 * fresh - 0.5 * 0.1 * np.tanh(before)
    np.testing.assert_allclose(left, left.mean(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("given", [{}, {"before": CLIP}, {"loop": True}, {"images": {0: STILL}}])
def test_the_noise_for_the_decoder_is_keyed_by_block(
    model: WindowedModel, given: dict[str, Any]
) -> None:
    """A share of 1 leaves nothing but the noise, in the order in which blocks are shown."""
    bundle = windowed_bundle(ONE_STEP)
    noisy = replace(bundle, latents=replace(bundle.latents, decode_noise=1.0))
    model.pipeline(noisy).clip(Shot("x", seed=5, frames=45, **given))
    noise = NoiseStream(5)
    close(
        made_raw(model),
        np.concatenate([noise.decode(block, (1, 2, 4, 2, 4)) for block in range(3)], axis=2),
    )


def test_a_picture_for_the_first_frame(model: WindowedModel) -> None:
    shot = Shot("x", frames=13, images={0: STILL})
    model.pipeline(windowed_bundle()).clip(shot)
    np.testing.assert_array_equal(model.encoded[0][0, 1, 3], STILL[..., 1] / np.float32(255))
    assert model.encoded[0].shape == (1, 3, 4, 8, 16)
    for window, sigma in zip(model.windows, SIGMAS, strict=True):
        assert window.positions == [0, 1, 2, 3]
        assert window.timesteps == [0, *[1000 * sigma] * 3]
        np.testing.assert_array_equal(window.latents[:, :, :1], held(STILL))
    close(made_raw(model)[:, :, :1], held(STILL))


@pytest.mark.parametrize(
    ("frame", "block", "position"),
    [
        (1, 0, 0.625),
        (2, 0, 0.875),
        (4, 0, 1.375),
        (12, 0, 3.375),
        (13, 1, 2.625),  # the first of the second block, whose latents stand at 3 to 6
        (28, 1, 6.375),
        (-1, 1, 6.375),
        (-29 + 5, 0, 1.625),
    ],
)
def test_a_picture_for_another_frame(
    model: WindowedModel, frame: int, block: int, position: float
) -> None:
    shot = Shot("x", frames=29, images={frame: STILL})
    assert len(model.pipeline(windowed_bundle(ONE_STEP)).clip(shot)) == 29
    window, other = model.windows[block], model.windows[1 - block]
    assert window.positions[-1] == position
    assert window.timesteps[-2:] == [MADE, 0]
    np.testing.assert_array_equal(window.latents[:, :, -1:], held(STILL))
    assert len(window.positions) == 5 + 2 * block
    assert len(other.positions) == 6 - 2 * block
    if frame in {1, 2, 4, 12}:
        assert position == (frame + 1.5) / 4


def test_several_pictures(model: WindowedModel) -> None:
    images = {12: STILL_2, 0: STILL, 5: STILL_2, -1: STILL}
    model.pipeline(windowed_bundle(ONE_STEP)).clip(Shot("x", frames=29, images=images))
    first, second = model.windows
    assert first.positions == [0, 1, 2, 3, 1.625, 3.375]
    assert first.timesteps == [0, MADE, MADE, MADE, 0, 0]
    np.testing.assert_array_equal(first.latents[:, :, -1:], held(STILL_2))
    assert second.positions == [1, 2, 3, 4, 5, 6, 6.375]
    assert len(model.encoded) == 4


def test_a_shot_that_is_nothing_but_a_picture(model: WindowedModel) -> None:
    geometry = replace(GEOMETRY, frame_counts=(1,))
    shot = Shot("x", images={0: STILL})
    clip = model.pipeline(windowed_bundle(geometry=geometry)).clip(shot)
    assert len(clip) == 1
    close(made_raw(model), held(STILL))


def test_continuing_a_clip(model: WindowedModel) -> None:
    clip = model.pipeline(windowed_bundle(ONE_STEP)).clip(Shot("x", frames=32, continue_from=CLIP))
    assert len(clip) == 32
    np.testing.assert_array_equal(
        model.encoded[0][0], CLIP[-12:].transpose(3, 0, 1, 2) / np.float32(255)
    )
    first, second = model.windows
    assert first.positions == second.positions == [1, 2, 3, 4, 5, 6]
    assert first.timesteps == second.timesteps == [0, 0, *[MADE] * 4]
    np.testing.assert_array_equal(first.latents[:, :, :2], ending(CLIP))
    # The decoder goes on from the context, of which no frame is shown.
    made = made_raw(model)
    assert made.shape[2] == 2 + 8
    close(made[:, :, :2], ending(CLIP))
    close(second.latents[:, :, :2], made[:, :, 4:6])
    assert model.states == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_the_seam_is_what_the_decoder_gives_after_the_context(model: WindowedModel) -> None:
    clip = model.pipeline(windowed_bundle(ONE_STEP)).clip(Shot("x", frames=16, continue_from=CLIP))
    grey = model.raw[2][0, 0, 0] / 8 + 0.25 + 2 / 255  # the third call, and none is trimmed
    for place in range(4):
        shown = (grey + place / 64) * 255
        np.testing.assert_allclose(clip[place, ::4, ::4, 0], shown.clip(0, 255), atol=0.51)


@pytest.mark.parametrize("frames", [1, 3, 11, 12, 13])
def test_a_short_clip_is_padded_at_its_front(model: WindowedModel, frames: int) -> None:
    short = CLIP[:frames]
    model.pipeline(windowed_bundle(ONE_STEP)).clip(Shot("x", frames=16, continue_from=short))
    padded = np.concatenate([*[short[:1]] * 12, short])
    np.testing.assert_array_equal(model.windows[0].latents[:, :, :2], ending(padded))


def test_leading_to_a_clip(model: WindowedModel) -> None:
    clip = model.pipeline(windowed_bundle(ONE_STEP)).clip(Shot("x", seed=2, frames=45, before=CLIP))
    assert len(clip) == 45
    assert model.encoded[0].shape[2] == 12
    # From the last block to the first.
    assert [w.positions for w in model.windows] == [*[[1, 2, 3, 4, 5, 6]] * 2, [0, 1, 2, 3, 4, 5]]
    assert [w.timesteps for w in model.windows] == [[*[MADE] * 4, 0, 0]] * 3
    np.testing.assert_array_equal(model.windows[0].latents[:, :, 4:], beginning(CLIP))
    made = made_raw(model)
    assert made.shape[2] == 12
    close(model.windows[1].latents[:, :, 4:], made[:, :, 8:10])
    close(model.windows[2].latents[:, :, 4:], made[:, :, 4:6])
    noise = NoiseStream(2)
    for window, block in zip(model.windows, (2, 1, 0), strict=True):
        np.testing.assert_array_equal(
            window.latents[:, :, :4], noise.initial(block, (1, 2, 4, 2, 4))
        )


def test_leading_to_a_clip_in_less_than_a_block(model: WindowedModel) -> None:
    clip = model.pipeline(windowed_bundle(ONE_STEP)).clip(Shot("x", frames=5, before=CLIP))
    assert len(clip) == 5
    assert model.windows[0].positions == [0, 1, 2, 3]
    assert model.windows[0].timesteps == [MADE, MADE, 0, 0]


def test_joining_two_clips(model: WindowedModel) -> None:
    shot = Shot("x", frames=32, continue_from=CLIP, before=AFTER)
    assert len(model.pipeline(windowed_bundle(ONE_STEP)).clip(shot)) == 32
    first, last = model.windows
    assert first.positions == last.positions == [1, 2, 3, 4, 5, 6]
    assert first.timesteps == [0, 0, *[MADE] * 4]
    assert last.timesteps == [0, *[MADE] * 4, 0]
    np.testing.assert_array_equal(first.latents[:, :, :2], ending(CLIP))
    close(last.latents[:, :, :1], made_raw(model)[:, :, 5:6])
    np.testing.assert_array_equal(last.latents[:, :, 5:], beginning(AFTER)[:, :, :1])


def test_joining_two_clips_by_one_block(model: WindowedModel) -> None:
    shot = Shot("x", frames=16, continue_from=CLIP, before=AFTER)
    assert len(model.pipeline(windowed_bundle(ONE_STEP)).clip(shot)) == 16
    (only,) = model.windows
    assert only.timesteps == [0, *[MADE] * 4, 0]
    np.testing.assert_array_equal(only.latents[:, :, :1], ending(CLIP)[:, :, 1:])
    np.testing.assert_array_equal(only.latents[:, :, 5:], beginning(AFTER)[:, :, :1])
    assert made_raw(model).shape[2] == 2 + 4  # all of the context warms the decoder up


def test_a_loop(model: WindowedModel) -> None:
    clip = model.pipeline(windowed_bundle(ONE_STEP)).clip(Shot("x", frames=45, loop=True))
    assert len(clip) == 45
    first, second, last = model.windows
    assert first.timesteps == [MADE] * 4
    assert second.timesteps == [0, 0, *[MADE] * 4]
    assert last.timesteps == [0, *[MADE] * 4, 0]
    assert last.positions == [1, 2, 3, 4, 5, 6]
    # What comes after the last block is the beginning of this clip, as it was drawn.
    np.testing.assert_array_equal(last.latents[:, :, 5:], beginning(clip)[:, :, :1])
    close(last.latents[:, :, :1], made_raw(model)[:, :, 7:8])


def test_pictures_go_with_clips_and_loops(model: WindowedModel) -> None:
    pipeline = model.pipeline(windowed_bundle(ONE_STEP))
    images = {0: STILL, -1: STILL_2}
    pipeline.clip(Shot("x", frames=16, continue_from=CLIP, images=images))
    (window,) = model.windows
    # Frame 0 is no first frame here: it is one of the four of the latent frame at 3.
    assert window.positions == [1, 2, 3, 4, 5, 6, 2.625, 6.375]
    assert window.timesteps == [0, 0, *[MADE] * 4, 0, 0]
    model.forget()
    pipeline.clip(Shot("x", frames=29, loop=True, images=images))
    assert model.windows[0].timesteps == [0, MADE, MADE, MADE]
    assert model.windows[1].positions == [1, 2, 3, 4, 5, 6, 5.375]
    assert model.windows[1].timesteps == [0, *[MADE] * 4, 0, 0]
    model.forget()
    pipeline.clip(Shot("x", frames=13, before=CLIP, images=images))
    assert model.windows[0].positions == [0, 1, 2, 3, 4, 5, 3.375]
    assert model.windows[0].timesteps == [0, MADE, MADE, MADE, 0, 0, 0]


SHOTS = [
    (Shot("x", frames=29), 0),
    (Shot("x", frames=29, images={0: STILL, 20: STILL}), 2),
    (Shot("x", frames=32, continue_from=CLIP), 1),
    (Shot("x", frames=29, before=CLIP), 1),
    (Shot("x", frames=16, continue_from=CLIP, before=AFTER), 2),
    (Shot("x", frames=29, loop=True, images={0: STILL}), 2),
]


@pytest.mark.parametrize(("shot", "encoded"), SHOTS)
def test_progress_counts_every_unit_of_work(model: WindowedModel, shot: Shot, encoded: int) -> None:
    seen: list[Progress] = []
    list(model.pipeline(windowed_bundle()).generate(shot, on_progress=seen.append))
    assert [p.done for p in seen] == list(range(1, seen[-1].total + 1))
    assert {p.total for p in seen} == {seen[-1].total}
    stages = [p.stage for p in seen]
    assert stages.count("encode") == model.calls.count("vae_encoder") == encoded
    assert stages.count("denoise") == model.calls.count("denoiser")
    assert stages.count("decode") == model.calls.count("vae_decoder")


@pytest.mark.parametrize(("shot", "encoded"), SHOTS)
def test_a_shot_is_the_same_again(model: WindowedModel, shot: Shot, encoded: int) -> None:
    pipeline = model.pipeline(windowed_bundle())
    clip = pipeline.clip(shot)
    np.testing.assert_array_equal(pipeline.clip(shot), clip)
    assert len(model.encoded) == 2 * encoded


def test_what_is_given_changes_the_clip(model: WindowedModel) -> None:
    pipeline = model.pipeline(windowed_bundle())
    clips = [
        pipeline.clip(Shot("x", frames=16, continue_from=one, before=other))
        for one, other in [(CLIP, AFTER), (AFTER, AFTER), (CLIP, CLIP)]
    ]
    for index, clip in enumerate(clips):
        assert all((clip != other).any() for other in clips[:index])


def test_the_first_frame_arrives_before_the_second_block_is_made(model: WindowedModel) -> None:
    frames = model.pipeline(windowed_bundle(ONE_STEP)).generate(
        Shot("x", seconds=3600, continue_from=CLIP)
    )
    next(frames)
    assert model.calls == [
        "text_encoder",
        "vae_encoder",
        *["vae_decoder"] * 2,
        "denoiser",
        "vae_decoder",
    ]
    frames.close()


@pytest.mark.parametrize("given", [{}, {"continue_from": CLIP}, {"loop": True}])
def test_a_hundred_blocks_take_the_memory_of_one(
    model: WindowedModel, given: dict[str, Any]
) -> None:
    """Latents of a block are 4,096 bytes and its pictures 98,304: a leak of either would show."""
    frames = 1600 if "continue_from" in given else 1597
    large = replace(GEOMETRY, sizes=(Size(width=64, height=32),))
    pipeline = model.pipeline(windowed_bundle(ONE_STEP, geometry=large))
    pictures = pipeline.generate(Shot("x", frames=frames, **given))
    held: list[int] = []
    tracemalloc.start()
    try:
        for frame in pictures:
            blocks, rest = divmod(frame.index + 1 + 1600 - frames, 16)
            if not rest:
                model.forget()
                if blocks in {10, 100}:
                    gc.collect()  # empties the interpreter's lists of free tuples too
                    held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    tenth, hundredth = held
    assert hundredth - tenth < 90 * 1000


def test_an_encoder_that_was_not_opened(model: WindowedModel) -> None:
    bundle = windowed_bundle()
    engines = model.engines(bundle)
    del engines["vae_encoder"]
    pipeline = Pipeline(model.pipeline(bundle).bundle, WordTokenizer(), engines)
    assert len(pipeline.clip(Shot("x", frames=5))) == 5
    with pytest.raises(EngineError, match=r"vae_encoder .* was not opened with the rest; open it"):
        pipeline.generate(Shot("x", loop=True))


def test_an_encoder_of_another_shape() -> None:
    class Wrong(WindowedModel):
        def vae_encoder(self, inputs: dict[str, Floats]) -> dict[str, Floats]:
            return {"latents": super().vae_encoder(inputs)["latents"][:, :, :, :1]}

    with pytest.raises(EngineError, match=r"gave the shape \[1, 2, 1, 1, 4\] and bundle.json"):
        Wrong().pipeline(windowed_bundle()).clip(Shot("x", images={0: STILL}))


def test_an_encoder_that_gives_no_numbers() -> None:
    class Wrong(WindowedModel):
        def vae_encoder(self, inputs: dict[str, Floats]) -> dict[str, Floats]:
            return {"latents": super().vae_encoder(inputs)["latents"] * np.float32("nan")}

    with pytest.raises(EngineError, match="encoder gave values that are not numbers"):
        Wrong().pipeline(windowed_bundle()).clip(Shot("x", images={0: STILL}))


def test_a_model_without_an_encoder_still_goes_on(model: WindowedModel) -> None:
    """Windows need no encoder; only what is given does."""
    conditioning = replace(windowed_bundle().conditioning, keyframes=False)
    graphs = tuple(g for g in windowed_bundle().graphs if g != VAE_ENCODER)
    bundle = windowed_bundle(conditioning=conditioning, graphs=graphs)
    assert len(model.pipeline(bundle).clip(Shot("x", frames=29))) == 29
    assert model.windows[-1].positions == [1, 2, 3, 4, 5, 6]
