"""A graph with other nodes, and no constant that none of them reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from onnx import GraphProto, NodeProto, TensorProto

__all__ = ["rebuild"]


def rebuild(
    graph: GraphProto, nodes: Iterable[NodeProto], constants: Iterable[TensorProto]
) -> None:
    """Give a graph these nodes and, of these constants in their order, those that are read."""
    # Lists first: what is given may be parts of the graph itself, which is cleared.
    new = list(nodes)
    used = {name for node in new for name in node.input}
    kept = [tensor for tensor in constants if tensor.name in used]
    graph.ClearField("node")
    graph.node.extend(new)
    graph.ClearField("initializer")
    graph.initializer.extend(kept)
