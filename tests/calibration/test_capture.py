from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from animatic.shot import Shot
from animatic.store import open_bundle
from animatic_calibration.capture import KEPT_CALLS, Listener, capture
from animatic_calibration.clips import Stage
from animatic_calibration.engine import ModelEngine
from animatic_calibration.errors import CalibrationError
from animatic_calibration.layers import survey
from animatic_calibration.network import Network
from animatic_calibration.rows import RESERVOIR_ROWS

if TYPE_CHECKING:
    from pathlib import Path

    from animatic.bundle import Role
    from animatic.engine.protocol import Tensors
    from animatic.store import OpenBundle

ROLES: tuple[Role, ...] = ("denoiser", "vae_decoder")
SHOTS = [Shot("a red truck", seed=1), Shot("a blue car at night", seed=2)]


def networks(opened: OpenBundle) -> dict[Role, Network]:
    found: dict[Role, Network] = {}
    for role in ROLES:
        spec = opened.bundle.graph(role, "fp16")
        model = onnx.load(opened.path(spec.file))
        surveyed = survey(model)
        found[role] = Network(spec, model, surveyed.layers, surveyed.left_out, {})
    return found


def test_every_step_and_every_latent_frame_is_heard(typed_tiny: Path) -> None:
    opened = open_bundle(typed_tiny)
    made: list[int] = []
    heard = capture(Stage(opened), networks(opened), SHOTS, made.append)
    assert made == [1, 2]
    steps, latent_frames = len(opened.bundle.sampler.sigmas), 3
    assert heard["denoiser"].runs == 2 * steps
    assert heard["vae_decoder"].runs == 2 * latent_frames
    # Both sampler steps are among the kept calls, and they are of different clips.
    calls = heard["denoiser"].calls
    scale = opened.bundle.sampler.timestep_scale
    assert [float(call.inputs["timesteps"][0, 0]) for call in calls] == [
        scale * sigma for sigma in opened.bundle.sampler.sigmas
    ]
    # The decoder's second call is given the state that its first one left.
    first, second = heard["vae_decoder"].calls[:2]
    assert not first.inputs["state_0"].any()
    assert second.inputs["state_0"].any()
    # A tensor that is only an output of the graph and one that is read within are both there.
    assert set(heard["vae_decoder"].statistics) == {"both", "joined_up", "bent_up"}


def test_the_statistics_are_those_of_the_tensors(typed_tiny: Path) -> None:
    opened = open_bundle(typed_tiny)
    spec = opened.bundle.graph("denoiser", "fp16")
    model = onnx.load(opened.path(spec.file))
    layers = survey(model).layers
    listener = Listener(layers)
    listener.next_clip()
    seen: list[np.ndarray] = []

    def watch(inputs: Tensors, outputs: Tensors) -> None:
        seen.append(outputs["bent"])
        listener.watch(inputs, outputs)

    engine = ModelEngine(model, spec, taps=listener.taps, watch=watch)
    rng = np.random.default_rng(0)
    for _ in range(12):
        inputs = {
            "latents": rng.standard_normal((1, 4, 3, 6, 8)).astype(np.float32),
            "timesteps": np.full((1, 3), 900, np.float32),
            "text_states": rng.standard_normal((1, 7, 384)).astype(np.float32),
        }
        assert engine.run(inputs).keys() == {"velocity"}
    heard = listener.heard()
    whole = np.abs(np.concatenate(seen).astype(np.float32))
    statistics = heard.statistics["bent"]
    assert statistics.histogram.amax == whole.max()
    assert statistics.histogram.counts.sum() + statistics.histogram.zeros == whole.size
    assert (statistics.channel_amax == whole.reshape(-1, 64).max(axis=0)).all()
    # What is kept does not grow with the number of calls.
    assert len(heard.calls) == KEPT_CALLS
    assert all(len(rows) == RESERVOIR_ROWS for rows in heard.rows.values())


def test_an_overflow_is_named(typed_tiny: Path) -> None:
    opened = open_bundle(typed_tiny)
    spec = opened.bundle.graph("denoiser", "fp16")
    model = onnx.load(opened.path(spec.file))
    listener = Listener(survey(model).layers)
    engine = ModelEngine(model, spec, taps=listener.taps, watch=listener.watch)
    inputs = {
        "latents": np.full((1, 4, 3, 6, 8), 60000, np.float32),
        "timesteps": np.zeros((1, 3), np.float32),
        "text_states": np.full((1, 7, 384), 60000, np.float32),
    }
    with pytest.raises(CalibrationError, match="overflows float16 on a calibration prompt"):
        engine.run(inputs)
