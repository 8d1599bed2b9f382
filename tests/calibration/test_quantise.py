from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from animatic_calibration.errors import CalibrationError
from animatic_calibration.formats import FORMATS
from animatic_calibration.layers import survey
from animatic_calibration.quantise import quantise
from animatic_calibration.split_products import split_products
from tests.calibration.running import decoder_inputs, denoiser_inputs, run, snr
from tests.calibration.typed_model import LAYERS, decoder_model, denoiser_model

if TYPE_CHECKING:
    from collections.abc import Callable

    Inputs = Callable[[], dict[str, np.ndarray]]

GRAPHS = [
    pytest.param(denoiser_model, denoiser_inputs, "velocity", id="denoiser"),
    pytest.param(decoder_model, decoder_inputs, "frames", id="vae_decoder"),
]


def quantised(make: Callable[[], onnx.ModelProto], inputs: Inputs, name: str) -> onnx.ModelProto:
    """The graph with every layer narrow, each clipped at the largest value of one run."""
    model = split_products(make())
    layers = survey(model).layers
    taps = tuple({layer.activation for layer in layers})
    seen = run(model, inputs(), taps)
    amax = {tap: float(np.abs(seen[tap]).max()) for tap in taps}
    made = quantise(model, layers, amax, FORMATS[name])
    onnx.checker.check_model(made, full_check=True)
    return made


@pytest.mark.parametrize(("make", "inputs", "output"), GRAPHS)
@pytest.mark.parametrize(("name", "least"), [("int8", 25), ("fp8", 15)])
def test_the_graph_runs_and_stays_close(
    make: Callable[[], onnx.ModelProto], inputs: Inputs, output: str, name: str, least: float
) -> None:
    wanted = run(make(), inputs())[output]
    given = run(quantised(make, inputs, name), inputs())[output]
    assert least < snr(given, wanted) < 60  # and it is not simply the same graph


@pytest.mark.parametrize(("make", "inputs", "output"), GRAPHS)
def test_measurements_do_not_depend_on_fused_kernels(
    make: Callable[[], onnx.ModelProto], inputs: Inputs, output: str
) -> None:
    import onnxruntime

    made = quantised(make, inputs, "int8")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    plain = onnxruntime.InferenceSession(
        made.SerializeToString(), options, ["CPUExecutionProvider"]
    )
    (wanted,) = plain.run([output], inputs())
    assert snr(run(made, inputs())[output], wanted) > 50


@pytest.mark.parametrize(("make", "inputs", "output"), GRAPHS)
def test_inputs_and_outputs_are_as_before(
    make: Callable[[], onnx.ModelProto], inputs: Inputs, output: str
) -> None:
    made = quantised(make, inputs, "int8")
    assert list(made.graph.input) == list(make().graph.input)
    assert list(made.graph.output) == list(make().graph.output)
    assert output in {value.name for value in made.graph.output}


@pytest.mark.parametrize(
    ("name", "kind"), [("int8", TensorProto.INT8), ("fp8", TensorProto.FLOAT8E4M3FN)]
)
def test_weights_are_stored_narrow_and_all_is_symmetric(name: str, kind: int) -> None:
    made = quantised(denoiser_model, denoiser_inputs, name)
    tensors = {tensor.name: tensor for tensor in made.graph.initializer}
    for layer in LAYERS["denoiser"]:
        assert tensors[f"{layer}.weight.T/quantised"].data_type == kind
        assert f"{layer}.weight.T" not in tensors
    scales = {name: t for name, t in tensors.items() if name.endswith("/scale")}
    assert {tensor.data_type for tensor in scales.values()} == {TensorProto.FLOAT16}
    zeros = [t for name, t in tensors.items() if name.endswith("/zero")]
    assert {tensor.data_type for tensor in zeros} == {kind}
    assert not any(numpy_helper.to_array(t).astype(np.float32).any() for t in zeros)


def test_weights_have_a_scale_for_each_output_and_activations_one_without_an_axis() -> None:
    made = quantised(decoder_model, decoder_inputs, "int8")
    shapes = {
        tensor.name.removesuffix("/scale"): list(tensor.dims)
        for tensor in made.graph.initializer
        if tensor.name.endswith("/scale")
    }
    # TensorRT takes [1] for a scale of one channel and then runs convolutions in half precision.
    assert shapes == {
        "join.weight": [32],
        "middle.weight": [32],
        "last.weight": [32],
        "both": [],
        "joined_up": [],
        "bent_up": [],
    }
    axes = {
        node.output[0]: [a.i for a in node.attribute]
        for node in made.graph.node
        if node.op_type == "DequantizeLinear"
    }
    assert axes["join.weight/dequantised"] == [0]
    assert axes["both/dequantised"] == []


def test_every_weight_is_restored_to_half_a_step() -> None:
    made = quantised(denoiser_model, denoiser_inputs, "int8")
    tensors = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    model = split_products(denoiser_model())
    originals = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    scale = tensors["up.weight.T/scale"].astype(np.float32)
    restored = tensors["up.weight.T/quantised"] * scale
    off = np.abs(restored - originals["up.weight.T"])
    # The largest of a channel may be clipped by the rounding of the scale to float16.
    assert (off <= scale * 0.51 + np.abs(originals["up.weight.T"]) * 2**-10).all()


def test_layers_that_read_one_tensor_share_its_pair() -> None:
    made = quantised(denoiser_model, denoiser_inputs, "int8")
    counts = Counter(node.op_type for node in made.graph.node)
    assert counts["QuantizeLinear"] == 4  # of qkv's three, proj, up, down
    assert counts["DequantizeLinear"] == 4 + len(LAYERS["denoiser"])
    readers = [node.name for node in made.graph.node if "x/dequantised" in node.input]
    assert readers == ["qkv.0", "qkv.1", "qkv.2"]


def test_attention_and_narrow_layers_stay_in_half_precision() -> None:
    made = quantised(denoiser_model, denoiser_inputs, "int8")
    by_name = {node.name: list(node.input) for node in made.graph.node}
    assert by_name["scores"] == ["q", "k_t"]
    assert by_name["mixed"] == ["shares", "v"]
    assert by_name["embed"] == ["typed", "embed.weight.T"]
    left_out = survey(denoiser_model()).left_out
    assert left_out["embed"] == "fewer than 32 channels"
    assert left_out["scores"] == "two computed inputs, as in attention"


def test_an_island_in_float32_is_not_touched() -> None:
    found = survey(denoiser_model(np.float32))
    assert found.layers == ()
    assert found.left_out["up"] == "an island in float32"


def test_only_the_chosen_layers_are_quantised() -> None:
    model = decoder_model()
    layers = [layer for layer in survey(model).layers if layer.name == "last"]
    made = quantise(model, layers, {"bent_up": 3.0}, FORMATS["int8"])
    assert [n.name for n in made.graph.node if n.op_type == "QuantizeLinear"] == [
        "bent_up/quantised"
    ]


def test_an_old_opset_is_refused() -> None:
    model = decoder_model()
    model.opset_import[0].version = 17
    with pytest.raises(CalibrationError, match=r"opset 17 .* export it again"):
        quantise(model, survey(model).layers, {}, FORMATS["int8"])


def test_a_product_that_is_cut_becomes_one_for_each_part() -> None:
    model = denoiser_model()
    divided = split_products(model)
    onnx.checker.check_model(divided, full_check=True)
    counts = Counter(node.op_type for node in divided.graph.node)
    assert "Split" not in counts
    assert counts["MatMul"] == 2 + Counter(n.op_type for n in model.graph.node)["MatMul"]
    given = run(divided, denoiser_inputs())["velocity"]
    assert snr(given, run(model, denoiser_inputs())["velocity"]) > 60
    assert {layer.name for layer in survey(divided).layers} == LAYERS["denoiser"]


def test_a_product_that_somebody_reads_whole_is_left() -> None:
    model = denoiser_model()
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info("qkv"))
    divided = split_products(model)
    assert [node.op_type for node in divided.graph.node].count("Split") == 1
