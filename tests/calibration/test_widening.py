from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from animatic_calibration.formats import FORMATS
from animatic_calibration.layers import survey
from animatic_calibration.quantise import quantise
from animatic_calibration.split_products import split_products
from animatic_calibration.widening import widen_late
from tests.calibration.running import decoder_inputs, denoiser_inputs, run, snr
from tests.calibration.typed_model import decoder_model, denoiser_model

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    Inputs = Callable[[], dict[str, np.ndarray]]

GRAPHS = [
    pytest.param(denoiser_model, denoiser_inputs, "velocity", id="denoiser"),
    pytest.param(decoder_model, decoder_inputs, "frames", id="vae_decoder"),
]


def narrow(model: onnx.ModelProto) -> onnx.ModelProto:
    layers = survey(model).layers
    return quantise(model, layers, {layer.activation: 4.0 for layer in layers}, FORMATS["int8"])


@pytest.mark.parametrize(("make", "inputs", "output"), GRAPHS)
@pytest.mark.parametrize(("quantised", "least"), [(False, 55), (True, 30)])
def test_the_function_stays_the_same(
    make: Callable[[], onnx.ModelProto],
    inputs: Inputs,
    output: str,
    quantised: bool,  # noqa: FBT001  # pytest gives it by name
    least: float,
) -> None:
    model = split_products(make())
    model = narrow(model) if quantised else model
    wide = widen_late(model)
    onnx.checker.check_model(wide, full_check=True)
    assert snr(run(wide, inputs())[output], run(model, inputs())[output]) > least


def test_every_product_with_a_weight_is_one_of_float32() -> None:
    model = split_products(denoiser_model())
    wide = widen_late(narrow(model))
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(wide).graph.value_info
    }
    products = [node for node in wide.graph.node if node.op_type == "MatMul"]
    computed = [node for node in products if node.name not in {"scores", "mixed"}]
    assert {kinds[node.output[0]] for node in computed} == {TensorProto.FLOAT}
    assert {kinds[node.output[0]] for node in products} == {TensorProto.FLOAT, TensorProto.FLOAT16}


@pytest.mark.parametrize("quantised", [False, True])
def test_a_weight_is_widened_when_it_is_needed(
    tmp_path: Path,
    quantised: bool,  # noqa: FBT001  # as above
) -> None:
    """By the account that ONNX Runtime gives of a run."""
    model = split_products(denoiser_model())
    wide = widen_late(narrow(model) if quantised else model)
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "run")
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(
        wide.SerializeToString(), options, ["CPUExecutionProvider"]
    )
    session.run(None, denoiser_inputs())
    events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
    order = [event["name"].removesuffix("_kernel_time") for event in events]
    order = [name for name in order if any(name == node.name for node in wide.graph.node)]
    weight = "down.weight.T" + ("/dequantised" if quantised else "")
    assert order.index("proj") < order.index("up") < order.index(f"{weight}/wide")
    assert order.index(f"{weight}/wide") < order.index("down")
