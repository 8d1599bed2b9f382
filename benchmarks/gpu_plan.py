"""Plans made on the spot from graphs of fixed shapes, for engines that no bundle holds."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from animatic.bundle import EngineEntry, FileRef, GraphSpec, TensorSpec
from animatic.engine.tensorrt import TensorRtEngine
from animatic.errors import EngineError
from animatic.store import sha256_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import ModuleType

    from animatic.engine.cuda import Device


def graph_spec(
    path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], precision: str
) -> GraphSpec:
    """Describe a graph that belongs to no bundle; it goes by the denoiser's role."""
    return GraphSpec(
        role="denoiser",
        file=path.name,
        sha256="0" * 64,
        precision=precision,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )


def compiled_engine(
    backend: str, graph: Path, spec: GraphSpec, device: Device, plan: Path
) -> TensorRtEngine:
    """Compile a graph for this GPU and load it; EngineError if the library does not serve it."""
    try:
        trt = importlib.import_module(backend)
    except (ImportError, OSError) as error:
        raise EngineError(f"{backend} is not installed ({error}).") from error
    _compile(trt, graph, device, plan)
    entry = EngineEntry(
        role=spec.role,
        precision=spec.precision,
        target="here",
        backend=backend,
        backend_version=trt.__version__,
        profile=(),
        flags={},
        file=plan.name,
        sha256=sha256_file(plan),
        fingerprint="0" * 64,
        sidecar=FileRef(file="none.json", sha256="0" * 64),
    )
    return TensorRtEngine(plan, spec, entry)


def _compile(trt: ModuleType, graph: Path, device: Device, plan: Path) -> None:
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # later: always
    network = builder.create_network(0 if typed is None else 1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        raise EngineError(f"{trt.__name__} does not read the graph: {parser.get_error(0)}.")
    config = builder.create_builder_config()
    if hasattr(trt, "ComputeCapability"):
        major, minor = device.compute_capability
        capability = getattr(trt.ComputeCapability, f"SM{major}{minor}", None)
        if capability is None:
            raise EngineError(
                f"{trt.__name__} {trt.__version__} does not serve {device.name} (SM{major}{minor})."
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(capability, 0)
    serialised = builder.build_serialized_network(network, config)
    if serialised is None:
        raise EngineError(f"{trt.__name__} {trt.__version__} compiled nothing of {graph.name}.")
    with plan.open("wb") as file:
        file.write(serialised)
