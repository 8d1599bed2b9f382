"""SmoothQuant: move what is hard to quantise from the activation to the weight, channel by channel.

    x W = (x / s) (s W),   s_j = max|x_j|^a / max|W_j|^(1 - a)       (Xiao et al., arXiv:2211.10438)

One loud channel of an activation costs all others their resolution; its weight can bear it, as
weights have a scale for each output. The division is folded into the layer before where only a
bias and a ReLU stand between (both commute with a positive factor) or into a norm's own gain;
elsewhere it is a Mul, which compilers fuse into the pointwise work that gave the tensor.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from onnx import ModelProto, NodeProto, helper

from animatic_calibration.layers import from_matrix, to_matrix
from animatic_calibration.weights import IN_GRAPH, Weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import numpy.typing as npt

    from animatic_calibration.layers import Layer

    Factors = npt.NDArray[np.float32]

__all__ = ["apply_smoothing", "groups", "smoothing_factors", "weight_amax"]

_LEAST, _MOST = 2.0**-8, 2.0**8
"""Bounds of s: beyond them float16 itself begins to lose what is scaled."""
_SUFFIX: Final = "/smoothed"
_BIAS: Final = 2
"""The place of the bias among the inputs of Conv, Gemm and LayerNormalization."""


def groups(layers: Iterable[Layer]) -> dict[str, tuple[Layer, ...]]:
    """Gather the layers that read the same activation: they share its quantisation."""
    gathered: dict[str, tuple[Layer, ...]] = {}
    for layer in layers:
        gathered[layer.activation] = (*gathered.get(layer.activation, ()), layer)
    return gathered


def weight_amax(layer: Layer, matrix: npt.NDArray[np.float32]) -> Factors:
    """Return the largest weight of every input channel, float32 [in]; of `layers.to_matrix`."""
    amax: Factors = np.abs(matrix).reshape(layer.channels[0], -1).max(axis=1)
    return amax


def smoothing_factors(activation: Factors, weight: Factors, alpha: float) -> Factors:
    """Return s, float32 [channels], above 0, and such that 1 / s is a float16.

    activation, weight: the largest magnitude of every channel; a channel that is all zero on
    either side keeps 1.
    """
    alive = (activation > 0) & (weight > 0)
    s = np.ones_like(activation)
    s[alive] = activation[alive] ** alpha / weight[alive] ** (1 - alpha)
    inverse = (1 / np.clip(s, _LEAST, _MOST)).astype(np.float16)
    return (1 / inverse.astype(np.float32)).astype(np.float32)


def apply_smoothing(
    model: ModelProto,
    layers: Iterable[Layer],
    factors: Mapping[str, Factors],
    weights: Weights = IN_GRAPH,
) -> ModelProto:
    """Return a copy of a float graph that computes the same with smoothed activations.

    layers: those that shall read the smoothed tensors.
    factors: s for each activation that is to be smoothed. weights: where the graph's constants are.
    """
    smoothed = ModelProto()
    smoothed.CopyFrom(model)
    surgery = _Surgery(smoothed, weights)
    for activation, group in groups(layers).items():
        if activation in factors:
            surgery.smooth(group, factors[activation])
    surgery.finish()
    return smoothed


@dataclass(frozen=True)
class _Source:
    """What gives an activation up to positive factors: initialisers to divide along an axis."""

    node: NodeProto
    inputs: tuple[tuple[NodeProto, int, int], ...]
    """(node, place among its inputs, axis of the channels)."""


class _Surgery:
    """The graph under the knife."""

    def __init__(self, model: ModelProto, weights: Weights) -> None:
        self._store = weights
        self._graph = model.graph
        self._nodes = list(model.graph.node)
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._made_by = {name: node for node in self._nodes for name in node.output}
        self._uses: dict[str, int] = {}
        for name in [n for node in self._nodes for n in node.input]:
            self._uses[name] = self._uses.get(name, 0) + 1
        for value in model.graph.output:
            self._uses[value.name] = self._uses.get(value.name, 0) + 1

    def smooth(self, group: tuple[Layer, ...], s: Factors) -> None:
        activation = group[0].activation
        source = self._source(group)
        if source:
            for node, place, axis in source.inputs:
                self._scale_input(node, place, axis, (1 / s).astype(np.float32))
        else:
            self._insert_mul(group, s)
        for layer in group:
            node = self._made_by[layer.output]
            if not source:
                node.input[0] = activation + _SUFFIX
            self._replace(node, 1, f"times {_digest(s)}", partial(_times, layer, s))

    def finish(self) -> None:
        """Write the nodes back and drop the weights that nobody reads any more."""
        used = {name for node in self._nodes for name in node.input}
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        kept = [tensor for tensor in self._weights.values() if tensor.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _source(self, group: tuple[Layer, ...]) -> _Source | None:
        """Find the layer before that can take 1 / s; None if there is none."""
        layer = group[0]
        name, others = layer.activation, len(group)
        inputs: list[tuple[NodeProto, int, int]] = []
        while True:
            node = self._made_by.get(name)
            # Whoever else reads the tensor would see it smoothed.
            if node is None or self._uses[name] != others:
                return None
            others = 1
            match node.op_type:
                case "Relu":
                    name = node.input[0]
                case "Add" if layer.window is None and self._is_vector(node.input[1]):
                    inputs.append((node, 1, -1))
                    name = node.input[0]
                case "Add" if layer.window is None and self._is_vector(node.input[0]):
                    inputs.append((node, 0, -1))
                    name = node.input[1]
                case "Conv" if layer.window and node.input[1] in self._weights:
                    inputs.append((node, 1, 0))
                    break
                case "MatMul" if layer.window is None and node.input[1] in self._weights:
                    inputs.append((node, 1, -1))
                    return _Source(node, tuple(inputs))
                case "Gemm" if layer.window is None and node.input[1] in self._weights:
                    stands = any(a.name == "transB" and a.i for a in node.attribute)
                    inputs.append((node, 1, 0 if stands else -1))
                    break
                case "LayerNormalization" if layer.window is None and self._ends_in_gain(node):
                    inputs.append((node, 1, -1))
                    break
                case _:
                    return None
        if len(node.input) > _BIAS and node.input[_BIAS]:
            if node.input[_BIAS] not in self._weights:
                return None
            inputs.append((node, _BIAS, -1))
        return _Source(node, tuple(inputs))

    def _is_vector(self, name: str) -> bool:
        tensor = self._weights.get(name)
        return tensor is not None and len(tensor.dims) == 1 and tensor.dims[0] > 1

    def _ends_in_gain(self, node: NodeProto) -> bool:
        axis = next((a.i for a in node.attribute if a.name == "axis"), -1)
        return axis == -1 and self._is_vector(node.input[1])

    def _insert_mul(self, group: tuple[Layer, ...], s: Factors) -> None:
        layer = group[0]
        first = self._made_by[layer.output]
        inverse = (1 / s).astype(np.float16)
        if layer.window:
            inverse = inverse.reshape(-1, *(1,) * len(layer.window.kernel))
        constant = self._store.tensor(inverse, layer.activation + "/smoothing")
        self._weights[constant.name] = constant
        smoothed = layer.activation + _SUFFIX
        mul = helper.make_node("Mul", [layer.activation, constant.name], [smoothed], smoothed)
        place = next(n for n, node in enumerate(self._nodes) if node is first)
        self._nodes.insert(place, mul)

    def _scale_input(self, node: NodeProto, place: int, axis: int, factor: Factors) -> None:
        def scaled(old: npt.NDArray[Any]) -> npt.NDArray[Any]:
            shape = [1] * old.ndim
            shape[axis] = -1
            return (old.astype(np.float32) * factor.reshape(shape)).astype(old.dtype)

        self._replace(node, place, f"axis {axis} times {_digest(factor)}", scaled)

    def _replace(
        self, node: NodeProto, place: int, key: str, make: Callable[[npt.NDArray[Any]], Any]
    ) -> None:
        """Give one node its own changed copy of a weight, which others may go on reading.

        key: says what `make` does (`Weights.derived`).
        """
        name = node.input[place]
        old = self._weights[name]
        if self._uses[name] > 1:
            self._uses[name] -= 1
            name = f"{name}{_SUFFIX}:{node.output[0]}"
            self._uses[name] = 1
        self._weights[name] = self._store.derived(old, name, key, make)
        node.input[place] = name


def _times(layer: Layer, s: Factors, old: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Multiply what a layer's weight gives to each input channel."""
    taps = old.size // (layer.channels[0] * layer.channels[1])
    matrix = to_matrix(layer, old) * np.repeat(s, taps)[:, None]
    return from_matrix(layer, matrix.astype(old.dtype), old.shape)


def _digest(factors: Factors) -> str:
    return hashlib.sha256(factors.tobytes()).hexdigest()
