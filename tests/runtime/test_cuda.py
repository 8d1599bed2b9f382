"""The CUDA wrappers: what they say without a driver, and that they give back what they take."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from animatic.engine import cuda
from animatic.errors import DeviceLostError, EngineError
from tests.runtime.device import require_device, require_no_device
from tests.runtime.host_cuda import HostCuda, refused

if TYPE_CHECKING:
    from collections.abc import Iterator

runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")

LOST_NAMES = re.findall(
    r"\w+",
    """DevicesUnavailable NoDevice InvalidDevice ECCUncorrectable NvlinkUncorrectable Contained
    IllegalAddress LaunchTimeout ContextIsDestroyed Assert HardwareStackError IllegalInstruction
    MisalignedAddress InvalidAddressSpace InvalidPc LaunchFailure TensorMemoryLeak SystemNotReady
    MpsClientTerminated ExternalDevice Unknown""",
)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> HostCuda:
    memory = HostCuda()
    monkeypatch.setattr(cuda, "call", memory.call)
    return memory


@pytest.fixture
def unloaded() -> Iterator[None]:
    """The bindings are looked for anew, here and after the test."""
    cuda._api.cache_clear()
    yield
    cuda._api.cache_clear()


def answers(monkeypatch: pytest.MonkeyPatch, **functions: tuple[Any, ...]) -> None:
    """Let CUDA's functions answer so: (code, value…)."""
    api = SimpleNamespace(
        cudaGetErrorString=runtime.cudaGetErrorString,
        **{name: (lambda *_, a=answer: a) for name, answer in functions.items()},
    )
    monkeypatch.setattr(cuda, "_api", lambda: api)


def test_without_a_driver_it_is_said() -> None:
    require_no_device()
    with pytest.raises(EngineError, match=r"no NVIDIA driver|CUDA sees no GPU") as caught:
        cuda.find_devices()
    assert str(caught.value).endswith(", or render with --device cpu.")


@pytest.mark.parametrize(
    "take", [lambda: cuda.DeviceBuffer(4), lambda: cuda.PinnedBuffer(4), cuda.Stream, cuda.probe]
)
def test_every_call_is_checked(take: Any) -> None:
    require_no_device()
    with pytest.raises(EngineError, match=r"\(cuda[A-Z]\w+: .*, error \d+\)"):
        take()


def test_cuinit_raises_without_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    require_no_device()
    driver = pytest.importorskip("cuda.bindings.driver")
    monkeypatch.setattr(cuda, "_api", lambda: driver)
    with pytest.raises(EngineError, match=r"cuInit cannot be called .*install NVIDIA's driver"):
        cuda.call("cuInit", 0)


@pytest.mark.parametrize("missing", ["cuda.bindings.runtime", "cuda.bindings"])
@pytest.mark.usefixtures("unloaded")
def test_without_the_bindings(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    if missing == "cuda.bindings":
        monkeypatch.delitem(sys.modules, "cuda.bindings.runtime", raising=False)
    with pytest.raises(EngineError, match=r"cuda-bindings is missing .*; pip install cuda-bind"):
        cuda.find_devices()


def test_a_driver_that_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = runtime.cudaError_t
    answers(
        monkeypatch,
        cudaGetDeviceCount=(codes.cudaErrorInsufficientDriver, None),
        cudaDriverGetVersion=(codes.cudaSuccess, 12080),
        cudaRuntimeGetVersion=(codes.cudaSuccess, 13050),
    )
    with pytest.raises(
        EngineError,
        match=r"driver knows CUDA 12\.8 and .* of CUDA 13\.5; .*'cuda-bindings==12\.\*'",
    ):
        cuda.find_devices()


@pytest.mark.parametrize("answer", [("cudaErrorNoDevice", None), ("cudaSuccess", 0)])
def test_a_driver_without_a_gpu(
    answer: tuple[str, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = getattr(runtime.cudaError_t, answer[0])
    answers(monkeypatch, cudaGetDeviceCount=(code, answer[1]))
    with pytest.raises(EngineError, match="CUDA sees no GPU; look at `nvidia-smi`"):
        cuda.find_devices()


def test_devices_are_described(monkeypatch: pytest.MonkeyPatch) -> None:
    properties = runtime.cudaDeviceProp()
    answers(
        monkeypatch,
        cudaGetDeviceCount=(runtime.cudaError_t.cudaSuccess, 2),
        cudaGetDeviceProperties=(runtime.cudaError_t.cudaSuccess, properties),
    )
    devices = cuda.find_devices()
    assert [device.index for device in devices] == [0, 1]
    assert devices[0] == cuda.Device(0, "", (properties.major, properties.minor), 0)


def test_the_lost_codes_are_those_of_the_bindings() -> None:
    codes = {name: int(getattr(runtime.cudaError_t, f"cudaError{name}", 0)) for name in LOST_NAMES}
    known = {code for code in codes.values() if code}  # older bindings lack the newest
    assert known <= cuda.LOST
    assert len(cuda.LOST) == len(LOST_NAMES)


@pytest.mark.parametrize(
    ("name", "error", "sentence"),
    [
        ("cudaErrorIllegalAddress", DeviceLostError, "failed under way .*illegal memory.*700"),
        ("cudaErrorUnknown", DeviceLostError, "start animatic again"),
        ("cudaErrorMemoryAllocation", EngineError, "too little free memory .*smaller picture"),
        ("cudaErrorInvalidValue", EngineError, "refused a call .*invalid argument, error 1"),
    ],
)
def test_errors_are_told_apart(
    name: str, error: type[EngineError], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = getattr(runtime.cudaError_t, name)
    answers(monkeypatch, cudaDeviceSynchronize=(code,))
    with pytest.raises(EngineError, match=sentence) as caught:
        cuda.probe()
    assert type(caught.value) is error
    assert "cudaDeviceSynchronize" in str(caught.value)


def test_pinned_memory_is_seen_as_arrays(host: HostCuda) -> None:
    pinned = cuda.PinnedBuffer(48)
    view = pinned.view("float32", (2, 3))
    view[...] = 7
    assert pinned.view("float32", (6,)).tolist() == [7] * 6
    assert pinned.view("float16", (24,)).flags.writeable
    with pytest.raises(EngineError, match="50 bytes was asked of a buffer of 48"):
        pinned.view("uint8", (50,))
    pinned.close()
    pinned.close()
    with pytest.raises(EngineError, match="asked of a buffer"):
        pinned.view("uint8", (1,))
    assert host.calls["cudaFreeHost"] == 1
    assert not host.held


def test_nothing_is_also_a_size(host: HostCuda) -> None:
    buffer = cuda.DeviceBuffer(0)
    assert buffer.size == 0
    buffer.close()
    assert not host.held


def test_copies_wait_for_the_stream(host: HostCuda) -> None:
    with cuda.Stream() as stream:
        device, there, back = cuda.DeviceBuffer(8), cuda.PinnedBuffer(8), cuda.PinnedBuffer(8)
        there.view("int64", (1,))[0] = 42
        stream.upload(device, there, 8)
        stream.download(back, device, 8)
        assert back.view("int64", (1,))[0] != 42
        stream.synchronise()
        assert back.view("int64", (1,))[0] == 42
        stream.zero(device)
        stream.download(back, device, 4)
        stream.synchronise()
        assert back.view("int32", (2,)).tolist() == [0, 0]
        for buffer in (device, there, back):
            buffer.close()
    assert not host.held


@pytest.mark.parametrize("trouble", [refused(), KeyboardInterrupt()])
def test_a_capture_that_fails_leaves_the_stream_usable(
    trouble: BaseException, host: HostCuda
) -> None:
    def work() -> None:
        raise trouble

    with cuda.Stream() as stream:
        with pytest.raises(type(trouble)):
            stream.capture(work)
        stream.synchronise()
        stream.capture(lambda: None).close()
    assert not host.held


def test_closing_does_not_raise_when_the_gpu_is_gone(host: HostCuda) -> None:
    taken = [cuda.DeviceBuffer(1), cuda.PinnedBuffer(1), cuda.Stream()]
    for each in taken:
        host.fail = (sum(host.calls.values()), DeviceLostError("gone"))
        each.close()  # type: ignore[attr-defined]
        each.close()  # type: ignore[attr-defined]


@pytest.mark.device
def test_a_round_trip_on_the_gpu() -> None:
    device = require_device()
    assert device.name
    assert device.memory > 2**28
    with cuda.Stream() as stream:
        buffer, pinned = cuda.DeviceBuffer(4096), cuda.PinnedBuffer(4096)
        numbers = pinned.view("float32", (1024,))
        numbers[...] = np.arange(1024)
        stream.upload(buffer, pinned, 4096)
        stream.synchronise()
        numbers[...] = -1
        stream.download(pinned, buffer, 4096)
        stream.synchronise()
        np.testing.assert_array_equal(numbers, np.arange(1024))

        def work() -> None:
            stream.zero(buffer)
            stream.download(pinned, buffer, 4096)

        graph = stream.capture(work)
        np.testing.assert_array_equal(numbers, np.arange(1024))
        graph.launch(stream)
        stream.synchronise()
        assert not numbers.any()
        for each in (graph, buffer, pinned):
            each.close()
    cuda.probe()


@pytest.mark.device
def test_too_much_memory_is_one_sentence() -> None:
    device = require_device()
    with pytest.raises(EngineError, match=r"too little free memory .*cudaMalloc"):
        cuda.DeviceBuffer(device.memory * 4)
    cuda.DeviceBuffer(1024).close()
