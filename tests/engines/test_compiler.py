"""What differs between TensorRT and TensorRT-RTX; TensorRT itself needs a card, so it is played."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from animatic.store import open_bundle
from animatic_engines.compiler import RefusalError, _aim, _keep_timing, _layers, load_backend
from animatic_engines.log import BuildLog
from animatic_engines.messages import CompileJob

if TYPE_CHECKING:
    from animatic_engines.tensorrt_api import TimingCache


class FakeCache:
    def __init__(self, content: bytes) -> None:
        self.content = content

    def serialize(self) -> memoryview:
        return memoryview(self.content + b"+measured")


class FakeConfig:
    """Keeps what it is told; a cache of another card is refused as TensorRT does."""

    num_compute_capabilities = 0

    def __init__(self) -> None:
        self.capabilities: list[tuple[object, int]] = []
        self.cache: object = FakeCache(b"")

    def set_compute_capability(self, capability: object, index: int) -> bool:
        self.capabilities.append((capability, index))
        return True

    def create_timing_cache(self, kept: bytes) -> object:
        return FakeCache(kept)

    def set_timing_cache(self, cache: object, *, ignore_mismatch: bool) -> bool:
        assert isinstance(cache, FakeCache)
        if cache.content == b"another card" and not ignore_mismatch:
            return False
        self.cache = cache
        return True

    def get_timing_cache(self) -> TimingCache:
        assert isinstance(self.cache, FakeCache)
        return self.cache


@pytest.fixture
def job(bundle: Path, tmp_path: Path) -> CompileJob:
    return CompileJob(
        backend="tensorrt",
        graph="denoiser.onnx",
        spec=open_bundle(bundle).bundle.graph("denoiser", "fp16"),
        compute_capability=(8, 9),
        profile=(),
        workspace=1 << 30,
        folder=str(tmp_path),
        timing_cache=str(tmp_path / "cache" / "timing" / "tensorrt.cache"),
    )


def rtx() -> ModuleType:
    module = ModuleType("tensorrt_rtx")
    module.ComputeCapability = SimpleNamespace(SM89="ada", SM120="blackwell")  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize(("capability", "name"), [((8, 9), "ada"), ((12, 0), "blackwell")])
def test_tensorrt_rtx_is_told_the_card(
    job: CompileJob, capability: tuple[int, int], name: str
) -> None:
    import msgspec

    config = FakeConfig()
    told = msgspec.structs.replace(job, backend="tensorrt_rtx", compute_capability=capability)
    _aim(rtx(), told, config)
    assert (config.num_compute_capabilities, config.capabilities) == (1, [(name, 0)])
    _keep_timing(told, config)
    assert not Path(job.timing_cache).exists()  # it measures nothing


def test_tensorrt_keeps_what_it_measured(job: CompileJob) -> None:
    path = Path(job.timing_cache)
    for expected in (b"+measured", b"+measured+measured"):
        config = FakeConfig()
        _aim(ModuleType("tensorrt"), job, config)
        assert config.capabilities == []  # it builds for the card that it is on
        _keep_timing(job, config)
        assert path.read_bytes() == expected
    assert list(path.parent.iterdir()) == [path]


def test_a_timing_cache_of_another_card_is_replaced(job: CompileJob) -> None:
    path = Path(job.timing_cache)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another card")
    config = FakeConfig()
    _aim(ModuleType("tensorrt"), job, config)
    _keep_timing(job, config)
    assert path.read_bytes() == b"+measured"


def test_a_timing_cache_that_cannot_be_kept_costs_nothing_else(
    job: CompileJob, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    config = FakeConfig()
    _aim(ModuleType("tensorrt"), job, config)
    _keep_timing(job, config)
    assert (tmp_path / "cache").read_text() == "a file in the way"
    (tmp_path / "cache").unlink()
    Path(job.timing_cache).mkdir(parents=True)
    _aim(ModuleType("tensorrt"), job, config)
    _keep_timing(job, config)
    assert [path.name for path in Path(job.timing_cache).parent.iterdir()] == ["tensorrt.cache"]


@pytest.mark.parametrize("document", ["[]", '{"Layers": [{"Name": 1}]}', "Layers:"])
def test_an_inspector_of_another_form_does_not_undo_a_build(
    job: CompileJob, tmp_path: Path, document: str
) -> None:
    inspector = SimpleNamespace(get_engine_information=lambda _: document)
    engine = SimpleNamespace(create_engine_inspector=lambda: inspector)
    trt = ModuleType("tensorrt")
    trt.Runtime = lambda _: SimpleNamespace(deserialize_cuda_engine=lambda _: engine)  # type: ignore[attr-defined]
    trt.LayerInformationFormat = SimpleNamespace(JSON="json")  # type: ignore[attr-defined]
    with BuildLog(tmp_path / "log") as log:
        layers, warnings = _layers(trt, job, log, object(), memoryview(b"plan"))
    assert layers == ()
    assert warnings == ["The compiler listed no layers, so what it made of the graph is not known."]


def test_a_backend_that_is_not_there_is_a_refusal() -> None:
    with pytest.raises(RefusalError) as caught:
        load_backend("tensorrt_of_nobody")
    assert caught.value.kind == "missing"
    assert caught.value.reason == "No module named 'tensorrt_of_nobody'"
