"""CUDA as far as engines need it, by cuda-bindings: calls are checked, what is taken is given back.

A call that fails is an EngineError which names it. Errors after which the process cannot use the
GPU again are DeviceLostError. Closing never raises: there is nothing left to do about it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from animatic.errors import DeviceLostError, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import numpy.typing as npt

__all__ = [
    "LOST",
    "Device",
    "DeviceBuffer",
    "Graph",
    "PinnedBuffer",
    "Stream",
    "call",
    "find_devices",
    "probe",
]

_log = logging.getLogger(__name__)

_OR_CPU: Final = "or render with --device cpu"
_SUCCESS: Final = 0
_OUT_OF_MEMORY: Final = 2
_NO_DRIVER: Final = frozenset({34, 35})  # a stub library; none, or one that is too old
_NO_DEVICE: Final = 100
_NON_BLOCKING: Final = 1  # cudaStreamNonBlocking: never waits for the default stream

LOST: Final = frozenset(
    {
        46,  # cudaErrorDevicesUnavailable
        100,  # cudaErrorNoDevice, where there was one
        101,  # cudaErrorInvalidDevice, likewise
        214,  # cudaErrorECCUncorrectable
        220,  # cudaErrorNvlinkUncorrectable
        226,  # cudaErrorContained
        *(700, 702),  # cudaErrorIllegalAddress, cudaErrorLaunchTimeout
        *(709, 710),  # cudaErrorContextIsDestroyed, cudaErrorAssert
        *range(714, 720),  # cudaErrorHardwareStackError … cudaErrorLaunchFailure
        721,  # cudaErrorTensorMemoryLeak
        *(802, 810, 911),  # cudaErrorSystemNotReady, …MpsClientTerminated, …ExternalDevice
        999,  # cudaErrorUnknown: what is left of a card that fell off the bus
    }
)
"""The error codes of the CUDA runtime after which only a new process can use the GPU."""


@functools.cache
def _api() -> ModuleType:
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except (ImportError, RuntimeError, OSError) as error:
        raise EngineError(
            "CUDA cannot be called, as the package cuda-bindings is missing or does not load "
            f"({_first_line(error)}); pip install cuda-bindings, {_OR_CPU}."
        ) from error


def call(name: str, *arguments: object) -> tuple[Any, ...]:
    """Call a function of the CUDA runtime and return what it gives after its error code.

    Raises EngineError, or DeviceLostError for the codes of LOST.
    """
    try:
        code, *values = getattr(_api(), name)(*arguments)
    except RuntimeError as error:  # a library of the driver is not found
        raise EngineError(
            f"CUDA's {name} cannot be called ({_first_line(error)}); install NVIDIA's driver, "
            f"{_OR_CPU}."
        ) from error
    if int(code) != _SUCCESS:
        raise _failure(name, code)
    return tuple(values)


def _failure(name: str, code: Any) -> EngineError:  # noqa: ANN401, an enumeration of the bindings
    number = int(code)
    _, text = _api().cudaGetErrorString(code)
    said = f"{name}: {text.decode()}, error {number}"
    if number in LOST:
        return DeviceLostError(
            f"The GPU failed under way ({said}); start animatic again, and if it comes back look "
            f"at `nvidia-smi` and the system's log, {_OR_CPU}."
        )
    if number == _OUT_OF_MEMORY:
        return EngineError(
            f"The GPU has too little free memory ({said}); close what else uses it "
            f"(`nvidia-smi` lists that), make a smaller picture, {_OR_CPU}."
        )
    return EngineError(
        f"The GPU refused a call ({said}); run `animatic doctor`, update the driver, {_OR_CPU}."
    )


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU, as CUDA counts them; memory is the card's whole, in bytes."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory: int


def find_devices() -> tuple[Device, ...]:
    """List the GPUs that CUDA may use, at least one; EngineError says why there is none."""
    api = _api()
    try:
        code, count = api.cudaGetDeviceCount()
    except RuntimeError as error:
        raise EngineError(
            f"There is no NVIDIA driver here ({_first_line(error)}); install it, {_OR_CPU}."
        ) from error
    number = int(code)
    if number in _NO_DRIVER:
        raise EngineError(_driver_trouble())
    if number == _NO_DEVICE or (number == _SUCCESS and not count):
        raise EngineError(
            "CUDA sees no GPU; look at `nvidia-smi` and at CUDA_VISIBLE_DEVICES, in a container "
            f"start it with the GPU, {_OR_CPU}."
        )
    if number != _SUCCESS:
        raise _failure("cudaGetDeviceCount", code)
    devices = []
    for index in range(count):
        (properties,) = call("cudaGetDeviceProperties", index)
        name = properties.name
        devices.append(
            Device(
                index,
                (name.decode() if isinstance(name, bytes) else name).rstrip("\0"),
                (properties.major, properties.minor),
                properties.totalGlobalMem,
            )
        )
    return tuple(devices)


def _driver_trouble() -> str:
    _, driver = _api().cudaDriverGetVersion()
    _, wanted = _api().cudaRuntimeGetVersion()
    if not driver:
        return f"There is no NVIDIA driver on this machine; install it, {_OR_CPU}."
    return (
        f"The NVIDIA driver knows CUDA {_version(driver)} and the installed cuda-bindings are of "
        f"CUDA {_version(wanted)}; update the driver, or pip install "
        f"'cuda-bindings=={driver // 1000}.*', {_OR_CPU}."
    )


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def probe() -> None:
    """Wait for the GPU; DeviceLostError if an earlier failure has taken it from this process."""
    call("cudaDeviceSynchronize")


class DeviceBuffer:
    """Bytes on the GPU, aligned for anything (256 at least)."""

    def __init__(self, size: int) -> None:
        self.size: Final = size
        (address,) = call("cudaMalloc", max(1, size))
        self.address = int(address)

    def close(self) -> None:
        """Give the memory back; closing twice is allowed."""
        address, self.address = self.address, 0
        if address:
            _release("cudaFree", address)


class PinnedBuffer:
    """Bytes on the host at a fixed place, which the GPU reads and writes by itself."""

    def __init__(self, size: int) -> None:
        self.size: Final = size
        (address,) = call("cudaMallocHost", max(1, size))
        self.address = int(address)

    def view(self, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        """Show the first bytes as an array, without a copy; it must not outlive the buffer."""
        kind = np.dtype(dtype)
        size = kind.itemsize * int(np.prod(shape, dtype=np.int64))
        if size > self.size or not self.address:
            raise EngineError(
                f"An array of {size:,} bytes was asked of a buffer of {self.size:,}; this is a "
                "fault of animatic: report it, and render with --device cpu meanwhile."
            )
        memory = (ctypes.c_uint8 * self.size).from_address(self.address)
        flat = np.frombuffer(memoryview(memory), dtype=kind, count=size // kind.itemsize)
        return flat.reshape(shape)

    def close(self) -> None:
        """Give the memory back; closing twice is allowed."""
        address, self.address = self.address, 0
        if address:
            _release("cudaFreeHost", address)


class Graph:
    """Work that was captured from a stream, ready to be done again as one."""

    def __init__(self, executable: object) -> None:
        self._executable: object | None = executable

    def launch(self, stream: Stream) -> None:
        """Queue the work on a stream."""
        call("cudaGraphLaunch", self._executable, stream.raw)

    def close(self) -> None:
        """Free it; closing twice is allowed."""
        executable, self._executable = self._executable, None
        if executable is not None:
            _release("cudaGraphExecDestroy", executable)


class Stream:
    """An order of work on the GPU; what is queued runs while the host goes on."""

    def __init__(self) -> None:
        (self.raw,) = call("cudaStreamCreateWithFlags", _NON_BLOCKING)

    @property
    def handle(self) -> int:
        """What other libraries call this stream."""
        return int(self.raw)

    def upload(self, target: DeviceBuffer, source: PinnedBuffer, size: int) -> None:
        """Queue a copy of the first `size` bytes to the GPU."""
        kind = _api().cudaMemcpyKind.cudaMemcpyHostToDevice
        call("cudaMemcpyAsync", target.address, source.address, size, kind, self.raw)

    def download(self, target: PinnedBuffer, source: DeviceBuffer, size: int) -> None:
        """Queue a copy of the first `size` bytes to the host."""
        kind = _api().cudaMemcpyKind.cudaMemcpyDeviceToHost
        call("cudaMemcpyAsync", target.address, source.address, size, kind, self.raw)

    def zero(self, buffer: DeviceBuffer) -> None:
        """Queue the filling of a buffer with zeros."""
        call("cudaMemsetAsync", buffer.address, 0, buffer.size, self.raw)

    def synchronise(self) -> None:
        """Wait until everything queued is done; errors of that work come out here."""
        call("cudaStreamSynchronize", self.raw)

    def capture(self, work: Callable[[], None]) -> Graph:
        """Record what a function queues on this stream, without doing it.

        EngineError if something in it cannot be captured; the stream can be used on all the same.
        """
        # The local mode: another thread's allocations do not spoil the capture.
        mode = _api().cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        call("cudaStreamBeginCapture", self.raw, mode)
        try:
            work()
        except BaseException:
            with contextlib.suppress(EngineError):
                (unfinished,) = call("cudaStreamEndCapture", self.raw)
                _release("cudaGraphDestroy", unfinished)
            raise
        (graph,) = call("cudaStreamEndCapture", self.raw)
        try:
            (executable,) = call("cudaGraphInstantiate", graph, 0)
        finally:
            _release("cudaGraphDestroy", graph)
        return Graph(executable)

    def close(self) -> None:
        """Free it; work that is queued is still done. Closing twice is allowed."""
        raw, self.raw = self.raw, None
        if raw is not None:
            _release("cudaStreamDestroy", raw)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()


def _release(name: str, handle: object) -> None:
    try:
        call(name, handle)
    except EngineError as error:  # after a device is lost, its memory is gone anyway
        _log.debug("%s", error)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200]
