"""Which backend plays a bundle on this machine, and why.

The order: engines that were compiled for this very card, then ONNX Runtime on the GPU, then ONNX
Runtime on the processor. Whoever asks for a device gets that device or an error, never another one.
A bundle without engines pays nothing for this: no driver and no GPU library is looked for.

A text encoder that is costly stays on the processor unless it is asked elsewhere: its work is done
once a prompt, and its weights would fill the memory that the denoiser needs.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

from animatic.engine.compiled import compiled_parts, compiled_sets, targets_of
from animatic.engine.parts import (
    asides,
    onnxruntime_has_cuda,
    open_parts,
    part_on_gpu,
    part_on_processor,
    text_part,
)
from animatic.engine.untracked import import_onnxruntime
from animatic.engine.wish import ROLES, DeviceName, TextDevice, Wish
from animatic.errors import BundleIntegrityError, EngineError, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from animatic.bundle import GraphSpec, Role
    from animatic.engine.protocol import Engine
    from animatic.store import OpenBundle

__all__ = ["ROLES", "Choice", "DeviceName", "TextDevice", "choose"]

_log = logging.getLogger("animatic.engine")

_PRECISIONS: Final = ("fp32", "fp16", "bf16", "int8", "fp8")
_CPU_TYPED: Final = ("fp16", "int8")  # ONNX Runtime's processor kernels know no bf16 and no fp8


@dataclass(frozen=True, slots=True)
class Choice:
    """Engines that are open (some by their first run), and how it came to them.

    backend: "tensorrt_rtx", "tensorrt", "onnxruntime-cuda" or "onnxruntime".
    reason: a sentence that says what plays where, and why nothing better does.
    is_fallback: something better was tried and did not work; the reason says what.
    """

    engines: Mapping[Role, Engine]
    backend: str
    reason: str
    is_fallback: bool


def choose(
    opened: OpenBundle,
    device: str = "auto",
    precision: str | None = None,
    *,
    threads: int | None = None,
    verify: bool = True,
    text_device: str = "auto",
) -> Choice:
    """Open the engines of every role on the best backend that works here.

    device: one of DeviceName.
    precision: what to compute in, "fp16" or "int8" for instance, where a role has such a graph;
        None takes the target's own on a GPU and the reference graphs on the processor.
    threads: for the processor; None takes every core we may use.
    verify: hash the files that are loaded first.
    text_device: one of TextDevice, for the text encoder.
    EngineError if the device that was asked for cannot be used; on the processor, BundleError or
    EngineError if the bundle cannot be played. What is wrong with an engine that a clip may not
    need (`animatic.engine.wish`) is raised when that first runs.
    """
    _check(opened, device, precision, text_device)
    wish = Wish(opened, device, precision, threads, verify, text_device)
    troubles: list[Exception] = []
    for attempt in _attempts(wish):
        try:
            engines, backend, what, skipped = attempt(wish)
        except (EngineError, BundleIntegrityError, TargetError) as error:
            if attempt is _on_processor:
                raise
            troubles.append(error)
            continue
        troubles += skipped
        why = " ".join(dict.fromkeys(map(str, troubles))) or _nothing_better(wish, backend)
        reason = f"{wish.bundle.name} plays by {what}: {why}"
        _log.info("%s", reason)
        return Choice(engines, backend, reason, is_fallback=bool(troubles))
    raise _none(wish, troubles)


def _check(opened: OpenBundle, device: str, precision: str | None, text_device: str) -> None:
    """Refuse words that mean nothing, or not together: EngineError."""
    if device not in get_args(DeviceName):
        raise EngineError(
            f"There is no device {device!r}; choose one of {', '.join(get_args(DeviceName))}."
        )
    known = {*_PRECISIONS, *(graph.precision for graph in opened.bundle.graphs)}
    if precision is not None and precision not in known:
        raise EngineError(
            f"There is no precision {precision!r}; choose one of {', '.join(_PRECISIONS)}."
        )
    if text_device not in get_args(TextDevice):
        raise EngineError(
            f"There is no device {text_device!r} for the text encoder; choose one of "
            f"{', '.join(get_args(TextDevice))}."
        )
    if (device, text_device) == ("cpu", "gpu"):
        raise EngineError(
            "The text encoder cannot be on a GPU while everything is to play on the processor; "
            "leave the device or the text device out."
        )


_Attempt = tuple["dict[Role, Engine]", str, str, "list[Exception]"]
"""Engines, backend, what plays where, and what would have been better and did not load."""


def _attempts(wish: Wish) -> Iterator[Callable[[Wish], _Attempt]]:
    compiled = wish.device in {"auto", "cuda"} and wish.bundle.engines
    if compiled or wish.device.startswith("tensorrt"):
        yield _by_tensorrt
    if wish.device in {"cuda", "onnxruntime-cuda"} or (
        wish.device == "auto" and onnxruntime_has_cuda()
    ):
        yield _by_onnxruntime_cuda
    if wish.device in {"auto", "cpu"} and wish.text_device != "gpu":
        yield _on_processor


def _none(wish: Wish, troubles: list[Exception]) -> EngineError:
    said = " ".join(dict.fromkeys(map(str, troubles)))
    asked = f"the device {wish.device}"
    if wish.text_device == "gpu":
        asked += " with its text encoder on a GPU"
    if not troubles:
        said = "It has no engines and ONNX Runtime has no CUDA here; leave the text device out."
    error = EngineError(f"{wish.bundle.name} cannot be played by {asked}. {said}")
    error.__cause__ = troubles[0] if troubles else None
    return error


def _nothing_better(wish: Wish, backend: str) -> str:
    if backend.startswith("tensorrt"):
        return "its engines were built for this GPU."
    if wish.device in {"cpu", "onnxruntime-cuda"}:
        return f"{wish.device} was asked for."
    return "the bundle has no engines."


def _by_tensorrt(wish: Wish) -> _Attempt:
    from animatic.detect import detect_device
    from animatic.engine.cuda import find_devices

    find_devices()  # says why there is no GPU in the words of someone who wants to render
    machine = detect_device()
    failed: list[Exception] = []
    for precision, entries in compiled_sets(wish, machine):
        try:
            parts = compiled_parts(wish, precision, entries)
            engines = open_parts(wish, parts)
        except (EngineError, BundleIntegrityError) as error:
            failed.append(error)
            continue
        first = entries["denoiser"]
        what = f"{first.backend} {first.backend_version} on {machine.name}, {precision}"
        return engines, first.backend, what + asides(parts), failed
    if failed:
        raise failed[0]
    kind = f"{wish.precision} engines" if wish.precision else "engines"
    if wish.device.startswith("tensorrt"):
        kind = f"{kind} of {wish.device}"
    target = next((t.name for t in targets_of(machine)), "auto")
    raise EngineError(
        f"The bundle {wish.bundle.name} has no complete set of {kind} for {machine.name}; run "
        f"`animatic build {wish.opened.root} --target {target}`."
    )


def _by_onnxruntime_cuda(wish: Wish) -> _Attempt:
    onnxruntime = import_onnxruntime()

    if importlib.util.find_spec("cuda") is not None:
        from animatic.engine.cuda import find_devices

        find_devices()  # as above; ONNX Runtime itself does not need cuda-bindings
    graphs = _graphs(wish, wish.precision or "fp16", must=wish.precision is not None)
    parts = {role: part_on_gpu(wish, graph) for role, graph in graphs.items()}
    if wish.text_on_processor:
        parts["text_encoder"] = text_part(wish)
    what = f"ONNX Runtime {onnxruntime.__version__} on the GPU, {graphs['denoiser'].precision}"
    return open_parts(wish, parts), "onnxruntime-cuda", what + asides(parts), []


def _on_processor(wish: Wish) -> _Attempt:
    onnxruntime = import_onnxruntime()

    references = {wish.bundle.graph(role).precision for role in wish.roles}
    if wish.precision in {None, "fp32", *references}:
        graphs = {role: wish.bundle.graph(role) for role in wish.roles}
    elif wish.precision in _CPU_TYPED:
        graphs = _graphs(wish, wish.precision or "", must=True)
        if wish.bundle.text.costly:
            graphs["text_encoder"] = wish.bundle.graph("text_encoder")
    else:
        raise EngineError(
            f"The processor cannot compute in {wish.precision}; choose fp32, fp16 or int8, or a "
            "device that can."
        )
    parts = {role: part_on_processor(wish, graph) for role, graph in graphs.items()}
    precision = graphs["denoiser"].precision
    what = f"ONNX Runtime {onnxruntime.__version__} on the processor, {precision}"
    return open_parts(wish, parts), "onnxruntime", what, []


def _graphs(wish: Wish, precision: str, *, must: bool) -> dict[Role, GraphSpec]:
    """Each role's graph for a precision, the reference where a role has none of it.

    must: EngineError if no role that every clip needs has one.
    """
    graphs = {role: wish.graph(role, precision, "fp16") for role in wish.roles}
    if must and all(graphs[role].precision != precision for role in wish.needed):
        typed = any(graph.precision == "fp16" for graph in wish.bundle.graphs)
        command = f"animatic export {wish.bundle.family} --precision {precision} --out FOLDER"
        if typed and precision in {"int8", "fp8"}:
            command = f"animatic calibrate {wish.opened.root} --precision {precision}"
        raise EngineError(
            f"The bundle {wish.bundle.name} has no {precision} graph; run `{command}`, or leave "
            "the precision out."
        )
    return graphs
