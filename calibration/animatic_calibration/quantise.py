"""Explicit quantisation: QuantizeLinear and DequantizeLinear on a typed float16 graph.

A layer's activation passes a pair, one scale for the tensor; several layers that read one tensor
share the pair. Its weight is stored narrow with DequantizeLinear alone. Every scale is float16, so
whatever is not quantised stays float16 and the graph stays strongly typed: a compiler puts the
pairs and the product together into one narrow kernel, and has nothing left to decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ml_dtypes  # noqa: F401, registers float8 with NumPy
import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from animatic_calibration.errors import CalibrationError
from animatic_calibration.layers import to_matrix
from animatic_calibration.rebuild import rebuild
from animatic_calibration.weights import IN_GRAPH, Weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from animatic_calibration.formats import Format
    from animatic_calibration.layers import Layer

__all__ = ["MIN_OPSET", "quantise", "weight_scale"]

MIN_OPSET = 19
"""The first in which scales may be float16 and values float8."""


def weight_scale(matrix: npt.NDArray[np.float32], format_: Format) -> npt.NDArray[np.float16]:
    """Return a weight's scale: float16 [out], or [] where the format has one for the tensor.

    matrix: float32 [in, out]. No weight is clipped.
    """
    if format_.per_channel:
        return format_.scale(np.abs(matrix).max(axis=0))
    return format_.scale(np.abs(matrix).max())


def quantise(
    model: ModelProto,
    layers: Iterable[Layer],
    amax: Mapping[str, float],
    format_: Format,
    weights: Weights = IN_GRAPH,
) -> ModelProto:
    """Return a copy of a float16 graph in which the given layers compute in a narrow format.

    amax: for each activation the largest magnitude that is not clipped. weights: where the graph's
        constants are.
    """
    opset = next((o.version for o in model.opset_import if o.domain in {"", "ai.onnx"}), 0)
    if opset < MIN_OPSET:
        raise CalibrationError(
            f"The graph has opset {opset} and float16 scales need {MIN_OPSET}; export it again "
            "with the present `animatic export`."
        )
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    chosen = {layer.output: layer for layer in layers}
    pairs = _Pairs(amax, format_, weights)
    nodes: list[NodeProto] = []
    for node in graph.node:
        layer = chosen.get(node.output[0])
        if layer:
            nodes += pairs.activation(layer.activation)
            nodes += pairs.weight(layer, constants[node.input[1]])
            node.input[0] = pairs.restored(layer.activation)
            node.input[1] = pairs.restored(layer.weight)
        nodes.append(node)
    rebuild(graph, nodes, [*constants.values(), *pairs.constants])
    return result


class _Pairs:
    """The nodes and constants that quantisation adds, each once."""

    def __init__(self, amax: Mapping[str, float], format_: Format, weights: Weights) -> None:
        self.constants: list[TensorProto] = []
        self._weights = weights
        self._amax = amax
        self._format = format_
        self._done: set[str] = set()

    @staticmethod
    def restored(name: str) -> str:
        """The name of a tensor after its pair."""
        return f"{name}/dequantised"

    def activation(self, name: str) -> list[NodeProto]:
        """The pair of an activation, or nothing if it stands already."""
        if name in self._done:
            return []
        self._done.add(name)
        scale = self._format.scale(self._amax[name])
        self._add(f"{name}/scale", scale)
        self._add(f"{name}/zero", np.zeros(scale.shape, dtype=self._format.dtype))
        stored = f"{name}/quantised"
        parameters = [f"{name}/scale", f"{name}/zero"]
        return [
            helper.make_node("QuantizeLinear", [name, *parameters], [stored], stored),
            self._dequantise(name, None),
        ]

    def weight(self, layer: Layer, tensor: TensorProto) -> list[NodeProto]:
        """The stored weight's DequantizeLinear, or nothing if it stands already."""
        name = layer.weight
        if name in self._done:
            return []
        self._done.add(name)
        made = self._weights.derived(
            tensor,
            f"{name}/scale",
            f"{self._format.name} scale",
            lambda array: weight_scale(to_matrix(layer, array), self._format),
        )
        scale = self._weights.array(made)
        spread: npt.NDArray[np.float16] = scale
        axis = layer.output_axis if scale.ndim else None
        if axis is not None:
            spread = scale.reshape([-1 if n == axis else 1 for n in range(len(tensor.dims))])
        self.constants.append(made)
        self._add(f"{name}/zero", np.zeros(scale.shape, dtype=self._format.dtype))
        stored = self._weights.derived(
            tensor,
            f"{name}/quantised",
            self._format.name,
            lambda array: self._format.store(array, spread),
        )
        self.constants.append(stored)
        return [self._dequantise(name, axis)]

    def _add(self, name: str, array: npt.NDArray[np.generic]) -> None:
        # A scale for a whole tensor must have no axis: TensorRT takes [1] for one channel of one,
        # and then dequantises convolutions instead of running them narrow.
        self.constants.append(self._weights.tensor(array, name))

    def _dequantise(self, name: str, axis: int | None) -> NodeProto:
        inputs = [f"{name}/quantised", f"{name}/scale", f"{name}/zero"]
        output = self.restored(name)
        if axis is None:
            return helper.make_node("DequantizeLinear", inputs, [output], output)
        return helper.make_node("DequantizeLinear", inputs, [output], output, axis=axis)
