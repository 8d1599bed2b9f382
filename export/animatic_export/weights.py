"""Smaller weights in an ONNX file, the same arithmetic: stored narrow, computed in float32.

A weight becomes a narrow initialiser and the nodes that widen it, which ONNX Runtime folds away
when it loads the graph. So a file shrinks to a half or a quarter and no kernel changes: 8-bit
kernels would saturate on processors without VNNI. Half precision is for what it holds exactly: of
a checkpoint in bfloat16, all but what was changed since, as by a merged LoRA.

The models here are those of onnx_ir, whose weights are the module's own memory until they are
written: narrowing to half is put off until then, so that one weight at a time is held twice.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import onnx_ir as ir
import torch

from animatic_export.stored_weights import StoredWeights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from onnx import ModelProto
    from torch import nn

SMALLEST: Final = 2048
"""Elements below which a weight stays as it is: biases, norms, tables of constants."""
GROUP: Final = 64
"""Weights that share one scale: an outlier spoils the precision of its group alone."""
_BYTES: Final = {"fp16-weights": 2, "bf16-weights": 2, "int8-weights": 1}
"""Of a weight that is stored narrow; elsewhere a weight keeps the width it has."""


class Storage(NamedTuple):
    """How a graph that computes in float32 stores its weights.

    precision: as `animatic.bundle.GraphSpec` names it.
    shrink: changes the model that it is given, and returns it.
    """

    precision: str
    shrink: Callable[[ir.Model], ir.Model]


def storage_of(dtype: torch.dtype) -> Storage:
    """Return the storage that loses nothing of a checkpoint whose tensors are of this type.

    KeyError for another type than float32, bfloat16 and float16.
    """
    return {
        torch.float32: Storage("fp32", store_as_it_is),
        torch.bfloat16: Storage("bf16-weights", store_bfloat16),
        torch.float16: Storage("fp16-weights", store_half),
    }[dtype]


def stored_bytes(module: nn.Module, precision: str) -> int:
    """Tell how many bytes a module's weights take in a graph of this precision, at the least.

    What is too small for narrow storage, or does not fit, is counted as if it were narrow.
    """
    return sum(
        weight.numel() * min(weight.element_size(), _BYTES.get(precision, 8))
        for weight in module.state_dict().values()
    )


def read_weights(model: ModelProto) -> dict[str, np.ndarray]:
    """Return all float32 weights of a model in one piece, under their torch names."""
    return dict(StoredWeights(model, Path()))


def store_as_it_is(model: ir.Model) -> ir.Model:
    """Store every weight in its own type."""
    return model


def store_half(model: ir.Model) -> ir.Model:
    """Store as float16 every large float32 weight that loses nothing by it."""
    return _store_narrow(model, ir.DataType.FLOAT16, "half")


def store_bfloat16(model: ir.Model) -> ir.Model:
    """Store as bfloat16 every large float32 weight that loses nothing by it."""
    return _store_narrow(model, ir.DataType.BFLOAT16, "bfloat16")


def _store_narrow(model: ir.Model, dtype: ir.DataType, ending: str) -> ir.Model:
    stored: list[ir.Value] = []
    widen: list[ir.Node] = []
    for value, tensor in _taken_out(model):
        if not _is_large(tensor) or not _fits(tensor.numpy(), dtype):
            stored.append(value)
            continue
        narrow = ir.LazyTensor(
            partial(_narrowed, tensor, dtype), dtype, ir.Shape(tensor.shape.numpy())
        )
        stored.append(_constant(f"{value.name}.{ending}", narrow))
        widen.append(_cast(stored[-1], value))
    _put_back(model, stored, widen)
    return model


def _fits(array: np.ndarray, dtype: ir.DataType) -> bool:
    """Whether a type holds float32 values exactly."""
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and so differs
        return np.array_equal(array.astype(dtype.numpy()).astype(np.float32), array)


def _narrowed(tensor: ir.TensorProtocol, dtype: ir.DataType) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(dtype.numpy()))


def store_int8(model: ir.Model) -> ir.Model:
    """Store every large float32 weight as symmetric int8 with a scale for every `GROUP` of it.

    Groups run along the summed axis of a matrix product, and of a convolution along all that is
    summed for one channel. A matrix that is only gathered from (an embedding) has its groups along
    its rows and is gathered in int8, so that it stays narrow in memory too.
    """
    stored: list[ir.Value] = []
    added: list[ir.Value] = []
    widen: list[ir.Node] = []
    for value, tensor in _taken_out(model):
        users = [(use.node, use.idx) for use in value.uses()]
        gathered = all(node.op_type == "Gather" and index == 0 for node, index in users)
        convolved = bool(users) and all(n.op_type == "Conv" and i == 1 for n, i in users)
        if not _is_large(tensor) or not (convolved or len(tensor.shape) == 2):
            stored.append(value)
            continue
        array = np.ascontiguousarray(tensor.numpy())
        name, kernel = value.name, array.shape
        array = array.reshape(len(array), -1)
        rows, columns = array.shape
        if gathered or convolved:
            grouped = array.reshape(rows, -1, _group(columns))
            scale = _scale(grouped, axis=2)
            shape = [0, 0, columns] if gathered else list(kernel)
        else:
            grouped = array.reshape(-1, _group(rows), columns)
            scale = _scale(grouped, axis=1)
            shape = [rows, columns]
        narrow = np.clip(np.rint(grouped / scale.astype(np.float32)), -127, 127).astype(np.int8)
        packed = _Packed(
            narrow=_constant(f"{name}.int8", ir.tensor(narrow)),
            scale=_constant(f"{name}.scale", ir.tensor(scale)),
            shape=_constant(f"{name}.shape", ir.tensor(np.array(shape, np.int64))),
        )
        stored.append(packed.narrow)
        added += [packed.shape, packed.scale]
        if gathered:
            for node, _ in users:
                _gather_narrow(model.graph, node, packed)
        else:
            widen += _widened(packed.narrow, packed.scale, packed.shape, value)
    _put_back(model, [*stored, *added], widen)
    return model


class _Packed(NamedTuple):
    """A matrix in int8, what a step of each group is worth, and the shape of the float32 one."""

    narrow: ir.Value
    scale: ir.Value
    shape: ir.Value


def _taken_out(model: ir.Model) -> Iterable[tuple[ir.Value, ir.TensorProtocol]]:
    """Empty the initialisers of a model, in their order, so that nodes may produce them.

    What is still to be an initialiser is `_put_back`.
    """
    values = list(model.graph.initializers.values())
    model.graph.initializers.clear()
    for value in values:
        if value.const_value is None:
            raise TypeError(value)  # a bug: an initialiser without a value
        yield value, value.const_value


def _put_back(model: ir.Model, stored: list[ir.Value], widen: list[ir.Node]) -> None:
    for value in stored:
        model.graph.initializers.add(value)
    if widen:
        model.graph.insert_before(model.graph[0], widen)


def _constant(name: str, tensor: ir.TensorProtocol) -> ir.Value:
    return ir.Value(name=name, const_value=tensor)


def _cast(narrow: ir.Value, wide: ir.Value) -> ir.Node:
    """Give the node that makes a value, which must have been taken out, from a narrow one."""
    wide.const_value = None
    to = ir.AttrInt64("to", int(ir.DataType.FLOAT))
    return _node("Cast", [narrow], wide, [to])


def _node(
    kind: str, inputs: list[ir.Value], output: ir.Value, attributes: Iterable[ir.Attr] = ()
) -> ir.Node:
    return ir.Node("", kind, inputs, attributes, outputs=[output], name="")


def _widened(narrow: ir.Value, scale: ir.Value, shape: ir.Value, output: ir.Value) -> list[ir.Node]:
    """Nodes from int8 and its scales to float32 of the given shape."""
    wide, step, grouped = (
        ir.Value(name=f"{output.name}.{part}") for part in ("wide", "step", "grouped")
    )
    output.const_value = None
    return [
        _cast(narrow, wide),
        _cast(scale, step),
        _node("Mul", [wide, step], grouped),
        _node("Reshape", [grouped, shape], output),
    ]


def _gather_narrow(graph: ir.Graph, node: ir.Node, packed: _Packed) -> None:
    """Replace a Gather of floats by one of int8 rows and one of their scales."""
    indices, old = node.inputs[1], node.outputs[0]
    if indices is None:
        raise TypeError(node)  # a bug: ONNX has no Gather without
    new, rows, scales = (ir.Value(name=f"{old.name}{ending}") for ending in ("", ".int8", ".scale"))
    parts = [
        _node("Gather", [packed.narrow, indices], rows, [ir.AttrInt64("axis", 0)]),
        _node("Gather", [packed.scale, indices], scales, [ir.AttrInt64("axis", 0)]),
        *_widened(rows, scales, packed.shape, new),
    ]
    ir.convenience.replace_nodes_and_values(graph, node, [node], parts, [old], [new])


def _is_large(tensor: ir.TensorProtocol) -> bool:
    return tensor.dtype == ir.DataType.FLOAT and tensor.size >= SMALLEST


def _group(length: int) -> int:
    return GROUP if length % GROUP == 0 else length


def _scale(grouped: np.ndarray, axis: int) -> np.ndarray:
    """Return what one step is worth, float16, so that a group's largest weight is 127 steps."""
    steps = np.abs(grouped).max(axis=axis, keepdims=True) / 127
    # Rounded up in float16, so that the largest weight never needs a 128th step.
    half = np.nextafter(steps.astype(np.float16), np.float16(np.inf))
    return np.maximum(half, np.float16(1e-6))
