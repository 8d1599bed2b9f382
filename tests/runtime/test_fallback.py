"""A GPU that is lost in mid-clip: an error, or the rest of the shot by the processor, marked."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from animatic.engine import FakeEngine
from animatic.engine.choice import Choice
from animatic.errors import DeviceLostError, EngineError
from animatic.pipeline import Pipeline, Progress
from animatic.shot import Shot
from animatic.store import OpenBundle
from tests.runtime.fake_model import ZEROS, FakeModel, WordTokenizer

if TYPE_CHECKING:
    from animatic.bundle import Bundle
    from tests.runtime.fake_model import Tensors

SHOT = Shot("a red cube turns", seed=3)


class Failing(FakeModel):
    """Loses its GPU in the decoder's call of that number, counted from 1."""

    def __init__(self, call: int) -> None:
        super().__init__()
        self.call = call
        self.decoded = 0

    def vae_decoder(self, inputs: Tensors) -> Tensors:
        self.decoded += 1
        if self.decoded >= self.call:
            raise DeviceLostError("The GPU failed under way; start animatic again.")
        return super().vae_decoder(inputs)


def pipeline(model: FakeModel, bundle: Bundle, spare: FakeModel | None) -> Pipeline:
    def on_processor() -> Choice:
        assert spare is not None
        return Choice(spare.engines(bundle), "onnxruntime", "tiny plays on the processor.", False)  # noqa: FBT003

    return Pipeline(
        OpenBundle(Path("nowhere"), bundle, ZEROS),
        WordTokenizer(),
        model.engines(bundle),
        choice=Choice({}, "tensorrt_rtx", "tiny plays on the GPU.", is_fallback=False),
        spare=None if spare is None else on_processor,
    )


def test_without_a_fallback_it_is_an_error(bundle: Bundle) -> None:
    with pipeline(Failing(2), bundle, None) as lost:
        frames = lost.generate(SHOT)
        assert [next(frames).preview for _ in range(1)] == [False]
        with pytest.raises(DeviceLostError, match="start animatic again"):
            list(frames)


@pytest.mark.parametrize("call", [1, 2, 3])
def test_the_clip_goes_on_as_a_preview(
    bundle: Bundle, call: int, caplog: pytest.LogCaptureFixture
) -> None:
    expected = FakeModel().pipeline(bundle).clip(SHOT)
    spare = FakeModel()
    progress: list[Progress] = []
    with pipeline(Failing(call), bundle, spare) as lost:
        engines = dict(lost._engines)
        frames = list(lost.generate(SHOT, on_progress=progress.append))
        assert [frame.index for frame in frames] == list(range(9))
        np.testing.assert_array_equal([frame.pixels for frame in frames], expected)
        # Of three calls of the decoder the first gives one frame and the others four each.
        shown = (0, 1, 5)[call - 1]
        assert [frame.preview for frame in frames] == [False] * shown + [True] * (9 - shown)
        assert "goes on as a preview" in caplog.text
        choice = lost.choice
        assert choice is not None
        assert (choice.backend, choice.is_fallback) == ("onnxruntime", True)
        assert choice.reason.endswith("It stands in for a GPU that was lost.")
        assert progress[-1].done == progress[-1].total
        for engine in engines.values():
            assert isinstance(engine, FakeEngine)
            with pytest.raises(EngineError, match="is closed"):
                engine.run({})
        # The GPU does not come back in this process: later clips are previews, too.
        again = list(lost.generate(SHOT))
        assert all(frame.preview for frame in again)
        np.testing.assert_array_equal([frame.pixels for frame in again], expected)
    assert spare.calls.count("text_encoder") == 1


def test_a_processor_that_fails_too_is_an_error(bundle: Bundle) -> None:
    with (
        pipeline(Failing(2), bundle, Failing(2)) as lost,
        pytest.raises(DeviceLostError),
    ):
        list(lost.generate(SHOT))


def test_other_errors_do_not_fall_back(bundle: Bundle, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    class Broken(FakeModel):
        def denoiser(self, inputs: Tensors) -> Tensors:
            assert inputs
            raise EngineError("The graph failed while running.")

    with (
        pipeline(Broken(), bundle, FakeModel()) as broken,
        pytest.raises(EngineError, match="failed while running"),
    ):
        list(broken.generate(SHOT))
    assert "preview" not in caplog.text


def test_whoever_stops_watching_starts_nothing(bundle: Bundle) -> None:
    spare = FakeModel()
    with pipeline(Failing(2), bundle, spare) as lost:
        frames = lost.generate(SHOT)
        next(frames)
        frames.close()
    assert not spare.calls
