from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from animatic_export.weights import store_half, store_int8

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import ModelProto

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((96, 128)).astype(np.float32)
MATRIX = RNG.standard_normal((128, 48)).astype(np.float32)
BIAS = RNG.standard_normal(48).astype(np.float32)


def embedding_then_matrix() -> ModelProto:
    """Rows of TABLE, times MATRIX, plus BIAS."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], axis=0),
        helper.make_node("MatMul", ["rows", "matrix"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["b", "n"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["b", "n", 48])],
        [
            numpy_helper.from_array(TABLE, "table"),
            numpy_helper.from_array(MATRIX, "matrix"),
            numpy_helper.from_array(BIAS, "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def run(model: ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    out = session.run(None, {"ids": np.arange(96)[None]})[0]
    first: np.ndarray = np.asarray(out)[0]
    return first


def stored(model: ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


@pytest.mark.parametrize(("store", "error"), [(store_half, 1e-3), (store_int8, 1.5e-2)])
def test_narrow_weights_compute_nearly_the_same(
    store: Callable[[ModelProto], ModelProto], error: float
) -> None:
    model = embedding_then_matrix()
    wanted = TABLE @ MATRIX + BIAS
    made = run(store(model))
    assert 0 < np.linalg.norm(made - wanted) / np.linalg.norm(wanted) < error


def test_half_stores_large_weights_as_float16_and_leaves_biases() -> None:
    kinds = stored(store_half(embedding_then_matrix()))
    assert kinds == {
        "table.half": TensorProto.FLOAT16,
        "matrix.half": TensorProto.FLOAT16,
        "bias": TensorProto.FLOAT,
    }


def test_int8_gathers_narrow_rows() -> None:
    model = store_int8(embedding_then_matrix())
    assert stored(model)["table.int8"] == TensorProto.INT8
    gathers = [node.input[0] for node in model.graph.node if node.op_type == "Gather"]
    assert sorted(gathers) == ["table.int8", "table.scale"]


def test_int8_is_symmetric_and_uses_nearly_the_whole_range() -> None:
    model = store_int8(embedding_then_matrix())
    arrays = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    largest = np.abs(arrays["matrix.int8"].astype(int)).max(axis=1)
    assert largest.min() >= 126
    assert largest.max() <= 127


def test_storing_leaves_the_original_alone() -> None:
    model = embedding_then_matrix()
    before = model.SerializeToString(deterministic=True)
    store_half(model)
    store_int8(model)
    assert model.SerializeToString(deterministic=True) == before
    onnx.checker.check_model(model)
