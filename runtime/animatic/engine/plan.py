"""Loading a plan: the engine that TensorRT or TensorRT-RTX compiled, from its file."""

from __future__ import annotations

import importlib
import logging
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, get_args

from animatic.backends import how_to_install, installed_version
from animatic.engine.cuda import find_devices
from animatic.errors import EngineError
from animatic.targets import BackendName, version_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import ModuleType

    from animatic.bundle import EngineEntry, GraphSpec

__all__ = ["LoadedPlan", "Messages", "build_command", "check_version", "load_plan"]

_log = logging.getLogger(__name__)

_DTYPES: Final[Mapping[str, str]] = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT64": "int64",
    "UINT8": "uint8",
}
_KEPT: Final = 32  # messages
_HEADER: Final = 64  # bytes; TensorRT-RTX says of less only that it is unhappy


class Messages:
    """What the library said since it was last asked; it says everything of interest by log."""

    def __init__(self, module: ModuleType) -> None:
        self._texts: list[str] = []
        texts = self._texts
        levels = {"VERBOSE": logging.DEBUG - 5, "INFO": logging.DEBUG - 5}

        class Logger(module.ILogger):  # type: ignore[name-defined, misc]
            def __init__(self) -> None:
                module.ILogger.__init__(self)

            def log(self, severity: Any, text: str) -> None:  # noqa: ANN401, the library's own
                level = levels.get(severity.name, logging.DEBUG)
                _log.log(level, "%s: %s", module.__name__, text)
                if level == logging.DEBUG:  # warnings and errors
                    texts.append(text)
                    del texts[:-_KEPT]

        self.logger: Final = Logger()

    def take(self) -> str:
        """Return the warnings and errors so far as one text, and forget them."""
        text = "\n".join(self._texts)
        self._texts.clear()
        return text


@dataclass(frozen=True, slots=True)
class LoadedPlan:
    """A plan in the GPU's memory, and what must live as long as it does.

    module: tensorrt or tensorrt_rtx. engine: its ICudaEngine, made by the IRuntime `runtime`.
    """

    module: ModuleType
    messages: Messages
    runtime: Any
    engine: Any


def build_command(entry: EngineEntry) -> str:
    """Name the command that makes an engine anew, as the clause that ends a sentence."""
    return f"run `animatic build BUNDLE --target {entry.target}`"


def check_version(entry: EngineEntry) -> ModuleType:
    """Import the library of an engine; EngineError unless it is the very version that built it."""
    backend = next((name for name in get_args(BackendName) if name == entry.backend), None)
    if backend not in {"tensorrt", "tensorrt_rtx"}:
        raise EngineError(
            f"The engine {entry.file} is of the backend {entry.backend!r}, which is unknown here; "
            f"update animatic, or {build_command(entry)}."
        )
    here = installed_version(backend)
    if here is None:
        raise EngineError(
            f"The engine {entry.file} needs {backend} {entry.backend_version}, which is not "
            f"installed; {how_to_install(backend, entry.backend_version)}, or render with "
            "--device cpu."
        )
    if version_numbers(here) != version_numbers(entry.backend_version):
        raise EngineError(
            f"The engine {entry.file} was built with {backend} {entry.backend_version} and {here} "
            f"is installed, which does not take it; {build_command(entry)}."
        )
    return importlib.import_module(backend)


def load_plan(path: Path, spec: GraphSpec, entry: EngineEntry) -> LoadedPlan:
    """Load an engine's file to the GPU; EngineError says why it cannot be."""
    module = check_version(entry)
    messages = Messages(module)
    runtime = module.Runtime(messages.logger)
    try:
        with (
            path.open("rb") as file,
            # Mapped: a plan of 3 GB would else be in memory twice while it is loaded.
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        ):
            if len(data) < _HEADER:
                raise _refusal(path, entry, "serialization: less than a header")
            engine = runtime.deserialize_cuda_engine(data) if runtime is not None else None
    except OSError as error:
        raise EngineError(
            f"The engine {path} cannot be read ({error.strerror}); {build_command(entry)}."
        ) from error
    except ValueError as error:  # an empty file cannot be mapped
        raise EngineError(f"The engine {path} is empty; {build_command(entry)}.") from error
    if engine is None:
        raise _refusal(path, entry, messages.take())
    _check_tensors(module, engine, spec, entry)
    return LoadedPlan(module, messages, runtime, engine)


def _refusal(path: Path, entry: EngineEntry, said: str) -> EngineError:
    """Turn what the library logged into one sentence; the order is from sure to unsure."""
    lower = said.lower()
    mend = build_command(entry)
    if "incompatible device" in lower or "compute capability" in lower:
        return EngineError(
            f"The engine {path.name} was compiled for another GPU than this one; {mend}."
        )
    if "out of memory" in lower or "outofmemory" in lower:
        return EngineError(
            f"The GPU has too little free memory for the engine {path.name} "
            f"({path.stat().st_size / 2**30:.1f} GiB); close what else uses it (`nvidia-smi` lists "
            "that), or render with --device cpu."
        )
    # "Serialization assertion … failed": of the magic number, the length or the version.
    if "serialization" in lower:
        return EngineError(
            f"The engine {path.name} is truncated or not a plan of {entry.backend} "
            f"{entry.backend_version}; {mend}."
        )
    if "cuda" in lower:
        find_devices()  # says better than the library does why there is no GPU
    line = next((text for text in said.splitlines() if text.strip()), "no reason given")
    return EngineError(f"The engine {path.name} does not load ({line[:200]}); {mend}.")


def _check_tensors(module: ModuleType, engine: Any, spec: GraphSpec, entry: EngineEntry) -> None:  # noqa: ANN401
    """Refuse a plan that is not of the graph in bundle.json: names, directions, dtypes, sizes."""
    found = {name: name for name in map(engine.get_tensor_name, range(engine.num_io_tensors))}
    modes = {"INPUT": spec.inputs, "OUTPUT": spec.outputs}
    for mode, tensors in modes.items():
        for tensor in tensors:
            name = found.pop(tensor.name, None)
            same = (
                name is not None
                and engine.get_tensor_mode(name).name == mode
                and _DTYPES.get(engine.get_tensor_dtype(name).name) == tensor.dtype
                and engine.get_tensor_location(name) == module.TensorLocation.DEVICE
                and _fits(tuple(engine.get_tensor_shape(name)), tensor.shape)
            )
            if not same:
                raise EngineError(
                    f"The engine {entry.file} does not have the {mode.lower()} {tensor.name} that "
                    f"bundle.json describes ({tensor.dtype} {list(tensor.shape)}); "
                    f"{build_command(entry)}."
                )
    if found:
        raise EngineError(
            f"The engine {entry.file} has the tensor {min(found)}, which bundle.json does not "
            f"describe; {build_command(entry)}."
        )


def _fits(inside: tuple[int, ...], outside: tuple[int | str, ...]) -> bool:
    """Whether a plan's shape, where -1 is any size, is one that the spec describes."""
    return len(inside) == len(outside) and all(
        size == -1 or isinstance(axis, str) or size == axis
        for size, axis in zip(inside, outside, strict=True)
    )
