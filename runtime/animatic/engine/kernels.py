"""The kernels that TensorRT-RTX compiles on the user's machine, kept from one start to the next.

A plan of TensorRT-RTX is half compiled: its kernels are finished for the card at hand when they are
first run. The file belongs to one plan; the library itself refuses it on another card or driver.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KernelCache", "kernel_folder"]

_log = logging.getLogger(__name__)


def kernel_folder() -> Path:
    """Return the folder of the user's cache where the kernels are kept."""
    from platformdirs import user_cache_path

    return user_cache_path("animatic") / "tensorrt_rtx"


class KernelCache:
    """The IRuntimeCache of one plan, with its file; no trouble with the file is an error."""

    def __init__(self, cache: Any, file: Path) -> None:  # noqa: ANN401, the library is untyped
        """Fill a cache that create_runtime_cache() gave from its file, where there is one."""
        self.cache = cache
        self._file = file
        self._loaded = b""
        try:
            data = file.read_bytes()
        except OSError:
            return
        if data and cache.deserialize(data):
            self._loaded = data
        else:
            _log.debug("the kernels of %s are of another card, driver or version", file)

    def save(self) -> None:
        """Write the file, beside and renamed, where there is something new."""
        memory = self.cache.serialize()
        data = b"" if memory is None else bytes(memory)
        if not data or data == self._loaded:
            return
        temporary = self._file.with_name(f".{self._file.name}.{os.getpid()}.tmp")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(self._file)
            self._loaded = data
        except OSError as error:
            _log.warning(
                "the compiled kernels cannot be kept in %s (%s): the next start compiles them anew",
                self._file,
                error.strerror,
            )
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
