"""The engines of a bundle's roles, each with its graph, its backend and how it is opened."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from animatic.engine.lazy import LazyEngine
from animatic.engine.onnxruntime import OnnxRuntimeEngine
from animatic.engine.untracked import import_onnxruntime
from animatic.errors import EngineError
from animatic.store import verify_files

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from animatic.bundle import GraphSpec, Role
    from animatic.engine.protocol import Engine
    from animatic.engine.wish import Wish

__all__ = [
    "Part",
    "asides",
    "onnxruntime_has_cuda",
    "open_parts",
    "part_on_gpu",
    "part_on_processor",
    "stand_in",
    "text_part",
]


@dataclass(frozen=True, slots=True)
class Part:
    """One role's engine before it is opened.

    aside: where it plays and why, if that is not where the rest does; the reason says it.
    """

    graph: GraphSpec
    open: Callable[[], Engine]
    aside: str = ""


def open_parts(wish: Wish, parts: Mapping[Role, Part]) -> dict[Role, Engine]:
    """Open an engine for every role, or none; what may not be needed opens when it is first run."""
    engines: dict[Role, Engine] = {}
    try:
        for role, part in parts.items():
            lazy = wish.is_lazy(role)
            engines[role] = LazyEngine(part.graph, part.open) if lazy else part.open()
    except BaseException:
        for engine in engines.values():
            engine.close()
        raise
    return engines


def asides(parts: Mapping[Role, Part]) -> str:
    """Say in brackets what plays elsewhere; "" if nothing does."""
    said = [f"the {role} {part.aside}" for role, part in parts.items() if part.aside]
    return f" (but {'; '.join(said)})" if said else ""


def part_on_processor(wish: Wish, graph: GraphSpec, aside: str = "") -> Part:
    """A graph by ONNX Runtime on the processor."""
    return Part(graph, partial(_open_on_processor, wish, graph), aside)


def part_on_gpu(wish: Wish, graph: GraphSpec, aside: str = "") -> Part:
    """A graph by ONNX Runtime's CUDA provider."""
    return Part(graph, partial(_open_on_gpu, wish, graph), aside)


def text_part(wish: Wish) -> Part:
    """The text encoder on the processor: its reference graph, which any processor runs."""
    graph = wish.bundle.graph("text_encoder")
    why = "was asked" if wish.text_device == "cpu" else "it is costly"
    return part_on_processor(wish, graph, f"on the processor, {graph.precision}, as {why}")


def stand_in(wish: Wish, role: Role, precision: str, why: str) -> Part:
    """What plays a role for which there is no engine: ONNX Runtime on the GPU, if it can be there.

    why: ends the sentence. EngineError for a text encoder that was asked for on a GPU.
    """
    if onnxruntime_has_cuda():
        graph = wish.graph(role, precision, "fp16")
        return part_on_gpu(wish, graph, f"by ONNX Runtime on the GPU, {graph.precision}, as {why}")
    if role == "text_encoder":
        raise EngineError(
            f"The text_encoder of {wish.bundle.name} was asked for on a GPU, but {why} and ONNX "
            f"Runtime has no CUDA here; run `animatic build {wish.opened.root} --target auto "
            "--text`, or leave the text device out."
        )
    graph = wish.bundle.graph(role)
    return part_on_processor(wish, graph, f"on the processor, {graph.precision}, as {why}")


def onnxruntime_has_cuda() -> bool:
    """Whether the installed ONNX Runtime was made with its CUDA provider."""
    onnxruntime = import_onnxruntime()

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _open_on_processor(wish: Wish, graph: GraphSpec) -> Engine:
    path = _verified(wish, graph)
    if graph.precision == "int8":  # its fused kernels saturate on processors without VNNI
        return OnnxRuntimeEngine(path, graph, threads=wish.threads, optimisation="basic")
    return OnnxRuntimeEngine(path, graph, threads=wish.threads)


def _open_on_gpu(wish: Wish, graph: GraphSpec) -> Engine:
    from animatic.engine.onnxruntime_cuda import OnnxRuntimeCudaEngine

    return OnnxRuntimeCudaEngine(_verified(wish, graph), graph)


def _verified(wish: Wish, graph: GraphSpec) -> Path:
    if wish.verify:
        verify_files(wish.opened, {graph.file, *(data.file for data in graph.external_data)})
    return wish.opened.path(graph.file)
