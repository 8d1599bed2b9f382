"""Which backends are installed here, and exactly which versions.

Each is imported to find out: a package that is listed and whose libraries do not load is not
installed, and a plan runs only on the very version of TensorRT that built it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from animatic.engine.untracked import import_onnxruntime

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animatic.targets import BackendName

__all__ = ["how_to_install", "installed_backends", "installed_version"]

_PACKAGES: Final[Mapping[BackendName, str]] = {
    "tensorrt_rtx": "tensorrt-rtx-cu13",
    "tensorrt": "tensorrt",
    "onnxruntime-cuda": "onnxruntime-gpu",
    "onnxruntime": "onnxruntime",
}


def how_to_install(backend: BackendName, version: str) -> str:
    """Say what brings exactly this version of a backend."""
    hint = f"pip install {_PACKAGES[backend]}=={version}"
    return f"{hint}, or on a Jetson the JetPack that has it" if backend == "tensorrt" else hint


def installed_version(backend: BackendName) -> str | None:
    """Return the version of a backend that loads here, such as "1.7.1.116"; None if none does."""
    try:
        if backend.startswith("onnxruntime"):
            module = import_onnxruntime()
        else:
            module = importlib.import_module(backend)
    except (ImportError, OSError):  # OSError: a library of the package does not load
        return None
    if backend == "onnxruntime-cuda" and not _has_cuda(module.get_available_providers()):
        return None
    version: object = getattr(module, "__version__", None)  # a folder of that name has none
    return version if isinstance(version, str) else None


def installed_backends() -> dict[BackendName, str | None]:
    """Return the version of every backend, or None where it does not load."""
    return {backend: installed_version(backend) for backend in _PACKAGES}


def _has_cuda(providers: list[str]) -> bool:
    return "CUDAExecutionProvider" in providers
