"""Smaller weights in an ONNX file, the same arithmetic: stored narrow, computed in float32.

A weight becomes a narrow initialiser and the nodes that widen it, which ONNX Runtime folds away
when it loads the graph. So a file shrinks to a half or a quarter and no kernel changes: 8-bit
kernels would saturate on processors without VNNI.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

SMALLEST: Final = 2048
"""Elements below which a weight stays as it is: biases, norms, tables of constants."""


def store_half(model: ModelProto) -> ModelProto:
    """Store every large float32 weight as float16."""
    result = _copy(model)
    widen: list[NodeProto] = []
    for tensor in result.graph.initializer:
        if not _is_large(tensor):
            continue
        array = numpy_helper.to_array(tensor)
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}.half"))
        widen.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    _prepend(result, widen)
    return result


def store_int8(model: ModelProto) -> ModelProto:
    """Store every large float32 matrix as symmetric int8 with one scale an output.

    A matrix that is only gathered from (an embedding) is gathered in int8, one scale a row, so
    that it stays narrow in memory too.
    """
    result = _copy(model)
    widen: list[NodeProto] = []
    added: list[TensorProto] = []
    for tensor in list(result.graph.initializer):
        if not _is_large(tensor) or len(tensor.dims) != 2:
            continue
        array = numpy_helper.to_array(tensor)
        name = tensor.name
        users = [node for node in result.graph.node if name in node.input]
        if all(node.op_type == "Gather" and node.input[0] == name for node in users):
            scale = _scale(array, axis=1)
            for node in users:
                _gather_narrow(result, node, name)
        else:
            scale = _scale(array, axis=0)
            widen += [
                helper.make_node("Cast", [f"{name}.int8"], [f"{name}.wide"], to=TensorProto.FLOAT),
                helper.make_node("Mul", [f"{name}.wide", f"{name}.scale"], [name]),
            ]
        narrow = np.clip(np.rint(array / scale), -127, 127).astype(np.int8)
        tensor.CopyFrom(numpy_helper.from_array(narrow, f"{name}.int8"))
        added.append(numpy_helper.from_array(scale.astype(np.float32), f"{name}.scale"))
    result.graph.initializer.extend(added)
    _prepend(result, widen)
    return result


def _copy(model: ModelProto) -> ModelProto:
    result = ModelProto()
    result.CopyFrom(model)
    return result


def _is_large(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) >= SMALLEST


def _scale(array: np.ndarray, axis: int) -> np.ndarray:
    """Return what one step is worth, so that the largest of each row or column is 127 steps."""
    scale: np.ndarray = np.abs(array).max(axis=axis, keepdims=True) / 127
    return np.maximum(scale, 1e-12)


def _gather_narrow(model: ModelProto, node: NodeProto, name: str) -> None:
    """Replace a Gather of floats by one of int8 rows and one of their scales."""
    indices, output = node.input[1], node.output[0]
    parts = [
        helper.make_node("Gather", [f"{name}.int8", indices], [f"{output}.int8"], axis=0),
        helper.make_node("Cast", [f"{output}.int8"], [f"{output}.wide"], to=TensorProto.FLOAT),
        helper.make_node("Gather", [f"{name}.scale", indices], [f"{output}.scale"], axis=0),
        helper.make_node("Mul", [f"{output}.wide", f"{output}.scale"], [output]),
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
