"""TensorRT engines: a real plan is refused with a sentence wherever this machine cannot run it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from animatic.engine import OnnxRuntimeEngine
from animatic.engine.kernels import KernelCache
from animatic.engine.plan import Messages, _fits, _refusal, check_version
from animatic.engine.tensorrt import TensorRtEngine
from animatic.errors import EngineError
from tests.runtime.device import require_device, require_no_device
from tests.runtime.test_engine import SPEC, latents, save_graph
from tests.runtime.tiny_plan import build_plan, engine_entry

if TYPE_CHECKING:
    from pathlib import Path

    from animatic.bundle import EngineEntry

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")

replace = msgspec.structs.replace


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return build_plan(save_graph(tmp_path_factory.mktemp("plan") / "vae_decoder.onnx"), SPEC)


@pytest.fixture
def path(plan: bytes, tmp_path: Path) -> Path:
    file = tmp_path / "vae_decoder.fp16.tensorrt_rtx.plan"
    file.write_bytes(plan)
    return file


@pytest.fixture
def entry(plan: bytes) -> EngineEntry:
    return engine_entry(plan, SPEC)


def test_a_whole_plan_without_a_driver(path: Path, entry: EngineEntry) -> None:
    require_no_device()
    with pytest.raises(EngineError, match=r"(no NVIDIA driver|CUDA sees no GPU).*--device cpu\.$"):
        TensorRtEngine(path, SPEC, entry)


@pytest.mark.parametrize("length", [1, 27, 64, 1000, -1])
def test_a_truncated_plan(path: Path, entry: EngineEntry, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    sentence = (
        r"^The engine vae_decoder\.fp16\.tensorrt_rtx\.plan is truncated or not a plan of "
        rf"tensorrt_rtx {entry.backend_version}; run `animatic build BUNDLE --target rtx-40`\.$"
    )
    with pytest.raises(EngineError, match=sentence):
        TensorRtEngine(path, SPEC, entry)


def test_not_a_plan(path: Path, entry: EngineEntry) -> None:
    path.write_bytes(b"hello" * 1000)
    with pytest.raises(EngineError, match="truncated or not a plan"):
        TensorRtEngine(path, SPEC, entry)
    path.write_bytes(b"")
    with pytest.raises(EngineError, match=r"is empty; run `animatic build BUNDLE --target rtx-40`"):
        TensorRtEngine(path, SPEC, entry)
    path.unlink()
    with pytest.raises(EngineError, match=r"cannot be read \(No such file.*; run `animatic build"):
        TensorRtEngine(path, SPEC, entry)


@pytest.mark.parametrize("version", ["1.6.0.43", "1.7.1", "10.13.3.9"])
def test_a_plan_of_another_version(tmp_path: Path, entry: EngineEntry, version: str) -> None:
    other = replace(entry, backend_version=version)
    sentence = (
        f"built with tensorrt_rtx {version} and {entry.backend_version} is installed, which does "
        "not take it; run `animatic build BUNDLE --target rtx-40`"
    )
    with pytest.raises(EngineError, match=sentence):
        TensorRtEngine(tmp_path / "nowhere.plan", SPEC, other)  # said before the file is touched


def test_an_unknown_backend(entry: EngineEntry) -> None:
    with pytest.raises(EngineError, match=r"'openvino', which is unknown here; update animatic"):
        check_version(replace(entry, backend="openvino"))
    with pytest.raises(EngineError, match="'onnxruntime', which is unknown here"):
        check_version(replace(entry, backend="onnxruntime"))


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt_rtx"])
def test_a_missing_package(
    backend: str, entry: EngineEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, backend, None)
    package = backend.replace("_", "-")
    sentence = (
        rf"needs {backend} 10\.3\.0, which is not installed; pip install {package}.*==10\.3\.0.*"
        r"--device cpu\.$"
    )
    with pytest.raises(EngineError, match=sentence):
        check_version(replace(entry, backend=backend, backend_version="10.3.0"))


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        # As the libraries word it; the last two were seen with TensorRT-RTX 1.7.1.
        (
            "The engine plan file is generated on an incompatible device, expecting compute 8.9",
            "compiled for another GPU than this one; run `animatic build BUNDLE --target rtx-40`",
        ),
        (
            "deserializeCudaEngine: Error Code 2: OutOfMemory (Requested size was 9 bytes.)",
            r"too little free memory .*GiB\); close what else uses it",
        ),
        (
            "Serialization assertion plan.header.size == blobSize failed.\ncudaError 35: CUDA",
            "truncated or not a plan of tensorrt_rtx",
        ),
        ("", r"does not load \(no reason given\); run `animatic build"),
    ],
)
def test_what_the_library_says_becomes_a_sentence(
    path: Path, entry: EngineEntry, said: str, sentence: str
) -> None:
    with pytest.raises(EngineError, match=sentence):
        raise _refusal(path, entry, said)


def test_shapes_of_a_plan_and_of_a_graph() -> None:
    assert _fits((1, -1, 4), ("batch", "columns", 4))
    assert _fits((-1, 3), (7, 3))
    assert not _fits((1, 5), ("batch", 4))
    assert not _fits((1,), ("batch", 4))


def test_messages_are_kept_in_bounds() -> None:
    messages = Messages(trt)
    severity = trt.ILogger.Severity
    messages.logger.log(severity.INFO, "all is well")
    for number in range(100):
        trouble = f"trouble {number}"
        messages.logger.log(severity.ERROR, trouble)
    lines = messages.take().splitlines()
    assert (len(lines), lines[-1]) == (32, "trouble 99")
    assert messages.take() == ""


class Kernels:
    """An IRuntimeCache, which the library only gives where there is a GPU: bytes in, bytes out."""

    def __init__(self, data: bytes, *, takes: bool = True) -> None:
        self.data, self.takes, self.given = data, takes, b""

    def deserialize(self, data: bytes) -> bool:
        self.given = data
        return self.takes

    def serialize(self) -> bytes:
        return self.data


def test_kernels_are_kept_between_starts(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "plan.cache"
    KernelCache(Kernels(b"one"), file).save()
    assert file.read_bytes() == b"one"
    again = Kernels(b"one")
    cache = KernelCache(again, file)
    assert again.given == b"one"
    file.write_bytes(b"touched by nobody")
    cache.save()  # nothing new: not written
    assert file.read_bytes() == b"touched by nobody"
    foreign = KernelCache(Kernels(b"two", takes=False), file)
    foreign.save()
    assert file.read_bytes() == b"two"
    KernelCache(Kernels(b""), file).save()
    assert file.read_bytes() == b"two"
    assert [each.name for each in file.parent.iterdir()] == ["plan.cache"]


def test_kernels_that_cannot_be_kept_are_no_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"")
    KernelCache(Kernels(b"one"), tmp_path / "file" / "plan.cache").save()
    assert "the next start compiles them anew" in caplog.text


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, EngineEntry]:
    """A plan for the GPU of this machine, its cache in the test's own folder."""
    device = require_device()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    major, minor = device.compute_capability
    if not hasattr(trt.ComputeCapability, f"SM{major}{minor}"):
        pytest.skip(f"TensorRT-RTX does not serve {device.name} (SM{major}{minor})")
    graph = save_graph(tmp_path / "vae_decoder.onnx")
    data = build_plan(graph, SPEC, capability=device.compute_capability)
    file = tmp_path / "here.plan"
    file.write_bytes(data)
    return file, engine_entry(data, SPEC)


@pytest.mark.device
def test_a_plan_agrees_with_onnx_runtime(here: tuple[Path, EngineEntry], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    reference = OnnxRuntimeEngine(tmp_path / "vae_decoder.onnx", SPEC)
    engine = TensorRtEngine(here[0], SPEC, here[1])
    for columns in (4, 8, 1, 4):
        for _run in range(5):
            given = {"latents": random.standard_normal((1, 3, columns), dtype=np.float32)}
            mine, theirs = engine.run(given), reference.run(given)
            np.testing.assert_allclose(mine["frames"], theirs["frames"], rtol=1e-6)
        engine.reset()
        reference.reset()
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="is closed; open the pipeline again"):
        engine.run({"latents": latents()})
    assert list((tmp_path / "cache").rglob("*.cache"))  # the compiled kernels were kept


@pytest.mark.device
def test_a_plan_of_another_graph(here: tuple[Path, EngineEntry]) -> None:
    other: Any = replace(SPEC, inputs=(replace(SPEC.inputs[0], dtype="float16"), SPEC.inputs[1]))
    with pytest.raises(EngineError, match=r"does not have the input latents .*animatic build"):
        TensorRtEngine(here[0], other, here[1])


@pytest.mark.device
def test_a_size_outside_the_profile(here: tuple[Path, EngineEntry]) -> None:
    engine = TensorRtEngine(here[0], SPEC, here[1])
    with pytest.raises(EngineError, match="built for 1 to 8 columns and is given 9"):
        engine.run({"latents": latents(columns=9)})
    np.testing.assert_array_equal(engine.run({"latents": latents(1)})["frames"], latents(2))
    engine.close()
