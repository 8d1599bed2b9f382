"""What the denoiser hears: lengths, masks, and text encoders that one would rather not run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from animatic.errors import BundleIntegrityError, EngineError
from animatic.pipeline import Pipeline
from animatic.shot import Shot
from animatic.store import open_bundle, write_bundle
from tests.runtime.fake_model import (
    TEXT_ENCODER,
    FakeModel,
    WordTokenizer,
    fake_bundle,
)
from tests.runtime.tiny_bundle import write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from animatic.bundle import Bundle, GraphSpec
    from animatic.store import OpenBundle

replace = msgspec.structs.replace
SHOT = Shot("a red cube", seed=3)


def padded_bundle(length: int) -> Bundle:
    return fake_bundle(text=replace(fake_bundle().text, max_tokens=2, states_length=length))


def test_states_are_padded_with_zeros(model: FakeModel) -> None:
    model.pipeline(padded_bundle(8)).clip(SHOT)
    states = model.texts[0]
    assert states.shape == (1, 8, 384)
    assert states.dtype == np.float32
    assert (states[:, :3] > 0).all()
    assert (states[:, 3:] == 0).all()


def test_states_that_fit_are_left_alone(model: FakeModel) -> None:
    model.pipeline(padded_bundle(3)).clip(SHOT)
    assert model.texts[0].shape == (1, 3, 384)


def test_more_states_than_fit(model: FakeModel) -> None:
    with pytest.raises(EngineError, match=r"states of 3 tokens .* takes 2; .* states_length"):
        model.pipeline(padded_bundle(2)).clip(SHOT)


class Cache:
    """A text cache in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, npt.NDArray[np.float32]] = {}
        self.made_for: list[tuple[OpenBundle, GraphSpec]] = []

    def of(self, opened: OpenBundle, encoder: GraphSpec) -> Cache:
        self.made_for.append((opened, encoder))
        return self

    def get(self, prompt: str) -> npt.NDArray[np.float32] | None:
        return self.kept.get(prompt)

    def put(self, prompt: str, states: npt.NDArray[np.float32]) -> None:
        self.kept[prompt] = states


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Cache:
    made = Cache()
    monkeypatch.setattr("animatic.text_cache.TextCache.of", made.of)
    return made


def costly_bundle(**changes: Any) -> Bundle:
    return fake_bundle(text=replace(fake_bundle().text, costly=True), **changes)


def test_a_costly_encoder_runs_once_for_a_prompt(model: FakeModel, cache: Cache) -> None:
    pipeline = model.pipeline(costly_bundle())
    assert cache.made_for == [(pipeline.bundle, TEXT_ENCODER)]
    first = pipeline.clip(SHOT)
    assert list(cache.kept) == [SHOT.prompt]
    assert cache.kept[SHOT.prompt].shape == (1, 3, 384)
    again = FakeModel()
    np.testing.assert_array_equal(again.pipeline(costly_bundle()).clip(SHOT), first)
    assert "text_encoder" not in again.calls


def test_what_is_kept_is_not_yet_padded(model: FakeModel, cache: Cache) -> None:
    text = replace(fake_bundle().text, costly=True, states_length=8)
    bundle = fake_bundle(text=text)
    model.pipeline(bundle).clip(SHOT)
    again = FakeModel()
    again.pipeline(bundle).clip(SHOT)
    assert cache.kept[SHOT.prompt].shape == (1, 3, 384)
    np.testing.assert_array_equal(again.texts[0], model.texts[0])


def test_a_cheap_encoder_keeps_nothing_on_disk(model: FakeModel, cache: Cache) -> None:
    model.pipeline().clip(SHOT)
    assert cache.made_for == []


def test_what_a_gpu_gave_is_neither_kept_nor_mixed_with_what_is(
    model: FakeModel, cache: Cache
) -> None:
    """A clip is to come out the same whatever was played before it, and wherever."""
    bundle = costly_bundle()
    opened, engines = model.pipeline(bundle).bundle, model.engines(bundle)
    pipeline = Pipeline(opened, WordTokenizer(), engines, text_device="gpu")
    pipeline.clip(SHOT)
    assert cache.kept == {}
    cache.kept[SHOT.prompt] = np.zeros((1, 3, 384), dtype=np.float32)
    Pipeline(opened, WordTokenizer(), engines, text_device="gpu").clip(SHOT)
    assert model.calls.count("text_encoder") == 2
    Pipeline(opened, WordTokenizer(), engines, text_device="cpu").clip(SHOT)
    assert model.calls.count("text_encoder") == 2


def test_a_prompt_is_called_what_it_is(model: FakeModel) -> None:
    """By the tokenizer, which warns of one that is too long."""
    sampler = replace(fake_bundle().sampler, guidance=3.0)
    bundle = fake_bundle(sampler=sampler)
    tokenizer = WordTokenizer()
    pipeline = Pipeline(model.pipeline(bundle).bundle, tokenizer, model.engines(bundle))
    pipeline.clip(Shot("a cube", negative_prompt="a ball"))
    assert sorted(tokenizer.names) == ["negative prompt", "prompt"]
    tokenizer.names.clear()
    pipeline.clip(Shot("a cone", negative_prompt="a cone"))
    assert tokenizer.names == ["prompt"]


def test_a_prompt_of_before_needs_no_text_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real cache, and a real graph that is no longer there."""
    monkeypatch.setattr("animatic.text_cache.user_cache_path", lambda name: tmp_path / name)
    root = write_tiny_bundle(tmp_path / "tiny")
    bundle = open_bundle(root).bundle
    write_bundle(root, replace(bundle, text=replace(bundle.text, costly=True)))
    with Pipeline.open(root) as pipeline:
        clip = pipeline.clip(SHOT)
    (root / "text_encoder.onnx").unlink()
    with Pipeline.open(root) as pipeline:
        np.testing.assert_array_equal(pipeline.clip(SHOT), clip)
        with pytest.raises(BundleIntegrityError, match=r"text_encoder\.onnx .* is missing"):
            pipeline.clip(Shot("a blue ball"))
