"""How far two engines are apart: made-up functions, and inputs for the tiny bundle's graphs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from animatic.agreement import random_inputs, relative_error
from animatic.bundle import AxisRange, LatentStats
from animatic.engine import Engine, FakeEngine
from animatic.errors import EngineError
from animatic.store import open_bundle
from tests.runtime.fake_model import VAE_DECODER
from tests.runtime.tiny_bundle import write_causal_bundle
from tests.runtime.tiny_windowed import write_windowed_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from animatic.bundle import Role

replace = msgspec.structs.replace
PROFILE = tuple(
    AxisRange(axis=axis, minimum=1, optimum=size, maximum=size)
    for axis, size in (("batch", 1), ("columns", 8), ("frames", 3), ("rows", 6), ("tokens", 16))
)


def test_inputs_are_such_as_a_clip_gives(tiny_bundle: Path) -> None:
    opened = open_bundle(tiny_bundle, verify=False)
    denoiser = opened.bundle.graph("denoiser")
    first, second = (next(random_inputs(opened, denoiser, PROFILE)) for _ in range(2))
    assert {name: array.shape for name, array in first.items()} == {
        "latents": (1, 4, 3, 6, 8),
        "timesteps": (1, 3),
        "text_states": (1, 16, 384),
    }
    assert all((first[name] == second[name]).all() for name in first)  # seeded
    stream = random_inputs(opened, denoiser, PROFILE)
    assert not np.array_equal(next(stream)["latents"], next(stream)["latents"])
    assert float(first["timesteps"][0, 0]) in {1000.0, 500.0}
    tokens = next(random_inputs(opened, opened.bundle.graph("text_encoder"), PROFILE))
    assert tokens["input_ids"].dtype == np.int64
    assert 0 <= tokens["input_ids"].min() < tokens["input_ids"].max() < 256
    assert (tokens["attention_mask"] == 1).all()
    decoder = next(random_inputs(opened, opened.bundle.graph("vae_decoder"), PROFILE))
    assert set(decoder) == {"latents"}  # the state is the engine's own


def test_blocks_follow_each_other(tmp_path: Path) -> None:
    opened = open_bundle(write_causal_bundle(tmp_path / "causal"))
    stream = random_inputs(opened, opened.bundle.graph("denoiser"), PROFILE)
    places = [next(stream)["position"] for _ in range(3)]
    assert [(place.dtype.name, place.tolist()) for place in places] == [
        *(("int64", [0]), ("int64", [3]), ("int64", [6]))
    ]


def test_a_window_is_such_as_a_clip_gives(tmp_path: Path) -> None:
    opened = open_bundle(write_windowed_bundle(tmp_path / "windowed"))
    denoiser = opened.bundle.graph("denoiser")
    further = tuple(replace(a, optimum=6, maximum=6) if a.axis == "frames" else a for a in PROFILE)
    given = next(random_inputs(opened, denoiser, further))
    assert given["positions"].tolist() == [[1, 2, 3, 4, 5, 6]]
    assert given["timesteps"][0, :2].tolist() == [0, 0]
    assert given["timesteps"][0, 2:].min() == given["timesteps"][0, 2:].max() > 0
    first = next(random_inputs(opened, denoiser, PROFILE))
    assert first["positions"].tolist() == [[0, 1, 2]]
    assert first["timesteps"].min() > 0
    pictures = (
        *PROFILE,
        *(
            AxisRange(axis=axis, minimum=1, optimum=size, maximum=size)
            for axis, size in (("height", 48), ("pictures", 12), ("width", 64))
        ),
    )
    light = next(random_inputs(opened, opened.bundle.graph("vae_encoder"), pictures))["frames"]
    assert light.shape == (1, 3, 12, 48, 64)
    assert 0 <= light.min() < 0.1
    assert 0.9 < light.max() <= 1


def test_timesteps_are_those_that_the_sampler_gives(tiny_bundle: Path) -> None:
    opened = open_bundle(tiny_bundle, verify=False)
    sampler = replace(opened.bundle.sampler, timesteps=(757.0, 522.0))
    rounding = dataclasses.replace(opened, bundle=replace(opened.bundle, sampler=sampler))
    stream = random_inputs(rounding, opened.bundle.graph("denoiser"), PROFILE)
    assert {float(next(stream)["timesteps"][0, 0]) for _ in range(20)} == {757.0, 522.0}


@pytest.mark.parametrize("role", ["vae_decoder", "tiny_decoder"])
def test_a_decoder_gets_raw_latents(tiny_bundle: Path, role: Role) -> None:
    opened = open_bundle(tiny_bundle, verify=False)
    latents = LatentStats(mean=(5.0, -5.0, 0.0, 50.0), std=(0.1, 0.1, 0.1, 0.1))
    moved = dataclasses.replace(opened, bundle=replace(opened.bundle, latents=latents))
    graph = replace(opened.bundle.graph("vae_decoder"), role=role)
    raw = next(random_inputs(moved, graph, PROFILE))["latents"]
    assert raw.mean(axis=(0, 2, 3, 4)) == pytest.approx(latents.mean, abs=0.1)
    assert raw.std(axis=(0, 2, 3, 4)) == pytest.approx(latents.std, abs=0.05)


def test_a_profile_without_an_axis(tiny_bundle: Path) -> None:
    opened = open_bundle(tiny_bundle, verify=False)
    with pytest.raises(EngineError, match="how large the axis tokens of text_states is; build"):
        next(random_inputs(opened, opened.bundle.graph("denoiser"), PROFILE[:-1]))


def counter(step: float) -> Engine:
    """A decoder that shows how often it has run."""

    def function(inputs: dict[str, Any]) -> dict[str, Any]:
        state = inputs["state_0"]
        frames = np.ones((1, 3, 4, 4, 4), np.float32) * (1 + state.max())
        return {"frames": frames, "next_state_0": state + np.float32(step)}

    return FakeEngine(VAE_DECODER, function)


def blanks() -> Iterator[dict[str, Any]]:
    while True:
        yield {"latents": np.zeros((1, 2, 1, 1, 1), np.float32)}


def test_states_are_compared_by_what_they_do() -> None:
    assert relative_error(counter(1), counter(1), blanks()) == 0
    # The first run agrees; the second, which reads the state, does not.
    assert relative_error(counter(0), counter(1), blanks(), runs=1) == 0
    assert relative_error(counter(0), counter(1), blanks()) == pytest.approx(0.5)


def test_what_ran_before_does_not_count() -> None:
    used = counter(1)
    used.run(next(blanks()))
    assert relative_error(used, counter(1), blanks()) == 0
    used.run(next(blanks()))
    assert relative_error(counter(1), used, blanks()) == 0


def test_an_output_of_another_shape() -> None:
    def function(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"frames": np.ones((1, 3, 4, 8, 8), np.float32), "next_state_0": inputs["state_0"]}

    with pytest.raises(EngineError, match=r"gives no frames of the shape \[1, 3, 4, 4, 4\]"):
        relative_error(FakeEngine(VAE_DECODER, function), counter(1), blanks())
