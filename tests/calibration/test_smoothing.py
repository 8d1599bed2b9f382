from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from animatic_calibration.formats import FORMATS
from animatic_calibration.layer_error import choose_smoothing
from animatic_calibration.layers import survey, to_matrix
from animatic_calibration.smoothing import apply_smoothing, groups, smoothing_factors
from animatic_calibration.split_products import split_products
from tests.calibration.running import decoder_inputs, denoiser_inputs, run, snr
from tests.calibration.typed_model import decoder_model, denoiser_model

if TYPE_CHECKING:
    from collections.abc import Callable

INT8 = FORMATS["int8"]


def factors_for(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Factors between 1/8 and 8, another for every channel of every activation."""
    rng = np.random.default_rng(5)
    return {
        name: np.exp2(rng.integers(-3, 4, group[0].channels[0])).astype(np.float32)
        for name, group in groups(survey(model).layers).items()
    }


def test_the_factors_are_those_of_the_paper() -> None:
    s = smoothing_factors(np.array([16.0, 1.0]), np.array([1.0, 4.0]), 0.5)
    assert s == pytest.approx([4.0, 0.5], rel=1e-3)


def test_dead_channels_are_left_alone() -> None:
    s = smoothing_factors(np.array([0.0, 3.0, 2.0]), np.array([1.0, 0.0, 2.0]), 0.5)
    assert s == pytest.approx([1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("make", "inputs", "output"),
    [
        (denoiser_model, denoiser_inputs, "velocity"),
        (decoder_model, decoder_inputs, "frames"),
    ],
)
def test_the_function_stays_the_same(
    make: Callable[[], onnx.ModelProto],
    inputs: Callable[[], dict[str, np.ndarray]],
    output: str,
) -> None:
    model = split_products(make())
    layers = survey(model).layers
    smoothed = apply_smoothing(model, layers, factors_for(model))
    onnx.checker.check_model(smoothed, full_check=True)
    # Powers of two: nothing is rounded, so only the order of sums can differ.
    given = run(smoothed, inputs())[output]
    assert snr(given, run(model, inputs())[output]) > 60


def test_a_layer_before_takes_the_division_where_it_can() -> None:
    model = decoder_model()
    smoothed = apply_smoothing(model, survey(model).layers, factors_for(model))
    read = {layer.name: layer.activation for layer in survey(smoothed).layers}
    # A ReLU and a bias stand before these two, a Concat with a state before the other.
    assert read == {"join": "both/smoothed", "middle": "joined_up", "last": "bent_up"}
    added = [node.op_type for node in smoothed.graph.node].count("Mul")
    assert added == 1 + [node.op_type for node in model.graph.node].count("Mul")


def test_nothing_is_folded_where_somebody_else_reads() -> None:
    model = decoder_model()
    layers = [layer for layer in survey(model).layers if layer.name == "middle"]
    model.graph.output.append(helper.make_empty_tensor_value_info("joined_up"))
    smoothed = apply_smoothing(model, layers, factors_for(decoder_model()))
    read = {layer.name: layer.activation for layer in survey(smoothed).layers}
    assert read["middle"] == "joined_up/smoothed"


def test_a_shared_weight_is_changed_for_one_reader_only() -> None:
    rng = np.random.default_rng(0)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["a"]),
            helper.make_node("Gelu", ["a"], ["b"]),
            helper.make_node("MatMul", ["b", "w"], ["y"]),
        ],
        "shared",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT16, [4, 32])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT16, [4, 32])],
        [numpy_helper.from_array((rng.standard_normal((32, 32)) / 6).astype(np.float16), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    x = {"x": rng.standard_normal((4, 32)).astype(np.float16)}
    smoothed = apply_smoothing(model, survey(model).layers, factors_for(model))
    onnx.checker.check_model(smoothed, full_check=True)
    assert snr(run(smoothed, x)["y"], run(model, x)["y"]) > 60


def test_a_loud_channel_is_worth_smoothing_and_an_even_tensor_is_not() -> None:
    model = denoiser_model()
    layer = next(layer for layer in survey(model).layers if layer.name == "up")
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    matrices = {layer.output: to_matrix(layer, weights[layer.weight])}
    rows = np.random.default_rng(0).standard_normal((256, 32)).astype(np.float32)
    peaks = np.abs(rows).max(axis=0)
    even = choose_smoothing([layer], {layer.output: rows}, matrices, peaks, INT8)
    assert even is None or even.gain < 2
    rows[:, 3] *= 100
    peaks = np.abs(rows).max(axis=0)
    # The loud channel hardly matters to the output.
    matrices[layer.output][3] /= 1000
    loud = choose_smoothing([layer], {layer.output: rows}, matrices, peaks, INT8)
    assert loud is not None
    assert loud.gain > 10


def test_layers_that_give_nothing_need_no_smoothing() -> None:
    model = denoiser_model()
    layer = next(layer for layer in survey(model).layers if layer.name == "up")
    zeros = np.zeros((8, 32), np.float32)
    matrices = {layer.output: np.ones((32, 64), np.float32)}
    found = choose_smoothing([layer], {layer.output: zeros}, matrices, zeros[0], INT8)
    assert found is None
