"""Small graphs run as they are, for comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from animatic.bundle import GraphSpec, TensorSpec
from animatic_calibration.engine import ModelEngine
from animatic_calibration.fidelity import decibel
from tests.calibration.typed_model import WIDTH
from tests.runtime.tiny_bundle import CHANNELS

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

    Arrays = dict[str, npt.NDArray[Any]]


def run(model: onnx.ModelProto, inputs: Arrays, taps: tuple[str, ...] = ()) -> Arrays:
    """Every output of a graph, and the tapped tensors."""
    outputs = tuple(
        TensorSpec(name=value.name, dtype="float32", shape=()) for value in model.graph.output
    )
    spec = GraphSpec(
        role="denoiser", file="-", sha256="0" * 64, precision="-", inputs=(), outputs=outputs
    )
    return ModelEngine(model, spec, taps=taps).run_complete(inputs)


def denoiser_inputs(seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "latents": rng.standard_normal((1, CHANNELS, 3, 6, 8)).astype(np.float32),
        "timesteps": np.full((1, 3), 900, np.float32),
        "text_states": rng.standard_normal((1, 7, 384)).astype(np.float32),
    }


def decoder_inputs(seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "latents": rng.standard_normal((1, CHANNELS, 1, 6, 8)).astype(np.float32),
        "state_0": rng.standard_normal((1, WIDTH, 6, 8)).astype(np.float16),
    }


def snr(made: npt.NDArray[Any], wanted: npt.NDArray[Any]) -> float:
    """In dB."""
    off = made.astype(np.float64) - wanted
    return decibel(float(np.square(wanted, dtype=np.float64).sum()), float(np.square(off).sum()))
