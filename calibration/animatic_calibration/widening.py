"""A float16 graph with its float32 arithmetic written out, so that weights are widened one by one.

ONNX Runtime has no float16 kernels for these products on processors: it puts casts around them, and
those of the weights run before everything else, all of them. Of a graph of 2.8 GB there would be
5.6 GB more in memory. It goes back from the last node through the latest of each node's inputs, so
that an early node is run when it is needed: casts that stand first widen one weight at a time. And
a weight that is an input too, with itself as the default, is no constant by ONNX's rules: else it
would be widened when the graph is loaded.

Of 577 million weights a run takes 0.2 GB and the pages of their files, and 2.5 GB if they are
widened first (twelve layers of Wan 2.1 1.3B, 32 tokens, ONNX Runtime 1.32.0). More is rounded to
float16, too: the casts that ONNX Runtime puts in itself it also drops where two of them meet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from onnx import ModelProto, NodeProto, TensorProto, helper

from animatic_calibration.layers import PRODUCTS
from animatic_calibration.rebuild import rebuild
from animatic_calibration.weights import INLINE, bytes_in

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["widen_late"]

_WIDE: Final = "/wide"
_WIDENING: Final = frozenset({"Cast", "DequantizeLinear"})


def widen_late(model: ModelProto) -> ModelProto:
    """Return a copy in which every product with a constant float16 weight is one of float32.

    The weight may be stored narrow: its DequantizeLinear then comes first too. Whatever else widens
    large constants, as graphs do that compute in float32 anyway, stays where it is.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    restored = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in constants
    }
    early: dict[str, NodeProto] = {}
    nodes: list[NodeProto] = []
    cast: set[str] = set()

    def widened(name: str, place: list[NodeProto] | None) -> str:
        """Cast a tensor, once: in a list of nodes, or (None) early."""
        wide = name + _WIDE
        if wide not in cast:
            cast.add(wide)
            node = helper.make_node("Cast", [name], [wide], wide, to=TensorProto.FLOAT)
            if place is None:
                early[wide] = node
            else:
                place.append(node)
        return wide

    for node in graph.node:
        if node.output[0] in restored:
            continue
        if node.op_type in PRODUCTS and _is_half(node.input[1], constants, restored):
            weight = node.input[1]
            if weight in restored:
                early[weight] = restored[weight]
            node.input[1] = widened(weight, None)
            for place in (0, *range(2, len(node.input))):
                node.input[place] = widened(node.input[place], nodes)
            given = node.output[0]
            node.output[0] = given + "/product"
            nodes.append(node)
            ends = [given + "/product"], [given]
            nodes.append(helper.make_node("Cast", *ends, given + "/narrow", to=TensorProto.FLOAT16))
        else:
            nodes.append(node)
    rebuild(graph, [*early.values(), *nodes], constants.values())
    given = {value.name for value in graph.input}
    for node in graph.node:
        tensor = constants.get(node.input[0]) if node.op_type in _WIDENING else None
        if tensor is not None and tensor.name not in given and bytes_in(tensor) > INLINE:
            given.add(tensor.name)
            value = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            graph.input.append(value)
    return result


def _is_half(
    weight: str, constants: Mapping[str, TensorProto], restored: Mapping[str, NodeProto]
) -> bool:
    """Whether a weight is float16: a constant, or one that is dequantised by a float16 scale."""
    name = restored[weight].input[1] if weight in restored else weight
    return name in constants and constants[name].data_type == TensorProto.FLOAT16
