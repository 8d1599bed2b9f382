"""A real sentence to a real clip, with the shipped weights, read by the probe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from animatic import Pipeline, Shot
from animatic_training.probe import Probe, load_probe, read_clips
from animatic_training.world.attributes import CLASSES

PROBE = Path(__file__).parent / "data" / "probe.safetensors"


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.open()


@pytest.fixture(scope="module")
def probe() -> Probe:
    return load_probe(PROBE)


def read(probe: Probe, clip: np.ndarray) -> dict[str, str]:
    indices = read_clips(probe, torch.from_numpy(clip[None]))[0]
    # The probe of the built-in model knows the first seven attributes.
    return {name: classes[i] for (name, classes), i in zip(CLASSES.items(), indices, strict=False)}


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        (
            "a red truck drives left through a desert at sunset, slow dolly in",
            {"subject": "truck", "colour": "red", "place": "desert", "time": "sunset"},
        ),
        (
            "Close-up of a blue ball rolling right in a snowy field by day.",
            {"subject": "ball", "colour": "blue", "place": "snow", "time": "day"},
        ),
    ],
)
def test_the_clip_shows_what_the_sentence_says(
    pipeline: Pipeline, probe: Probe, prompt: str, wanted: dict[str, str]
) -> None:
    clip = pipeline.clip(Shot(prompt, seed=0))
    assert clip.shape == (9, 80, 144, 3)
    seen = read(probe, clip)
    assert {name: seen[name] for name in wanted} == wanted


def test_a_seed_is_a_clip(pipeline: Pipeline) -> None:
    shot = Shot("a green car waits in a canyon at dawn", seed=3)
    first = pipeline.clip(shot)
    assert np.array_equal(first, pipeline.clip(shot))
    other = pipeline.clip(Shot(shot.prompt, seed=4))
    assert np.abs(first.astype(int) - other.astype(int)).mean() > 2


def test_the_frames_move_but_do_not_flicker(pipeline: Pipeline) -> None:
    clip = pipeline.clip(Shot("a red car drives right through a city by day", seed=1)).astype(int)
    steps = np.abs(np.diff(clip, axis=0)).mean((1, 2, 3))
    assert steps.min() > 0.3
    assert steps.max() < 40
