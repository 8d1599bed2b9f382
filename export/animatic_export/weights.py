"""Smaller weights in an ONNX file, the same arithmetic: stored narrow, computed in float32.

A weight becomes a narrow initialiser and the nodes that widen it, which ONNX Runtime folds away
when it loads the graph. So a file shrinks to a half or a quarter and no kernel changes: 8-bit
kernels would saturate on processors without VNNI.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import ml_dtypes
import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from collections.abc import Callable

SMALLEST: Final = 2048
"""Elements below which a weight stays as it is: biases, norms, tables of constants."""
_FLOATS: Final = (np.float32, np.float16, ml_dtypes.bfloat16)
GROUP: Final = 64
"""Weights that share one scale: an outlier spoils the precision of its group alone."""


class Storage(NamedTuple):
    """How a graph that computes in float32 stores its weights.

    precision: as `animatic.bundle.GraphSpec` names it.
    """

    precision: str
    shrink: Callable[[ModelProto], ModelProto]


def storage_of(dtype: torch.dtype) -> Storage:
    """Return the storage that loses nothing of a checkpoint whose tensors are of this type.

    KeyError for another type than float32, bfloat16 and float16.
    """
    return {
        torch.float32: Storage("fp32", store_as_it_is),
        torch.bfloat16: Storage("bf16-weights", store_bfloat16),
        torch.float16: Storage("fp16-weights", store_half),
    }[dtype]


def store_as_it_is(model: ModelProto) -> ModelProto:
    """Store every weight in its own type."""
    return model


def store_half(model: ModelProto) -> ModelProto:
    """Store every large float32 weight as float16."""
    return _store_narrow(model, np.dtype(np.float16), "half")


def store_bfloat16(model: ModelProto) -> ModelProto:
    """Store every large float32 weight as bfloat16."""
    return _store_narrow(model, np.dtype(ml_dtypes.bfloat16), "bfloat16")


def _store_narrow(model: ModelProto, dtype: np.dtype[np.generic], ending: str) -> ModelProto:
    result = _copy(model)
    widen: list[NodeProto] = []
    for tensor in result.graph.initializer:
        if not _is_large(tensor):
            continue
        array = numpy_helper.to_array(tensor)
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(array.astype(dtype), f"{name}.{ending}"))
        widen.append(helper.make_node("Cast", [f"{name}.{ending}"], [name], to=TensorProto.FLOAT))
    _prepend(result, widen)
    return result


def read_weights(model: ModelProto) -> dict[str, np.ndarray]:
    """Return the float32 weights of a graph that was stored narrow, under their torch names."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights: dict[str, np.ndarray] = {}
    for full_name, array in stored.items():
        name = full_name.removesuffix(".half").removesuffix(".int8").removesuffix(".bfloat16")
        if array.dtype == np.int8:
            wide = array.astype(np.float32) * stored[f"{name}.scale"].astype(np.float32)
            # The shape is (rows, columns), or (0, 0, columns) of gathered rows.
            array = wide.reshape(-1, int(stored[f"{name}.shape"][-1]))  # noqa: PLW2901
        elif array.dtype not in _FLOATS or name.endswith(".scale"):
            continue
        wide = array.astype(np.float32)
        weights[name.removesuffix(".T")] = wide.T if name.endswith(".T") else wide
    return weights


def store_int8(model: ModelProto) -> ModelProto:
    """Store every large float32 matrix as symmetric int8 with a scale for every `GROUP` weights.

    Groups run along the summed axis of a matrix product. A matrix that is only gathered from (an
    embedding) has its groups along its rows and is gathered in int8, so that it stays narrow in
    memory too.
    """
    result = _copy(model)
    widen: list[NodeProto] = []
    added: list[TensorProto] = []
    for tensor in list(result.graph.initializer):
        if not _is_large(tensor) or len(tensor.dims) != 2:
            continue
        array = numpy_helper.to_array(tensor)
        name, (rows, columns) = tensor.name, array.shape
        users = [node for node in result.graph.node if name in node.input]
        gathered = all(node.op_type == "Gather" and node.input[0] == name for node in users)
        if gathered:
            grouped = array.reshape(rows, -1, _group(columns))
            scale = _scale(grouped, axis=2)
            for node in users:
                _gather_narrow(result, node, name)
            added.append(_shape(f"{name}.shape", (0, 0, columns)))
        else:
            grouped = array.reshape(-1, _group(rows), columns)
            scale = _scale(grouped, axis=1)
            widen += _widened(f"{name}.int8", f"{name}.scale", name, f"{name}.shape", name)
            added.append(_shape(f"{name}.shape", (rows, columns)))
        narrow = np.clip(np.rint(grouped / scale.astype(np.float32)), -127, 127).astype(np.int8)
        tensor.CopyFrom(numpy_helper.from_array(narrow, f"{name}.int8"))
        added.append(numpy_helper.from_array(scale, f"{name}.scale"))
    result.graph.initializer.extend(added)
    _prepend(result, widen)
    return result


def _group(length: int) -> int:
    return GROUP if length % GROUP == 0 else length


def _shape(name: str, shape: tuple[int, ...]) -> TensorProto:
    return numpy_helper.from_array(np.array(shape, np.int64), name)


def _widened(narrow: str, scale: str, stem: str, shape: str, output: str) -> list[NodeProto]:
    """Nodes from int8 and its scales to float32 of the given shape."""
    return [
        helper.make_node("Cast", [narrow], [f"{stem}.wide"], to=TensorProto.FLOAT),
        helper.make_node("Cast", [scale], [f"{stem}.step"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{stem}.wide", f"{stem}.step"], [f"{stem}.grouped"]),
        helper.make_node("Reshape", [f"{stem}.grouped", shape], [output]),
    ]


def _copy(model: ModelProto) -> ModelProto:
    result = ModelProto()
    result.CopyFrom(model)
    return result


def _is_large(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) >= SMALLEST


def _scale(grouped: np.ndarray, axis: int) -> np.ndarray:
    """Return what one step is worth, float16, so that a group's largest weight is 127 steps."""
    steps = np.abs(grouped).max(axis=axis, keepdims=True) / 127
    # Rounded up in float16, so that the largest weight never needs a 128th step.
    half = np.nextafter(steps.astype(np.float16), np.float16(np.inf))
    return np.maximum(half, np.float16(1e-6))


def _gather_narrow(model: ModelProto, node: NodeProto, name: str) -> None:
    """Replace a Gather of floats by one of int8 rows and one of their scales."""
    indices, output = node.input[1], node.output[0]
    parts = [
        helper.make_node("Gather", [f"{name}.int8", indices], [f"{output}.int8"], axis=0),
        helper.make_node("Gather", [f"{name}.scale", indices], [f"{output}.scale"], axis=0),
        *_widened(f"{output}.int8", f"{output}.scale", output, f"{name}.shape", output),
    ]
    place = list(model.graph.node).index(node)
    nodes = [*model.graph.node[:place], *parts, *model.graph.node[place + 1 :]]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _prepend(model: ModelProto, nodes: list[NodeProto]) -> None:
    following = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *following])
    onnx.checker.check_model(model)
