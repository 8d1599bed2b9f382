"""A real plan of TensorRT-RTX, compiled here for a card that is not: less than a second's work."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from animatic.bundle import AxisRange, EngineEntry, FileRef, GraphSpec
from animatic.fingerprint import engine_fingerprint

if TYPE_CHECKING:
    from pathlib import Path

PROFILE = (
    AxisRange(axis="batch", minimum=1, optimum=1, maximum=1),
    AxisRange(axis="columns", minimum=1, optimum=4, maximum=8),
)


def build_plan(graph: Path, spec: GraphSpec, *, capability: tuple[int, int] = (8, 9)) -> bytes:
    """Compile an ONNX graph for a compute capability; the test is skipped without the package."""
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, logger).parse_from_file(str(graph))
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    ranges = {axis.axis: axis for axis in PROFILE}
    for tensor in spec.inputs:
        axes = [
            (ranges[a].minimum, ranges[a].optimum, ranges[a].maximum)
            if isinstance(a, str)
            else (a, a, a)
            for a in tensor.shape
        ]
        profile.set_shape(tensor.name, *(tuple(axis[i] for axis in axes) for i in range(3)))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(
        getattr(trt.ComputeCapability, f"SM{capability[0]}{capability[1]}"), 0
    )
    return bytes(builder.build_serialized_network(network, config))


def engine_entry(
    plan: bytes,
    spec: GraphSpec,
    *,
    target: str = "rtx-40",
    backend: str = "tensorrt_rtx",
    version: str | None = None,
) -> EngineEntry:
    """What bundle.json would say of a plan; version: None is the one that is installed."""
    if version is None:
        trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
        version = trt.__version__
    assert version is not None
    stem = f"engines/{target}/{spec.role}.{spec.precision}.{backend}"
    return EngineEntry(
        role=spec.role,
        precision=spec.precision,
        target=target,
        backend=backend,
        backend_version=version,
        profile=PROFILE,
        flags={},
        file=f"{stem}.plan",
        sha256=hashlib.sha256(plan).hexdigest(),
        fingerprint=engine_fingerprint(
            spec,
            target=target,
            backend=backend,
            backend_version=version,
            profile=PROFILE,
            flags={},
        ),
        sidecar=FileRef(file=f"{stem}.json", sha256="0" * 64),
    )
