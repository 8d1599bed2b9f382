"""Which backend plays a bundle on this machine, and why.

The order: engines that were compiled for this very card, then ONNX Runtime on the GPU, then ONNX
Runtime on the processor. Whoever asks for a device gets that device or an error, never another one.
A bundle without engines pays nothing for this: no driver and no GPU library is looked for.
"""

from __future__ import annotations

import importlib.util
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from animatic.engine.onnxruntime import OnnxRuntimeEngine
from animatic.engine.untracked import import_onnxruntime
from animatic.errors import BundleIntegrityError, EngineError, TargetError
from animatic.fingerprint import fresh
from animatic.store import verify_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from animatic.bundle import Bundle, EngineEntry, GraphSpec, Role
    from animatic.detect import Device
    from animatic.engine.protocol import Engine
    from animatic.store import OpenBundle
    from animatic.targets import Target

__all__ = ["ROLES", "Choice", "DeviceName", "choose"]

_log = logging.getLogger("animatic.engine")

DeviceName = Literal["auto", "cpu", "cuda", "tensorrt", "tensorrt_rtx", "onnxruntime-cuda"]
"""What can be asked for: "cuda" is an NVIDIA GPU by whichever backend, best first; the last three
are that backend on it."""

ROLES: Final[tuple[Role, ...]] = ("text_encoder", "denoiser", "vae_decoder")
_PRECISIONS: Final = ("fp32", "fp16", "bf16", "int8", "fp8")
_CPU_TYPED: Final = ("fp16", "int8")  # ONNX Runtime's processor kernels know no bf16 and no fp8


@dataclass(frozen=True, slots=True)
class Choice:
    """Engines that are open, and how it came to them.

    backend: "tensorrt_rtx", "tensorrt", "onnxruntime-cuda" or "onnxruntime".
    reason: a sentence that says what plays where, and why nothing better does.
    is_fallback: something better was tried and did not work; the reason says what.
    """

    engines: Mapping[Role, Engine]
    backend: str
    reason: str
    is_fallback: bool


@dataclass(frozen=True, slots=True)
class _Wish:
    """What is asked for; see `choose`."""

    opened: OpenBundle
    device: str
    precision: str | None
    threads: int | None
    verify: bool

    @property
    def bundle(self) -> Bundle:
        return self.opened.bundle


def choose(
    opened: OpenBundle,
    device: str = "auto",
    precision: str | None = None,
    *,
    threads: int | None = None,
    verify: bool = True,
) -> Choice:
    """Open the engines of every role on the best backend that works here.

    device: one of DeviceName.
    precision: what to compute in, "fp16" or "int8" for instance, where a role has such a graph;
        None takes the target's own on a GPU and the reference graphs on the processor.
    threads: for the processor; None takes every core we may use.
    verify: hash the files that are loaded first.
    EngineError if the device that was asked for cannot be used; on the processor, BundleError or
    EngineError if the bundle cannot be played.
    """
    if device not in get_args(DeviceName):
        raise EngineError(
            f"There is no device {device!r}; choose one of {', '.join(get_args(DeviceName))}."
        )
    known = {*_PRECISIONS, *(graph.precision for graph in opened.bundle.graphs)}
    if precision is not None and precision not in known:
        raise EngineError(
            f"There is no precision {precision!r}; choose one of {', '.join(_PRECISIONS)}."
        )
    wish = _Wish(opened, device, precision, threads, verify)
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


_Attempt = tuple["dict[Role, Engine]", str, str, "list[Exception]"]
"""Engines, backend, what plays where, and what would have been better and did not load."""


def _attempts(wish: _Wish) -> Iterator[Callable[[_Wish], _Attempt]]:
    compiled = wish.device in {"auto", "cuda"} and wish.bundle.engines
    if compiled or wish.device.startswith("tensorrt"):
        yield _by_tensorrt
    if wish.device in {"cuda", "onnxruntime-cuda"} or (
        wish.device == "auto" and _onnxruntime_has_cuda()
    ):
        yield _by_onnxruntime_cuda
    if wish.device in {"auto", "cpu"}:
        yield _on_processor


def _none(wish: _Wish, troubles: list[Exception]) -> EngineError:
    said = " ".join(dict.fromkeys(map(str, troubles)))
    error = EngineError(f"{wish.bundle.name} cannot be played by the device {wish.device}. {said}")
    error.__cause__ = troubles[0]
    return error


def _nothing_better(wish: _Wish, backend: str) -> str:
    if backend.startswith("tensorrt"):
        return "its engines were built for this GPU."
    if wish.device in {"cpu", "onnxruntime-cuda"}:
        return f"{wish.device} was asked for."
    return "the bundle has no engines."


def _by_tensorrt(wish: _Wish) -> _Attempt:
    from animatic.detect import detect_device
    from animatic.engine.cuda import find_devices

    find_devices()  # says why there is no GPU in the words of someone who wants to render
    machine = detect_device()
    failed: list[Exception] = []
    for precision, entries in _sets(wish, machine):
        try:
            engines = _open(wish, precision, entries)
        except (EngineError, BundleIntegrityError) as error:
            failed.append(error)
            continue
        first = next(iter(entries.values()))
        what = f"{first.backend} {first.backend_version} on {machine.name}, {precision}"
        return engines, first.backend, what, failed
    if failed:
        raise failed[0]
    kind = f"{wish.precision} engines" if wish.precision else "engines"
    if wish.device.startswith("tensorrt"):
        kind = f"{kind} of {wish.device}"
    target = next((t.name for t in _targets(machine)), "auto")
    raise EngineError(
        f"The bundle {wish.bundle.name} has no complete set of {kind} for {machine.name}; run "
        f"`animatic build {wish.opened.root} --target {target}`."
    )


def _targets(machine: Device) -> list[Target]:
    """The targets whose engines run on this machine: its own first, then its likes."""
    from animatic.targets import find_target, targets_like

    likes = [find_target(name) for name in targets_like(machine.compute_capability)]
    return sorted(likes, key=lambda target: not target.fits(machine.name))


def _sets(wish: _Wish, machine: Device) -> Iterator[tuple[str, dict[Role, EngineEntry]]]:
    """Complete sets of engines for this machine with their precision, best first."""
    for target in _targets(machine):
        precisions = (target.default_precision, *target.precisions)
        for precision in (wish.precision,) if wish.precision else dict.fromkeys(precisions):
            for backend in dict.fromkeys(entry.name for entry in target.backends):
                if wish.device.startswith("tensorrt") and backend != wish.device:
                    continue
                entries = {
                    role: entry
                    for role in ROLES
                    for entry in wish.bundle.engines
                    if (entry.role, entry.target, entry.backend) == (role, target.name, backend)
                    and entry.precision == _typed(wish.bundle, role, (precision, "fp16", "bf16"))
                }
                named = {entry.precision for entry in entries.values()}
                if len(entries) == len(ROLES) and precision in named:
                    yield precision, entries


def _open(wish: _Wish, precision: str, entries: Mapping[Role, EngineEntry]) -> dict[Role, Engine]:
    from animatic.engine.tensorrt import TensorRtEngine

    build = f"animatic build {wish.opened.root} --target {entries['denoiser'].target}"
    graphs = {role: wish.bundle.graph(role, entry.precision) for role, entry in entries.items()}
    for role, entry in entries.items():
        if not fresh(entry, graphs[role]):
            raise EngineError(
                f"The {precision} engine {entry.file} is stale: it was built from another "
                f"{graphs[role].file} or with other settings; run `{build}`."
            )

    def opener(role: Role) -> Engine:
        entry = entries[role]
        if wish.verify:
            verify_files(wish.opened, {entry.file})
        return TensorRtEngine(wish.opened.path(entry.file), graphs[role], entry)

    return _all_roles(opener)


def _by_onnxruntime_cuda(wish: _Wish) -> _Attempt:
    onnxruntime = import_onnxruntime()

    from animatic.engine.onnxruntime_cuda import OnnxRuntimeCudaEngine

    if importlib.util.find_spec("cuda") is not None:
        from animatic.engine.cuda import find_devices

        find_devices()  # as above; ONNX Runtime itself does not need cuda-bindings
    graphs = _graphs(wish, wish.precision or "fp16", must=wish.precision is not None)

    def opener(role: Role) -> Engine:
        return OnnxRuntimeCudaEngine(_path(wish, graphs[role]), graphs[role])

    precision = graphs["denoiser"].precision
    what = f"ONNX Runtime {onnxruntime.__version__} on the GPU, {precision}"
    return _all_roles(opener), "onnxruntime-cuda", what, []


def _on_processor(wish: _Wish) -> _Attempt:
    onnxruntime = import_onnxruntime()

    references = {wish.bundle.graph(role).precision for role in ROLES}
    if wish.precision in {None, "fp32", *references}:
        graphs = {role: wish.bundle.graph(role) for role in ROLES}
    elif wish.precision in _CPU_TYPED:
        graphs = _graphs(wish, wish.precision or "", must=True)
    else:
        raise EngineError(
            f"The processor cannot compute in {wish.precision}; choose fp32, fp16 or int8, or a "
            "device that can."
        )

    def opener(role: Role) -> Engine:
        graph = graphs[role]
        path = _path(wish, graph)
        if graph.precision == "int8":  # its fused kernels saturate on processors without VNNI
            return OnnxRuntimeEngine(path, graph, threads=wish.threads, optimisation="basic")
        return OnnxRuntimeEngine(path, graph, threads=wish.threads)

    precision = graphs["denoiser"].precision
    what = f"ONNX Runtime {onnxruntime.__version__} on the processor, {precision}"
    return _all_roles(opener), "onnxruntime", what, []


def _onnxruntime_has_cuda() -> bool:
    onnxruntime = import_onnxruntime()

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def _typed(bundle: Bundle, role: Role, precisions: tuple[str, ...]) -> str | None:
    """The first of some precisions that a role has a graph in; None if it has none of them."""
    has = {graph.precision for graph in bundle.graphs if graph.role == role}
    return next((precision for precision in precisions if precision in has), None)


def _graphs(wish: _Wish, precision: str, *, must: bool) -> dict[Role, GraphSpec]:
    """Each role's graph for a precision, the reference where a role has none of it.

    must: EngineError if no role has one.
    """
    kinds = {role: _typed(wish.bundle, role, (precision, "fp16")) for role in ROLES}
    if must and precision not in kinds.values():
        typed = any(graph.precision == "fp16" for graph in wish.bundle.graphs)
        command = f"animatic export {wish.bundle.family} --precision {precision} --out FOLDER"
        if typed and precision in {"int8", "fp8"}:
            command = f"animatic calibrate {wish.opened.root} --precision {precision}"
        raise EngineError(
            f"The bundle {wish.bundle.name} has no {precision} graph; run `{command}`, or leave "
            "the precision out."
        )
    return {role: wish.bundle.graph(role, kind) for role, kind in kinds.items()}


def _path(wish: _Wish, graph: GraphSpec) -> Path:
    if wish.verify:
        verify_files(wish.opened, {graph.file, *(data.file for data in graph.external_data)})
    return wish.opened.path(graph.file)


def _all_roles(opener: Callable[[Role], Engine]) -> dict[Role, Engine]:
    """Open an engine for every role, or none."""
    engines: dict[Role, Engine] = {}
    try:
        for role in ROLES:
            engines[role] = opener(role)
    except BaseException:
        for engine in engines.values():
            engine.close()
        raise
    return engines
