"""One product whose output is only cut into parts becomes a product for each part.

Attention's q, k and v usually come from one matrix. TensorRT moves the cut into the weight, and a
weight with a scale for every channel does not follow: it is dequantised and the product runs in
half precision (seen in the layer dump of TensorRT-RTX 1.7). Three products with a weight each run
in int8, fused side by side into one again, and their scales lose nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper, shape_inference

from animatic_calibration.rebuild import rebuild
from animatic_calibration.weights import IN_GRAPH, Weights

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt
    from onnx import TensorProto

__all__ = ["split_products"]

_MATRIX: Final = 2  # axes


class _Cut(NamedTuple):
    """MatMul, the Add of its bias (or None), and the Split."""

    product: NodeProto
    add: NodeProto | None
    bias: str
    split: NodeProto
    sizes: tuple[int, ...]


def split_products(model: ModelProto, weights: Weights = IN_GRAPH) -> ModelProto:
    """Return a copy in which every such product is divided; it computes the same.

    weights: where the graph's constants are.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    cuts = [cut for cut in _find(result, constants) if cut]
    made = {cut.product.output[0]: _divided(cut, constants, weights) for cut in cuts}
    gone = {name for cut in cuts for node in (cut.add, cut.split) if node for name in node.output}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.output[0] in made:
            parts, new = made[node.output[0]]
            nodes += parts
            constants |= {tensor.name: tensor for tensor in new}
        elif node.output[0] not in gone:
            nodes.append(node)
    rebuild(graph, nodes, constants.values())
    return result


def _find(model: ModelProto, weights: Mapping[str, TensorProto]) -> list[_Cut | None]:
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    ranks = _ranks(model)
    outputs = {value.name for value in model.graph.output}

    def only_reader(node: NodeProto) -> NodeProto | None:
        found = readers.get(node.output[0], [])
        return found[0] if len(found) == 1 and node.output[0] not in outputs else None

    def cut(product: NodeProto) -> _Cut | None:
        weight = weights.get(product.input[1])
        if product.op_type != "MatMul" or weight is None or len(weight.dims) != _MATRIX:
            return None
        following = only_reader(product)
        add, bias = None, ""
        if following is not None and following.op_type == "Add":
            bias = next((n for n in following.input if n in weights), "")
            if not bias or list(weights[bias].dims) != [weight.dims[1]]:
                return None
            add, following = following, only_reader(following)
        if following is None or following.op_type != "Split":
            return None
        axis = next((a.i for a in following.attribute if a.name == "axis"), 0)
        if axis != -1 and axis != ranks.get(following.input[0], 0) - 1:
            return None
        sizes = _sizes(following, weights, weight.dims[1])
        return _Cut(product, add, bias, following, sizes) if sizes else None

    return [cut(node) for node in model.graph.node if len(node.input) > 1]


def _ranks(model: ModelProto) -> dict[str, int]:
    inferred = shape_inference.infer_shapes(model).graph
    return {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.value_info, *inferred.output)
    }


def _sizes(split: NodeProto, weights: Mapping[str, TensorProto], width: int) -> tuple[int, ...]:
    """Return how wide each part is; empty if the graph leaves that open."""
    if len(split.input) > 1 and split.input[1]:
        tensor = weights.get(split.input[1])
        return () if tensor is None else tuple(int(n) for n in numpy_helper.to_array(tensor))
    parts = len(split.output)
    return (width // parts,) * parts if width % parts == 0 else ()


def _divided(
    cut: _Cut, constants: Mapping[str, TensorProto], weights: Weights
) -> tuple[list[NodeProto], list[TensorProto]]:
    """Return the products of the parts, and their weights and biases."""
    places = np.cumsum(cut.sizes)[:-1]
    name = cut.product.input[1]
    stem, transposed = name.removesuffix(".T"), ".T" if name.endswith(".T") else ""
    stem, kind = stem.removesuffix(".weight"), ".weight" if stem.endswith(".weight") else ""
    nodes: list[NodeProto] = []
    made: list[TensorProto] = []

    def constant(array: npt.NDArray[np.generic], called: str) -> str:
        made.append(weights.tensor(np.ascontiguousarray(array), called))
        return called

    parts = np.split(weights.array(constants[name]), places, axis=1)
    biases = (
        np.split(weights.array(constants[cut.bias]), places) if cut.add else [None] * len(parts)
    )
    for n, (part, bias, output) in enumerate(zip(parts, biases, cut.split.output, strict=True)):
        weight = constant(part, f"{stem}.{n}{kind}{transposed}")
        product = output if bias is None else f"{output}/product"
        called = f"{cut.product.name or stem}.{n}"
        nodes.append(helper.make_node("MatMul", [cut.product.input[0], weight], [product], called))
        if bias is not None:
            added = constant(bias, f"{stem}.{n}.bias")
            nodes.append(helper.make_node("Add", [product, added], [output], f"{called}/bias"))
    return nodes, made
