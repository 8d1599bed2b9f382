"""The way of a shot on fake engines, in milliseconds."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from animatic import __version__
from animatic.bundle import Bundle, Conditioning, FileRef, LatentStats, Role, StatePair
from animatic.engine import FakeEngine
from animatic.engine.choice import Choice
from animatic.errors import BundleSchemaError, EngineError, ShotError
from animatic.pipeline import Pipeline, Progress
from animatic.shot import Shot
from tests.runtime.fake_model import (
    DENOISER,
    FACTOR,
    MEAN,
    STD,
    TEXT_ENCODER,
    VAE_DECODER,
    ZEROS,
    FakeModel,
    WordTokenizer,
    fake_bundle,
    tensor,
)

if TYPE_CHECKING:
    from animatic.engine.choice import TextDevice
    from animatic.engine.protocol import Tensors

replace = msgspec.structs.replace
SHOT = Shot("a red cube", seed=3)
TEXT_MEAN = WordTokenizer().encode(SHOT.prompt).input_ids.mean() / 1000


def test_frames_come_in_order(pipeline: Pipeline) -> None:
    frames = list(pipeline.generate(SHOT))
    assert [frame.index for frame in frames] == list(range(9))
    assert [frame.time for frame in frames] == [Fraction(index, 8) for index in range(9)]
    for frame in frames:
        assert frame.pixels.shape == (8, 16, 3)
        assert frame.pixels.dtype == np.uint8
        assert frame.pixels.flags.c_contiguous


def test_frames_are_conformed_to_the_delivery_rate(pipeline: Pipeline) -> None:
    native = list(pipeline.generate(SHOT))
    shot = Shot("a red cube", seed=3, fps=Fraction(24000, 1001))
    conformed = list(pipeline.generate(shot))
    assert [frame.time for frame in conformed] == [Fraction(i * 1001, 24000) for i in range(9)]
    for one, other in zip(native, conformed, strict=True):
        np.testing.assert_array_equal(one.pixels, other.pixels)


@pytest.mark.parametrize(("frames", "calls"), [(9, 3), (5, 2)])
def test_the_first_frames_of_the_decoder_are_trimmed(
    pipeline: Pipeline, model: FakeModel, frames: int, calls: int
) -> None:
    clip = pipeline.clip(Shot("a red cube", seed=3, frames=frames))
    assert clip.shape == (frames, 8, 16, 3)
    assert model.calls.count("vae_decoder") == calls
    # Within a call each frame is 4 levels (1/64) brighter: one frame is left of the first call.
    steps = np.diff(clip[:, 0, 0, 0].astype(int))
    for start in range(1, frames, FACTOR):
        assert ((steps[start : start + FACTOR - 1] - 4) ** 2 <= 1).all()


def test_calls_and_values(pipeline: Pipeline, model: FakeModel) -> None:
    clip = pipeline.clip(SHOT)
    assert model.calls == ["text_encoder", *["denoiser"] * 4, *["vae_decoder"] * 3]
    assert model.timesteps == [1000, 937.5, 750, 500]
    assert model.states == [0, 1, 2]
    assert model.latents[0].shape == (1, 2, 3, 2, 4)
    # By hand: the last step lands on the target, the decoder takes it with mean and std.
    target = np.tanh(model.latents[-1]) * 0.1 + TEXT_MEAN
    grey = (target[0, 0] * STD[0] + MEAN[0]) / 8 + 0.25
    for latent_frame, (frame, place) in enumerate([(0, 3), (1, 0), (5, 0)]):
        expected = (grey[latent_frame] + latent_frame / 255 + place / 64) * 255
        np.testing.assert_allclose(clip[frame, ::FACTOR, ::FACTOR, 1], expected, atol=0.51)


def test_the_first_frame_arrives_before_the_rest_is_decoded(
    pipeline: Pipeline, model: FakeModel
) -> None:
    frames = pipeline.generate(SHOT)
    assert model.calls == []
    next(frames)
    assert model.calls.count("vae_decoder") == 1
    for _ in range(4):
        next(frames)
    assert model.calls.count("vae_decoder") == 2
    next(frames)
    assert model.calls.count("vae_decoder") == 3


def test_closing_stops_the_work_and_forgets_the_state(pipeline: Pipeline, model: FakeModel) -> None:
    undisturbed = pipeline.clip(SHOT)
    frames = pipeline.generate(SHOT)
    next(frames)
    model.calls.clear()
    model.states.clear()
    frames.close()
    assert model.calls == []
    np.testing.assert_array_equal(pipeline.clip(SHOT), undisturbed)
    assert model.states == [0, 1, 2]


def test_closing_before_the_start(pipeline: Pipeline) -> None:
    pipeline.generate(SHOT).close()
    assert len(list(pipeline.generate(SHOT))) == 9


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_passes_through_and_forgets_the_state(
    pipeline: Pipeline, error: type[BaseException]
) -> None:
    undisturbed = pipeline.clip(SHOT)

    def interrupt(progress: Progress) -> None:
        if progress.stage == "decode":
            raise error

    with pytest.raises(error):
        list(pipeline.generate(SHOT, on_progress=interrupt))
    np.testing.assert_array_equal(pipeline.clip(SHOT), undisturbed)


def test_state_pairs_start_from_zero_in_every_clip(pipeline: Pipeline, model: FakeModel) -> None:
    pipeline.clip(SHOT)
    pipeline.clip(Shot("a blue ball", size=(24, 16)))
    assert model.states == [0, 1, 2, 0, 1, 2]


def test_a_seed_is_a_clip(pipeline: Pipeline) -> None:
    clip = pipeline.clip(SHOT)
    np.testing.assert_array_equal(pipeline.clip(SHOT), clip)
    np.testing.assert_array_equal(FakeModel().pipeline().clip(SHOT), clip)
    for other in (
        Shot("a red cube", seed=4),
        Shot("a red cube", seed=3, variant=1),
        Shot("a blue ball", seed=3),
    ):
        assert (pipeline.clip(other) != clip).any()


def test_noise_of_a_step_is_fresh(pipeline: Pipeline, model: FakeModel) -> None:
    """What a step is given, less what is known of it, is a noise that was never used before."""
    pipeline.clip(SHOT)
    noises = [model.latents[0]]
    for before, after, sigma in zip(
        model.latents[:-1], model.latents[1:], (0.9375, 0.75, 0.5), strict=True
    ):
        clean = np.tanh(before) * 0.1 + TEXT_MEAN
        noises.append((after - (1 - sigma) * clean) / sigma)
    for index, one in enumerate(noises):
        assert one.std() == pytest.approx(1, abs=0.35)
        for other in noises[:index]:
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.6


def test_errors_of_the_shot_come_at_the_call(pipeline: Pipeline, model: FakeModel) -> None:
    for make in (pipeline.generate, pipeline.clip, pipeline.record):
        with pytest.raises(ShotError, match="The prompt is empty"):
            make(Shot(""))
    assert model.calls == []


def test_progress_counts_every_unit_of_work(pipeline: Pipeline) -> None:
    seen: list[Progress] = []
    list(pipeline.generate(SHOT, on_progress=seen.append))
    assert [progress.done for progress in seen] == list(range(1, 9))
    assert {progress.total for progress in seen} == {1 + 4 + 3}
    assert [p.stage for p in seen] == ["text", *["denoise"] * 4, *["decode"] * 3]
    again: list[Progress] = []
    list(pipeline.generate(SHOT, on_progress=again.append))
    assert again == seen


def test_the_last_prompt_is_encoded_once(pipeline: Pipeline, model: FakeModel) -> None:
    first = pipeline.clip(SHOT)
    pipeline.clip(Shot(SHOT.prompt, seed=9))
    assert model.calls.count("text_encoder") == 1
    pipeline.clip(Shot("a blue ball"))
    np.testing.assert_array_equal(pipeline.clip(SHOT), first)
    assert model.calls.count("text_encoder") == 3


def test_one_clip_at_a_time(pipeline: Pipeline) -> None:
    first = pipeline.generate(SHOT)
    next(first)
    with pytest.raises(EngineError, match="already making a clip; finish or close that one"):
        next(pipeline.generate(SHOT))
    assert len(list(first)) == 8
    assert len(list(pipeline.generate(SHOT))) == 9


def test_record(pipeline: Pipeline) -> None:
    record = pipeline.record(SHOT)
    assert (record.bundle_name, record.bundle_sha256) == ("tiny", ZEROS)
    assert record.animatic_version == __version__
    np.testing.assert_array_equal(pipeline.clip(record.shot()), pipeline.clip(SHOT))


def test_a_record_tells_weights_apart_that_lie_beside_a_graph(model: FakeModel) -> None:
    """The file of the graph itself is the same for every checkpoint."""
    plain = model.pipeline()
    opened, bundle = plain.bundle, plain.bundle.bundle
    hashes = []
    for digest in ("1" * 64, "2" * 64):
        weights = (FileRef(file="denoiser.data", sha256=digest),)
        typed = replace(DENOISER, precision="fp16", external_data=weights)
        engines = {**model.engines(bundle), "denoiser": FakeEngine(typed, model.denoiser)}
        record = Pipeline(opened, WordTokenizer(), engines).record(SHOT)
        assert record.precision == "fp16"
        hashes.append(record.graphs_sha256)
    assert plain.record(SHOT).graphs_sha256 == ""
    assert len({*hashes, ""}) == 3


@pytest.mark.parametrize(
    ("costly", "backend", "asked", "noted"),
    [
        (True, "tensorrt", "auto", None),
        (True, "tensorrt", "cpu", None),
        (True, "tensorrt", "gpu", "gpu"),
        (True, "onnxruntime", "cpu", None),
        (False, "tensorrt", "auto", None),
        (False, "tensorrt", "cpu", "cpu"),
        (False, "tensorrt", "gpu", None),
        (False, "onnxruntime", "cpu", None),
    ],
)
def test_a_record_says_where_the_text_was_read_if_not_as_usual(
    model: FakeModel, *, costly: bool, backend: str, asked: TextDevice, noted: str | None
) -> None:
    bundle = fake_bundle(text=replace(fake_bundle().text, costly=costly))
    engines = model.engines(bundle)
    choice = Choice(engines, backend, "As a test wants it.", is_fallback=False)
    opened = model.pipeline(bundle).bundle
    pipeline = Pipeline(opened, WordTokenizer(), engines, choice=choice, text_device=asked)
    assert pipeline.record(SHOT).text_device == noted


def test_closed(model: FakeModel) -> None:
    with model.pipeline() as pipeline:
        frames = pipeline.generate(SHOT)
        next(frames)
    pipeline.close()
    with pytest.raises(EngineError, match="is closed; open the pipeline again"):
        list(frames)
    with pytest.raises(EngineError, match="The pipeline is closed; open it again"):
        pipeline.generate(SHOT)


def test_several_blocks(model: FakeModel) -> None:
    bundle = fake_bundle(
        geometry=replace(fake_bundle().geometry, frame_counts=(21,)),
        conditioning=Conditioning(text=True, keyframes=False, context=True),
    )
    pipeline = model.pipeline(bundle)
    seen: list[Progress] = []
    frames = pipeline.generate(SHOT, on_progress=seen.append)
    next(frames)
    assert model.calls.count("denoiser") == 4  # the second block waits until it is wanted
    assert 1 + len(list(frames)) == 21
    one_block = [*["denoiser"] * 4, *["vae_decoder"] * 3]
    assert model.calls == ["text_encoder", *one_block, *one_block]
    assert model.states == [0, 1, 2, 3, 4, 5]
    assert seen[-1] == Progress(1 + 2 * 4 + 6, 1 + 2 * 4 + 6, "decode")
    assert (model.latents[0] != model.latents[4]).all()


@pytest.mark.parametrize("role", ["text_encoder", "denoiser", "vae_decoder"])
def test_a_missing_graph(model: FakeModel, role: Role) -> None:
    opened = model.pipeline().bundle
    engines = model.engines(opened.bundle)
    del engines[role]
    with pytest.raises(BundleSchemaError, match=f"no {role} graph; export the bundle again"):
        Pipeline(opened, WordTokenizer(), engines)


def test_a_graph_of_another_kind(model: FakeModel) -> None:
    other = replace(DENOISER, outputs=(replace(DENOISER.outputs[0], name="noise"),))
    with pytest.raises(BundleSchemaError, match=r"denoiser graph .* no tensor velocity; export"):
        model.pipeline(fake_bundle(graphs=(TEXT_ENCODER, other, VAE_DECODER)))


def test_a_graph_that_wants_what_nobody_gives(model: FakeModel) -> None:
    wanting = replace(DENOISER, inputs=(*DENOISER.inputs, tensor("pose", "float32", "batch")))
    with pytest.raises(
        BundleSchemaError,
        match=r"denoiser graph .* takes the tensor pose, which nothing here gives; export",
    ):
        model.pipeline(fake_bundle(graphs=(TEXT_ENCODER, wanting, VAE_DECODER)))


def test_a_bundle_that_contradicts_itself_is_not_played_by_fakes(model: FakeModel) -> None:
    with pytest.raises(BundleSchemaError, match="contradicts itself"):
        model.pipeline(fake_bundle(latents=LatentStats(mean=MEAN, std=(0.0, 1.0))))


@pytest.mark.parametrize("role", ["text_encoder", "vae_decoder"])
def test_whatever_a_reset_does_the_rest_is_reset_too(
    model: FakeModel, monkeypatch: pytest.MonkeyPatch, role: Role
) -> None:
    bundle = fake_bundle()
    opened, engines = model.pipeline(bundle).bundle, model.engines(bundle)
    pipeline = Pipeline(opened, WordTokenizer(), engines)
    clip = pipeline.clip(SHOT)
    with monkeypatch.context() as patch:
        done: list[str] = []
        for name, engine in engines.items():
            patch.setattr(engine, "reset", lambda name=name: done.append(name))
        patch.setattr(engines[role], "reset", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pipeline.clip(SHOT)
        assert {*done, role} == set(engines)
    engines["vae_decoder"].reset()
    np.testing.assert_array_equal(pipeline.clip(SHOT), clip)  # it is not busy for ever


def test_whatever_a_close_does_the_rest_is_closed_too(
    model: FakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = fake_bundle()
    opened, engines = model.pipeline(bundle).bundle, model.engines(bundle)
    pipeline = Pipeline(opened, WordTokenizer(), engines)
    closed: list[str] = []
    for name, engine in engines.items():
        monkeypatch.setattr(engine, "close", lambda name=name: closed.append(name))
    monkeypatch.setattr(engines["denoiser"], "close", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pipeline.close()
    assert sorted(closed) == ["text_encoder", "vae_decoder"]


def broken_decoder(bundle: Bundle, model: FakeModel, kind: str) -> Pipeline:
    original = model.vae_decoder

    def decode(inputs: Tensors) -> Tensors:
        outputs = original(inputs)
        if kind == "nan":
            outputs["frames"] = outputs["frames"] * np.float32("nan")
        else:
            outputs["frames"] = outputs["frames"][:, :, 1:]
        return outputs

    model.vae_decoder = decode  # type: ignore[method-assign]
    return model.pipeline(bundle)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [("nan", "not numbers; try another seed"), ("short", r"\[1, 3, 3, 8, 16\].*; export")],
)
def test_a_broken_decoder(bundle: Bundle, model: FakeModel, kind: str, sentence: str) -> None:
    pipeline = broken_decoder(bundle, model, kind)
    with pytest.raises(EngineError, match=sentence):
        pipeline.clip(SHOT)


def test_levels_are_rounded_and_clipped(bundle: Bundle, model: FakeModel) -> None:
    levels = np.array([-1, -0.001, 0, 0.4 / 255, 0.6 / 255, 1, 1.001, 9], dtype=np.float32)

    def decode(inputs: Tensors) -> Tensors:
        frames = np.broadcast_to(levels[:, None], (1, 3, FACTOR, 8, 16)).copy()
        return {"frames": frames, "next_state_0": inputs["state_0"]}

    model.vae_decoder = decode  # type: ignore[method-assign]
    clip = model.pipeline(bundle).clip(SHOT)
    assert clip[0, :, 0, 0].tolist() == [0, 0, 0, 0, 1, 255, 255, 255]


def test_states_may_belong_to_the_denoiser(model: FakeModel) -> None:
    """Whatever a block may know of the one before it goes by the denoiser's own state pairs."""
    counter = tensor("count", "float32", "batch")
    spec = replace(
        DENOISER,
        inputs=(*DENOISER.inputs, counter),
        outputs=(*DENOISER.outputs, replace(counter, name="next_count")),
        states=(StatePair(input="count", output="next_count"),),
    )
    counts: list[float] = []
    original = model.denoiser

    def denoise(inputs: Tensors) -> Tensors:
        counts.append(float(inputs["count"][0]))
        return {**original(inputs), "next_count": inputs["count"] + 1}

    model.denoiser = denoise  # type: ignore[method-assign]
    pipeline = model.pipeline(fake_bundle(graphs=(TEXT_ENCODER, spec, VAE_DECODER)))
    pipeline.clip(SHOT)
    pipeline.clip(SHOT)
    assert counts == [0, 1, 2, 3, 0, 1, 2, 3]
