from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from animatic_export.weights import (
    read_weights,
    store_bfloat16,
    store_half,
    store_int8,
    stored_bytes,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnx import ModelProto

    Store = Callable[[ir.Model], ir.Model]

RNG = np.random.default_rng(0)
TABLE = RNG.standard_normal((96, 128)).astype(np.float32)
MATRIX = RNG.standard_normal((128, 48)).astype(np.float32)
BIAS = RNG.standard_normal(48).astype(np.float32)
EXACT_TABLE, EXACT_MATRIX = (
    RNG.integers(-128, 128, array.shape).astype(np.float32) / 64 for array in (TABLE, MATRIX)
)
"""Eight bits and less: float16 and bfloat16 hold them."""


def embedding_then_matrix(table: np.ndarray, matrix: np.ndarray) -> ModelProto:
    """Rows of a table, times a matrix, plus BIAS."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], axis=0),
        helper.make_node("MatMul", ["rows", "matrix.T"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["b", "n"])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["b", "n", 48])],
        [
            numpy_helper.from_array(table, "table"),
            numpy_helper.from_array(matrix, "matrix.T"),
            numpy_helper.from_array(BIAS, "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def narrow(
    store: Store, table: np.ndarray = EXACT_TABLE, matrix: np.ndarray = EXACT_MATRIX
) -> ModelProto:
    model = ir.to_proto(store(ir.from_proto(embedding_then_matrix(table, matrix))))
    onnx.checker.check_model(model)
    return model


def run(model: ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    out = session.run(None, {"ids": np.arange(96)[None]})[0]
    first: np.ndarray = np.asarray(out)[0]
    return first


def stored(model: ModelProto) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in model.graph.initializer}


@pytest.mark.parametrize("store", [store_half, store_bfloat16])
def test_half_precision_of_what_it_holds_changes_nothing(store: Store) -> None:
    wanted = EXACT_TABLE @ EXACT_MATRIX + BIAS
    # In float32, whose sums of 128 products come in another order.
    assert np.linalg.norm(run(narrow(store)) - wanted) / np.linalg.norm(wanted) < 1e-6


def test_int8_computes_nearly_the_same() -> None:
    wanted = TABLE @ MATRIX + BIAS
    made = run(narrow(store_int8, TABLE, MATRIX))
    # Half a step, of which the largest of 64 weights is 127, over weights and sums.
    assert 0 < np.linalg.norm(made - wanted) / np.linalg.norm(wanted) < 1.5e-2


def test_what_half_precision_does_not_hold_stays_as_it_is() -> None:
    floats = {"table": TensorProto.FLOAT, "bias": TensorProto.FLOAT}
    half = stored(narrow(store_half, table=EXACT_TABLE * 1e5))
    assert half == floats | {"matrix.T.half": TensorProto.FLOAT16}
    bfloat = stored(narrow(store_bfloat16, table=TABLE))
    assert bfloat == floats | {"matrix.T.bfloat16": TensorProto.BFLOAT16}


def test_half_stores_large_weights_as_float16_and_leaves_biases() -> None:
    model = narrow(store_half)
    assert stored(model) == {
        "table.half": TensorProto.FLOAT16,
        "matrix.T.half": TensorProto.FLOAT16,
        "bias": TensorProto.FLOAT,
    }
    assert [node.op_type for node in model.graph.node] == [
        "Cast",
        "Cast",
        "Gather",
        "MatMul",
        "Add",
    ]


def test_int8_gathers_narrow_rows() -> None:
    model = narrow(store_int8)
    assert stored(model)["table.int8"] == TensorProto.INT8
    gathers = [node.input[0] for node in model.graph.node if node.op_type == "Gather"]
    assert sorted(gathers) == ["table.int8", "table.scale"]


def test_int8_is_symmetric_and_uses_nearly_the_whole_range() -> None:
    arrays = {
        t.name: numpy_helper.to_array(t)
        for t in narrow(store_int8, TABLE, MATRIX).graph.initializer
    }
    largest = np.abs(arrays["matrix.T.int8"].astype(int)).max(axis=1)
    assert largest.min() >= 126
    assert largest.max() <= 127


def test_int8_convolves_nearly_the_same_and_reads_back_as_a_kernel() -> None:
    kernel = RNG.standard_normal((24, 16, 3, 3)).astype(np.float32)
    value, out = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", channels, 9, 7])
        for name, channels in (("x", 16), ("out", 24))
    )
    node = helper.make_node("Conv", ["x", "kernel"], ["out"], pads=[1, 1, 1, 1])
    weights = [numpy_helper.from_array(kernel, "kernel")]
    graph = helper.make_graph([node], "g", [value], [out], weights)
    wide = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    packed = ir.to_proto(store_int8(ir.from_proto(wide)))
    assert stored(packed)["kernel.int8"] == TensorProto.INT8
    x = RNG.standard_normal((2, 16, 9, 7)).astype(np.float32)
    wanted, made = (
        np.asarray(onnxruntime.InferenceSession(m.SerializeToString()).run(None, {"x": x})[0])
        for m in (wide, packed)
    )
    # As of matrices: half a step of 127 for the largest of a group.
    assert 0 < np.linalg.norm(made - wanted) / np.linalg.norm(wanted) < 1.5e-2
    read = read_weights(packed)["kernel"]
    assert read.shape == kernel.shape
    assert np.linalg.norm(read - kernel) / np.linalg.norm(kernel) < 1e-2


def test_a_narrow_weight_is_not_kept() -> None:
    model = store_bfloat16(ir.from_proto(embedding_then_matrix(EXACT_TABLE, EXACT_MATRIX)))
    kept = model.graph.initializers["table.bfloat16"].const_value
    assert isinstance(kept, ir.LazyTensor)
    assert kept.nbytes == EXACT_TABLE.nbytes / 2
    assert kept.numpy() is not kept.numpy()


@pytest.mark.parametrize("store", [store_half, store_bfloat16, store_int8])
def test_weights_are_read_back_under_their_torch_names(store: Store) -> None:
    weights = read_weights(narrow(store))
    assert list(weights) == ["table", "matrix", "bias"]
    wanted: dict[str, np.ndarray]
    wanted = {"table": EXACT_TABLE, "matrix": EXACT_MATRIX.T, "bias": BIAS}
    for name, array in weights.items():
        assert array.dtype == np.float32
        assert array.flags.c_contiguous
        off = np.linalg.norm(array - wanted[name]) / np.linalg.norm(wanted[name])
        assert off <= (1e-2 if store is store_int8 and name != "bias" else 0)


def test_the_size_of_a_graph_is_known_before() -> None:
    module = nn.Linear(128, 48, bias=False)
    sizes = [stored_bytes(module, p) for p in ("fp32", "bf16-weights", "int8-weights", "fp16")]
    assert sizes == [24576, 12288, 6144, 24576]
    assert stored_bytes(module.half(), "fp16") == 12288
