"""A graph run as it is written, in little memory: what a large export is checked with.

ONNX Runtime's rewritings would widen every narrow weight when the graph is loaded and pack it once
more for its kernels. Without them a weight stays mapped from its file and is widened for the one
node that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from animatic.engine.onnxruntime import load_session
from animatic.engine.untracked import import_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from animatic.bundle import GraphSpec

    Tensors = dict[str, np.ndarray[Any, Any]]


class LiteralGraph:
    """One graph on the processor, with no optimisation, and no memory kept between runs."""

    def __init__(self, path: Path, spec: GraphSpec) -> None:
        """Load a graph; EngineError if it is not the one that the spec describes."""
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.disable_prepacking", "1")
        if not spec.precision.endswith("-weights"):
            # What computes in half is widened too, by casts that ONNX Runtime adds at the end. It
            # orders nodes backwards from the last, so that casts at the beginning, as `weights` has
            # them, run when they are needed, and these would all run first; by priority they do
            # not (12 layers of Wan2.1-1.3B: 0.2 GB beside the mapped file instead of 1.8).
            options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
        provider = ("CPUExecutionProvider", dict[str, str]())
        self._session = load_session(path, spec, options, [provider])
        self._names = [tensor.name for tensor in spec.outputs]

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Run the graph once, on every input that it declares."""
        arrays = self._session.run(self._names, dict(inputs))
        return dict(zip(self._names, arrays, strict=True))

    def close(self) -> None:
        """Free the session."""
        del self._session
