"""One graph to one engine, by `tensorrt` 10.3 to 11.x or `tensorrt_rtx`: two imports, one path.

Both are called by their own API: what is needed of it are a dozen calls which both packages share.
Polygraphy's loaders wrap the same calls, but choose between the two packages by an environment
variable that is read at import, offer neither a progress monitor's pipe nor the log of one build,
and would be one more dependency on a Jetson.

This runs in a process of its own (animatic_engines.worker): a compiler may crash.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from animatic_engines.intent import intent_of, shortfalls
from animatic_engines.layers import read_inspector, read_layers, summarise
from animatic_engines.log import BuildLog
from animatic_engines.memory import peak_rss
from animatic_engines.messages import LAYERS, LOG, PLAN, Compiled, Step
from animatic_engines.phases import Phases
from animatic_engines.profiles import shapes_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from animatic.bundle import TensorSpec
    from animatic_engines.layers import Layer
    from animatic_engines.messages import CompileJob, FailureKind
    from animatic_engines.tensorrt_api import BuilderConfig, Network, NetworkTensor

__all__ = ["RefusalError", "compile_graph", "load_backend"]

_DTYPES: Final = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT64": "int64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "BOOL": "bool",
}
_CHUNK: Final = 1 << 26  # bytes of a plan written at a time: 64 MiB


class RefusalError(Exception):
    """What the parent is to say instead of a result."""

    def __init__(self, kind: FailureKind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


def load_backend(name: str) -> ModuleType:
    """Import `tensorrt` or `tensorrt_rtx`; RefusalError if that does not work."""
    try:
        return importlib.import_module(name)
    # A wheel without its libraries raises OSError, or FileNotFoundError of its own.
    except (ImportError, OSError, RuntimeError) as error:
        raise RefusalError("missing", " ".join(str(error).split())) from error


def compile_graph(job: CompileJob, say: Callable[[Step], None]) -> Compiled:
    """Compile a graph and write plan, log and layers into the job's folder.

    Raises:
        RefusalError: the graph cannot be read or compiled.
        OSError: a file cannot be written.
    """
    trt = load_backend(job.backend)
    folder = Path(job.folder)
    begun = time.monotonic()
    with BuildLog(folder / LOG) as log:
        logger = _logger(trt, log)
        builder = trt.Builder(logger)
        strongly = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(strongly)
        _parse(trt, job, network, logger)
        inputs, outputs = _check(job, network)
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, job.workspace)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        _aim(trt, job, config)
        profile = builder.create_optimization_profile()
        for tensor in job.spec.inputs:
            profile.set_shape(tensor.name, *shapes_of(tensor, job.profile))
        config.add_optimization_profile(profile)
        monitor = _monitor(trt, Phases(lambda f, p: say(Step(fraction=f, phase=p))), log)
        config.progress_monitor = monitor
        intent = intent_of(network)  # before the builder takes the network apart
        plan = builder.build_serialized_network(network, config)
        log.check()
        if plan is None:
            raise RefusalError("compiler", log.trouble or "it gave no reason")
        _write(folder / PLAN, memoryview(plan))
        _keep_timing(job, config)
        layers, warnings = _layers(trt, job, log, logger, plan)
        # With no layers to look at, nothing can be said to be missing among them.
        warnings += shortfalls(intent, layers) if layers else ()
    (folder / LAYERS).write_bytes(msgspec.json.format(msgspec.json.encode(layers), indent=1))
    return Compiled(
        inputs=inputs,
        outputs=outputs,
        seconds=round(time.monotonic() - begun, 3),
        peak_rss=peak_rss(),
        layers=summarise(layers),
        warnings=tuple(warnings),
    )


def _logger(trt: ModuleType, log: BuildLog) -> object:
    """An ILogger that keeps every message; TensorRT's own logger prints."""

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]  # known only at run time
        def log(self, severity: object, message: str) -> None:
            log.add(str(severity).rpartition(".")[2], message)

    return Logger()


def _monitor(trt: ModuleType, phases: Phases, log: BuildLog) -> object:
    """An IProgressMonitor that tells `phases`, and stops a build whose log cannot be written."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def phase_start(self, name: str, _parent: str | None, steps: int) -> None:
            phases.start(name, steps)

        def step_complete(self, name: str, step: int) -> bool:
            phases.step(name, step)
            return log.failure is None

        def phase_finish(self, name: str) -> None:
            phases.finish(name)

    return Monitor()


def _parse(trt: ModuleType, job: CompileJob, network: Network, logger: object) -> None:
    """Fill the network from the file; external data is looked for beside it."""
    parser = trt.OnnxParser(network, logger)
    if parser.parse_from_file(job.graph):
        return
    clauses = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        what = " ".join(error.desc().split()).rstrip(".")
        operator, node = error.node_operator(), error.node_name()
        where = f"at the {operator} node {node!r}: " if operator else ""
        clauses.append(where + what)
    raise RefusalError("graph", clauses[0] if clauses else "it is no ONNX file")


def _check(
    job: CompileJob, network: Network
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Compare what the graph takes and gives with bundle.json, and give it as the latter names it.

    What is fed at run time is what bundle.json says; a difference would be found on the card.
    """
    found = (
        [network.get_input(index) for index in range(network.num_inputs)],
        [network.get_output(index) for index in range(network.num_outputs)],
    )
    said = (job.spec.inputs, job.spec.outputs)
    for word, tensors, specs in zip(("input", "output"), found, said, strict=True):
        if missing := {s.name for s in specs} ^ {t.name for t in tensors}:
            raise RefusalError(
                "graph", f"its {word}s and those in bundle.json differ by {min(missing)!r}"
            )
        by_name = {tensor.name: tensor for tensor in tensors}
        for spec in specs:
            if difference := _difference(spec, by_name[spec.name]):
                raise RefusalError("graph", f"its {word} {spec.name!r} {difference}")
    return job.spec.inputs, job.spec.outputs


def _difference(spec: TensorSpec, tensor: NetworkTensor) -> str | None:
    if tensor.is_shape_tensor:  # it would have to be given from the host, with a range of values
        return "decides by its values how large other tensors are, which an engine cannot take"
    dtype = str(tensor.dtype).rpartition(".")[2]
    if _DTYPES.get(dtype) != spec.dtype:
        return f"is {_DTYPES.get(dtype, dtype)} and {spec.dtype} in bundle.json"
    shape = tuple(tensor.shape)
    fixed = [a for a in zip(shape, spec.shape, strict=False) if a[0] >= 0 and isinstance(a[1], int)]
    if len(shape) != len(spec.shape) or any(one != other for one, other in fixed):
        return f"has the shape {list(shape)} and {list(spec.shape)} in bundle.json"
    return None


def _aim(trt: ModuleType, job: CompileJob, config: BuilderConfig) -> None:
    """Choose the card: TensorRT-RTX builds for any, TensorRT for the one that it runs on.

    TensorRT measures kernels on the card and keeps the times in a cache. TensorRT-RTX measures
    nothing at build time: its timing cache is deprecated since 1.2 and does nothing, and kernels
    are chosen on the user's machine, where the runtime cache keeps them.
    """
    if job.backend == "tensorrt_rtx":
        name = "SM" + "".join(map(str, job.compute_capability))
        capability = getattr(trt.ComputeCapability, name, None)
        if capability is None:
            raise RefusalError("compiler", f"it does not know {name}")
        config.num_compute_capabilities = 1
        config.set_compute_capability(capability, 0)
    elif job.timing_cache:
        path = Path(job.timing_cache)
        kept = b""
        with contextlib.suppress(OSError):  # without it more is measured, and nothing is lost
            kept = path.read_bytes()
        # A cache of another card or version is refused, and then replaced by a new one.
        if not config.set_timing_cache(config.create_timing_cache(kept), ignore_mismatch=False):
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def _keep_timing(job: CompileJob, config: BuilderConfig) -> None:
    """Write the timing cache beside and rename it: two builds may end at once.

    Where it cannot be written, the next build measures again; this one's engine is done.
    """
    if job.backend == "tensorrt_rtx" or not job.timing_cache:
        return
    path = Path(job.timing_cache)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(config.get_timing_cache().serialize())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _write(path: Path, plan: memoryview) -> None:
    with path.open("wb") as stream:
        for start in range(0, plan.nbytes, _CHUNK):
            stream.write(plan[start : start + _CHUNK])
        stream.flush()
        os.fsync(stream.fileno())


def _layers(
    trt: ModuleType, job: CompileJob, log: BuildLog, logger: object, plan: memoryview
) -> tuple[tuple[Layer, ...], list[str]]:
    """The engine's layers, and what there is to warn of in reading them."""
    if job.backend == "tensorrt":  # its card is here, so the engine can be opened
        engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
        if engine is None:
            raise RefusalError("compiler", log.trouble or "the engine cannot be opened again")
        inspector = engine.create_engine_inspector()
        document = inspector.get_engine_information(trt.LayerInformationFormat.JSON)
        strange = 0
        try:
            layers = read_inspector(document)
        except msgspec.MsgspecError:  # of a version with another form; the engine is good
            layers = ()
    else:
        layers, lines = read_layers(log.layers)
        strange = len(lines)
    warnings = []
    if strange:
        warnings.append(f"{strange} lines of the layer dump could not be read.")
    if not layers:
        warnings.append("The compiler listed no layers, so what it made of the graph is not known.")
    return layers, warnings
