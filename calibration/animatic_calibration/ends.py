"""The first and the last layers of a graph: what they lose, nothing after or before can mend.

Within a graph with skips around its layers, a layer's noise is one of many small ones; what the
first layer loses of the input, or the last one of the output, is lost whole. Measured on whole
clips that shows. Where clips are too costly to measure each layer, these stay in float16, as
NVIDIA's own recipes for diffusion models have it (`filter_func_ltx_video`, `filter_func_wan_video`
in the examples of its Model Optimizer name patch and text embedding and the last projection). They
are a small part of the work.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from animatic_calibration.layers import PRODUCTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from onnx import ModelProto

    from animatic_calibration.network import Unit

__all__ = ["end_units"]

_WHY: Final = "the first or the last layer of the graph; clips are too costly to measure it alone"


def end_units(model: ModelProto, units: Iterable[Unit]) -> dict[str, str]:
    """Return the units with a layer that no layer stands before, or behind, and the reason.

    A layer is here whatever multiplies by a constant, quantised or not.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inner: set[str] = set()  # layers that have one before, by their output
    reached: set[str] = set()  # tensors that come of a layer
    followed: set[str] = set()  # tensors that go into one
    for node in model.graph.node:
        is_layer = node.op_type in PRODUCTS and node.input[1] in constants
        if reached.intersection(node.input):
            reached.update(node.output)
            inner.update(node.output)
        if is_layer:
            reached.update(node.output)
    for node in reversed(model.graph.node):
        is_layer = node.op_type in PRODUCTS and node.input[1] in constants
        if is_layer or followed.intersection(node.output):
            followed.update(node.input)

    def at_an_end(outputs: Sequence[str]) -> bool:
        return any(output not in inner or output not in followed for output in outputs)

    return {unit.name: _WHY for unit in units if at_an_end(unit.outputs)}
