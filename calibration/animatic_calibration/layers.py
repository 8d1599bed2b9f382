"""Which nodes of a typed graph can be quantised: constant float16 weights on one tensor.

MatMul and Gemm with a constant right-hand side, and Conv. What has float32 weights is an island
that its author wanted exact, and a product of two computed tensors (attention's own) stays as it
is: neither is touched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from animatic_calibration.weights import IN_GRAPH, Weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

__all__ = [
    "MIN_CHANNELS",
    "PRODUCTS",
    "Layer",
    "LayerSurvey",
    "Window",
    "from_matrix",
    "survey",
    "to_matrix",
]

PRODUCTS: Final = frozenset({"MatMul", "Gemm", "Conv"})
MIN_CHANNELS: Final = 32
"""A layer with fewer channels on either side stays high: the int8 instructions of tensor cores
take 32 of them at a time (mma.m16n8k32, PTX ISA), so a narrower one gains nothing."""


@dataclass(frozen=True)
class Window:
    """How a convolution moves over its picture; every tuple has one number for each axis.

    pads: begin and end of each axis.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Layer:
    """A node that can be quantised.

    name: of the weight, for people. output: of the node's only output, its identity.
    activation: the tensor it reads; its channels are the last axis, or axis 1 of a Conv.
    weight: the initialiser; output_axis: the axis of its output channels.
    channels: (in, out).
    transposed: the weight is [out, in].
    """

    name: str
    kind: str
    output: str
    activation: str
    weight: str
    output_axis: int
    channels: tuple[int, int]
    transposed: bool
    window: Window | None = None

    @property
    def channel_axis(self) -> int:
        """The axis of the activation's channels."""
        return 1 if self.window else -1


@dataclass(frozen=True)
class LayerSurvey:
    """What can be quantised, in the graph's order, and what cannot: name to the reason."""

    layers: tuple[Layer, ...]
    left_out: Mapping[str, str]


def survey(model: ModelProto, weights: Weights = IN_GRAPH) -> LayerSurvey:
    """Find the layers of a graph; weights: where its constants are."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    layers: list[Layer] = []
    left_out: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type not in PRODUCTS:
            continue
        weight = constants.get(node.input[1])
        if weight is None or node.input[0] in constants:
            left_out[node.output[0]] = "two computed inputs, as in attention"
            continue
        name = weight.name.removesuffix(".T").removesuffix(".weight")
        layer = _layer(node, weight, name)
        reason = _reason(node, weight, layer)
        if not reason and not np.isfinite(weights.array(weight)).all():
            reason = "weights that are not numbers"
        if reason:
            left_out[name] = reason
        else:
            layers.append(layer)
    return LayerSurvey(tuple(layers), left_out)


def to_matrix(layer: Layer, weight: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Give a weight as float32 [in, out]; of a convolution [in * kernel, out], channel first."""
    if layer.window:
        return weight.reshape(len(weight), -1).T.astype(np.float32)
    return (weight.T if layer.transposed else weight).astype(np.float32)


def from_matrix(layer: Layer, matrix: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Undo `to_matrix`: the weight in its own shape, in the matrix's type."""
    stands = layer.window is not None or layer.transposed
    return np.ascontiguousarray((matrix.T if stands else matrix).reshape(shape))


def _layer(node: NodeProto, weight: TensorProto, name: str) -> Layer:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    window = _window(attributes, tuple(weight.dims)) if node.op_type == "Conv" else None
    transposed = bool(attributes.get("transB", 0))
    output_axis = 0 if window or transposed else len(weight.dims) - 1
    outputs = weight.dims[output_axis]
    inputs = weight.dims[1] if window or transposed else weight.dims[0]
    return Layer(
        name=name,
        kind=node.op_type,
        output=node.output[0],
        activation=node.input[0],
        weight=weight.name,
        output_axis=output_axis,
        channels=(inputs, outputs),
        transposed=transposed,
        window=window,
    )


def _window(attributes: Mapping[str, Any], shape: tuple[int, ...]) -> Window:
    axes = len(shape) - 2
    ones = (1,) * axes
    flat = tuple(attributes.get("pads", (0,) * (2 * axes)))
    return Window(
        kernel=shape[2:],
        strides=tuple(attributes.get("strides", ones)),
        dilations=tuple(attributes.get("dilations", ones)),
        pads=tuple(zip(flat[:axes], flat[axes:], strict=True)),
    )


def _reason(node: NodeProto, weight: TensorProto, layer: Layer) -> str:
    """Say why a node with a constant weight is not quantised; empty if it is."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    flat = layer.window is None
    reasons = {
        "an island in float32": weight.data_type != TensorProto.FLOAT16,
        "a grouped convolution": attributes.get("group", 1) != 1,
        "padding that the graph leaves open": attributes.get("auto_pad", b"NOTSET") != b"NOTSET",
        "a product of an unusual form": attributes.get("transA", 0)
        or (flat and len(weight.dims) != len(layer.channels)),
        f"fewer than {MIN_CHANNELS} channels": min(layer.channels) < MIN_CHANNELS,
    }
    return next((reason for reason, true in reasons.items() if true), "")
