"""What NVIDIA's own compiler makes of the quantised graphs, for a card that is not here."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from animatic_calibration.formats import FORMATS
from animatic_calibration.layers import survey
from animatic_calibration.quantise import quantise
from animatic_calibration.split_products import split_products
from tests.calibration.typed_model import LAYERS, decoder_model, denoiser_model

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx

pytestmark = pytest.mark.slow  # loading the compiler takes longer than compiling


def layer_lines(model: onnx.ModelProto) -> list[str]:
    """Build for an RTX 40, strongly typed; the lines of the layer dump."""
    trt = pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx-cu13")
    messages: list[str] = []

    class Listener(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, _severity: object, message: str) -> None:
            messages.append(message)

    logger = Listener()
    builder = trt.Builder(logger)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model.SerializeToString()), parser.get_error(0)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM89, 0)
    profile = builder.create_optimization_profile()
    for place in range(network.num_inputs):
        tensor = network.get_input(place)
        shape = [1 if size == -1 else size for size in tensor.shape]
        if tensor.name == "text_states":
            shape[1] = 7
        elif -1 in list(tensor.shape)[1:]:
            shape[list(tensor.shape).index(-1, 1)] = 3
        profile.set_shape(tensor.name, shape, shape, shape)
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(network, config) is not None
    dump = "\n".join(messages).rpartition("Layers:")[2]
    return [line for line in dump.splitlines() if line.startswith("Name: ")]


def of_type(lines: list[str], kind: str, dtype: str) -> str:
    """The names of the layers of a kind whose first input has a type, in one line."""
    return " ".join(
        match[1]
        for line in lines
        if (match := re.match(rf"Name: (.*?), LayerType: {kind}, Inputs: (.*?), Constants", line))
        and (types := re.findall(r"Datatype: (\w+)", match[2]))
        and types[0] == dtype
    )


@pytest.mark.parametrize(("name", "dtype"), [("int8", "Int8"), ("fp8", "FP8")])
@pytest.mark.parametrize(
    ("make", "role", "kind"),
    [
        (denoiser_model, "denoiser", "gemm"),
        (decoder_model, "vae_decoder", "correlation"),
    ],
)
def test_every_layer_becomes_narrow(
    make: Callable[[], onnx.ModelProto], role: str, kind: str, name: str, dtype: str
) -> None:
    model = split_products(make())
    layers = survey(model).layers
    amax = {layer.activation: float(np.float32(4)) for layer in layers}
    lines = layer_lines(quantise(model, layers, amax, FORMATS[name]))
    narrow = of_type(lines, kind, dtype)
    assert all(layer in narrow for layer in LAYERS[role]), narrow
