"""What NVIDIA's own compiler makes of a graph, for a card that is not here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from animatic.bundle import AxisRange
from animatic_engines.compiler import compile_graph
from animatic_engines.messages import CompileJob
from tests.engines.building import needs_compiler

if TYPE_CHECKING:
    from pathlib import Path

    from animatic.bundle import GraphSpec
    from animatic_engines.layers import LayerSummary

# Of clips of 480x832 and smaller.
RANGES = {"batch": (1, 1), "frames": (1, 21), "rows": (4, 60), "columns": (4, 104)}


def compiled(spec: GraphSpec, folder: Path) -> tuple[LayerSummary, tuple[str, ...]]:
    """Build for an RTX 40, strongly typed: the engine's layers, and what was not granted."""
    needs_compiler()
    axes = sorted({a for tensor in spec.inputs for a in tensor.shape if isinstance(a, str)})
    job = CompileJob(
        backend="tensorrt_rtx",
        graph=os.fspath(folder / spec.file),
        spec=spec,
        compute_capability=(8, 9),
        profile=tuple(
            AxisRange(axis=axis, minimum=least, optimum=most, maximum=most)
            for axis in axes
            for least, most in [RANGES[axis]]
        ),
        workspace=1 << 30,
        folder=os.fspath(folder),
    )
    made = compile_graph(job, lambda _step: None)
    return made.layers, made.warnings
