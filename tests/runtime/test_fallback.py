"""A GPU that is lost in mid-clip: real graphs on the processor play its part until it is gone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from animatic.cli import main
from animatic.engine import choice as choice_module
from animatic.engine.choice import Choice, choose
from animatic.errors import BundleSchemaError, DeviceLostError
from animatic.pipeline import Pipeline
from animatic.shot import Shot
from animatic.sinks import read_record
from animatic.store import open_bundle
from tests.runtime.clips import write
from tests.runtime.tiny_windowed import write_windowed_bundle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from animatic.bundle import GraphSpec
    from animatic.engine import Engine
    from animatic.store import OpenBundle

SHOT = Shot("a red cube turns", seed=5)


class Card:
    """An engine on a card that falls off the bus after some runs."""

    def __init__(self, engine: Engine, runs: int) -> None:
        self.spec: GraphSpec = engine.spec
        self.closed = False
        self._engine = engine
        self._runs = runs

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        self._runs -= 1
        if self._runs < 0:
            raise DeviceLostError("The GPU fell off the bus; see to its power.")
        return self._engine.run(inputs)

    def reset(self) -> None:
        self._engine.reset()

    def close(self) -> None:
        self.closed = True
        self._engine.close()


class Closing(Card):
    """An engine that never fails, and tells whether it was closed."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine, 1000)


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> list[Card]:
    """Every pipeline that does not ask for the processor gets a decoder that lasts two runs."""
    made: list[Card] = []

    def on_the_card(opened: OpenBundle, device: str = "auto", *rest: Any, **options: Any) -> Choice:
        found = choose(opened, "cpu", *rest, **options)
        if device == "cpu":
            return found
        made.append(Card(found.engines["vae_decoder"], 2))
        engines = {**found.engines, "vae_decoder": made[-1]}
        return replace(found, engines=engines, backend="tensorrt_rtx")

    monkeypatch.setattr("animatic.pipeline.choose", on_the_card)
    assert choice_module.choose is choose
    return made


@pytest.fixture
def wanted(tiny_bundle: Path) -> np.ndarray[Any, Any]:
    with Pipeline.open(tiny_bundle, device="cpu") as pipeline:
        return pipeline.clip(SHOT)


@pytest.mark.usefixtures("cards")
def test_without_a_fallback_the_clip_ends_in_an_error(tiny_bundle: Path) -> None:
    with Pipeline.open(tiny_bundle) as pipeline, pytest.raises(DeviceLostError, match="fell off"):
        pipeline.clip(SHOT)


def test_the_processor_goes_on_where_the_card_stopped(
    tiny_bundle: Path, cards: list[Card], wanted: np.ndarray[Any, Any]
) -> None:
    with Pipeline.open(tiny_bundle, fallback=True) as pipeline:
        frames = list(pipeline.generate(SHOT))
        assert [frame.index for frame in frames] == list(range(len(wanted)))
        np.testing.assert_array_equal(np.stack([frame.pixels for frame in frames]), wanted)
        # Two latent frames came from the card: one frame, and the temporal factor more.
        first = next(n for n, frame in enumerate(frames) if frame.fallback)
        assert 0 < first < len(frames)
        assert all(frame.fallback for frame in frames[first:])
        assert cards[0].closed
        assert pipeline.choice is not None
        assert pipeline.choice.is_fallback
        assert pipeline.record(SHOT).backend == "onnxruntime"


@pytest.mark.parametrize("ends", [{"continue_from"}, {"before"}, {"continue_from", "before"}])
def test_what_was_given_is_given_again(tmp_path: Path, cards: list[Card], ends: set[str]) -> None:
    root = write_windowed_bundle(tmp_path / "windowed")
    given: dict[str, Any] = dict.fromkeys(ends, "clip.gif")
    shot = Shot("a red cube", images={0: "still.png"}, **given)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        write(tmp_path / "clip.gif")
        write(tmp_path / "still.png", count=1)
        (tmp_path / "still.1001.png").rename(tmp_path / "still.png")
        with Pipeline.open(root, device="cpu") as pipeline:
            wanted = pipeline.clip(shot)
        with Pipeline.open(root, fallback=True) as pipeline:
            frames = pipeline.generate(shot)
            for file in ("clip.gif", "still.png"):  # read by the call, and not again
                (tmp_path / file).unlink()
            shown = [frame.pixels for frame in frames]
    assert len(cards) == 1
    np.testing.assert_array_equal(np.stack(shown), wanted)


def test_what_stands_in_reads_the_text_where_it_is_usual(
    tiny_bundle: Path, cards: list[Card]
) -> None:
    with Pipeline.open(tiny_bundle, fallback=True, text_device="cpu") as pipeline:
        assert pipeline.record(SHOT).text_device == "cpu"  # the rest is on the card
    with Pipeline.open(tiny_bundle, fallback=True) as pipeline:
        pipeline._text_device = "gpu"  # as it would be on a real one
        pipeline.clip(SHOT)
        assert cards[-1].closed
        assert pipeline.record(SHOT).text_device is None


@pytest.mark.parametrize("fault", ["card", "spare"])
def test_a_stand_in_that_cannot_go_on_is_closed(
    tiny_bundle: Path, cards: list[Card], monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Whether the lost card cannot be let go, or what stands in is not to be driven."""
    spares: list[Closing] = []

    def spare() -> Choice:
        found = choose(open_bundle(tiny_bundle), "cpu")
        engines = {role: Closing(engine) for role, engine in found.engines.items()}
        spares.extend(engines.values())
        if fault == "spare":
            del engines["denoiser"]
        return replace(found, engines=engines)

    with Pipeline.open(tiny_bundle, fallback=True) as pipeline:
        pipeline._spare = spare
        if fault == "card":
            monkeypatch.setattr(cards[0], "close", lambda: 1 / 0)
        with pytest.raises(ZeroDivisionError if fault == "card" else BundleSchemaError):
            pipeline.clip(SHOT)
        monkeypatch.undo()
    assert [engine.spec.role for engine in spares if not engine.closed] == (
        [] if fault == "card" else ["denoiser"]
    )


@pytest.mark.usefixtures("cards")
def test_the_file_says_what_drew_it(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tmp_path / "clip.mp4"
    words = ["generate", SHOT.prompt, "--seed", "5", "--bundle", str(tiny_bundle), "-o", str(clip)]
    assert main(words) == 1
    assert not clip.exists()
    assert main([*words, "--fallback"]) == 0
    assert "fell off the bus" in capsys.readouterr().err
    assert read_record(clip).backend == "onnxruntime"
    assert list(tmp_path.iterdir()) == [clip]


def test_a_record_names_the_graphs_that_are_not_the_reference(
    tiny_bundle: Path, cards: list[Card]
) -> None:
    with Pipeline.open(tiny_bundle, device="cpu") as pipeline:
        usual = pipeline.record(SHOT)
    assert (usual.backend, usual.precision, usual.graphs_sha256) == ("onnxruntime", "", "")
    assert "backend" not in usual.to_json()
    with Pipeline.open(tiny_bundle) as pipeline:
        other = pipeline.record(SHOT)
    assert other.backend == "tensorrt_rtx"
    assert len(other.graphs_sha256) == 64
    assert len(cards) == 1
