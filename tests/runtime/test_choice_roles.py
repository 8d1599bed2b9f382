"""Roles that a clip may do without, and a text encoder that stays on the processor."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from animatic.detect import Device as Found
from animatic.engine import Engine, FakeEngine, OnnxRuntimeEngine
from animatic.engine.choice import Choice, choose
from animatic.engine.cuda import Device
from animatic.engine.lazy import LazyEngine
from animatic.errors import BundleIntegrityError, EngineError
from animatic.pipeline import Pipeline
from animatic.shot import Shot
from animatic.store import open_bundle, write_bundle
from tests.runtime.tiny_roles import ALL, add_engines, add_graphs, write_costly_bundle
from tests.runtime.tiny_windowed import write_windowed_bundle

if TYPE_CHECKING:
    from pathlib import Path

    from animatic.bundle import EngineEntry, GraphSpec, Role

replace = msgspec.structs.replace
NEEDED: tuple[Role, ...] = ("denoiser", "tiny_decoder")
LATENTS = {"latents": np.zeros((1, 4, 1, 2, 4), np.float32)}
CARD = "NVIDIA GeForce RTX 4090"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_costly_bundle(tmp_path / "costly")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was opened, in order: "processor vae_decoder float32"."""
    log: list[str] = []

    class Watched(OnnxRuntimeEngine):
        def __init__(self, path: Path, spec: GraphSpec, **options: Any) -> None:
            log.append(f"processor {spec.role} {spec.precision}")
            super().__init__(path, spec, **options)

    monkeypatch.setattr("animatic.engine.parts.OnnxRuntimeEngine", Watched)
    return log


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> None:
    """An RTX 4090 that runs every plan, as far as anybody asks."""
    card = Device(0, CARD, (8, 9), 24 << 30)
    found = Found(name=CARD, compute_capability=(8, 9), memory_gib=24, driver="580.1")
    monkeypatch.setattr("animatic.engine.cuda.find_devices", lambda: (card,))
    monkeypatch.setattr("animatic.detect.detect_device", lambda: found)

    def load(_path: Path, spec: GraphSpec, _entry: EngineEntry) -> FakeEngine:
        opened.append(f"tensorrt {spec.role} {spec.precision}")
        return FakeEngine(spec, dict)

    monkeypatch.setattr("animatic.engine.tensorrt.TensorRtEngine", load)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> None:
    """An ONNX Runtime with CUDA, as far as anybody asks."""

    def load(_path: Path, spec: GraphSpec) -> FakeEngine:
        opened.append(f"cuda {spec.role} {spec.precision}")
        return FakeEngine(spec, dict)

    monkeypatch.setattr("animatic.engine.parts.onnxruntime_has_cuda", lambda: True)
    monkeypatch.setattr("animatic.engine.choice.onnxruntime_has_cuda", lambda: True)
    monkeypatch.setattr("animatic.engine.onnxruntime_cuda.OnnxRuntimeCudaEngine", load)
    monkeypatch.setattr("animatic.engine.cuda.find_devices", lambda: (object(),))


def closed(choice: Choice) -> Choice:
    for engine in choice.engines.values():
        engine.close()
    return choice


def text_run(engine: Engine) -> np.ndarray[Any, Any]:
    ones = np.ones((1, 3), np.int64)
    return engine.run({"input_ids": ones, "attention_mask": ones})["text_states"]


def test_what_may_not_be_needed_is_opened_by_its_first_run(folder: Path, opened: list[str]) -> None:
    choice = choose(open_bundle(folder))
    assert tuple(choice.engines) == ALL
    assert [role for role, e in choice.engines.items() if isinstance(e, LazyEngine)] == [
        *("text_encoder", "vae_decoder")
    ]
    assert opened == ["processor denoiser float32", "processor tiny_decoder float32"]
    assert {role: e.spec.role for role, e in choice.engines.items()} == {r: r for r in ALL}
    assert "but the" not in choice.reason  # all play in one place
    choice.engines["vae_decoder"].reset()
    assert len(opened) == 2
    frames = choice.engines["vae_decoder"].run(LATENTS)["frames"]
    again = choice.engines["vae_decoder"].run(LATENTS)["frames"]
    assert (frames != again).any()  # the state is carried
    choice.engines["vae_decoder"].reset()
    np.testing.assert_array_equal(choice.engines["vae_decoder"].run(LATENTS)["frames"], frames)
    assert opened[2:] == ["processor vae_decoder float32"]
    assert text_run(choice.engines["text_encoder"]).shape == (1, 3, 384)
    closed(closed(choice))
    with pytest.raises(EngineError, match="vae_decoder is closed; open the pipeline again"):
        choice.engines["vae_decoder"].run(LATENTS)
    assert len(opened) == 4


def test_what_is_wrong_with_it_is_said_then(folder: Path) -> None:
    path = folder / "vae_decoder.onnx"
    right = path.read_bytes()
    path.write_bytes(right[:-20])
    choice = choose(open_bundle(folder, verify=False))
    with pytest.raises(BundleIntegrityError, match=r"vae_decoder\.onnx is truncated or changed"):
        choice.engines["vae_decoder"].run(LATENTS)
    path.write_bytes(right)  # and another try is made
    assert choice.engines["vae_decoder"].run(LATENTS)
    closed(choice)


def test_a_prompt_that_came_before_needs_no_text_encoder(
    folder: Path, opened: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    clips = []
    for _ in range(2):
        with Pipeline.open(folder) as pipeline:
            clips.append(pipeline.clip(Shot("a red cube")))
    assert opened.count("processor text_encoder float32") == 1
    assert not any("vae_decoder" in line for line in opened)
    np.testing.assert_array_equal(clips[0], clips[1])


def test_a_text_encoder_that_is_cheap_is_opened_at_once(folder: Path, opened: list[str]) -> None:
    bundle = open_bundle(folder).bundle
    write_bundle(folder, replace(bundle, text=replace(bundle.text, costly=False)))
    closed(choose(open_bundle(folder)))
    assert opened[0] == "processor text_encoder float32"


def test_typed_graphs_on_the_processor(folder: Path) -> None:
    add_graphs(folder, "fp16", ALL)
    choice = closed(choose(open_bundle(folder), "cpu", "fp16"))
    assert {role: e.spec.precision for role, e in choice.engines.items()} == {
        "text_encoder": "float32",  # T5 overflows in half precision
        "denoiser": "fp16",
        "vae_decoder": "fp16",
        "tiny_decoder": "fp16",
    }


@pytest.mark.usefixtures("gpu")
def test_engines_for_what_every_clip_needs_are_enough(folder: Path, opened: list[str]) -> None:
    add_graphs(folder, "fp16", ("denoiser", "vae_decoder", "tiny_decoder"))
    add_engines(folder, roles=NEEDED)
    choice = choose(open_bundle(folder))
    assert opened == ["tensorrt denoiser fp16", "tensorrt tiny_decoder fp16"]
    assert (choice.backend, choice.is_fallback) == ("tensorrt_rtx", False)
    assert choice.reason == (
        f"tiny plays by tensorrt_rtx 1.7.1.116 on {CARD}, fp16 (but the text_encoder on the "
        "processor, float32, as it is costly; the vae_decoder on the processor, float32, as it "
        "has no engine): its engines were built for this GPU."
    )
    choice.engines["vae_decoder"].run(LATENTS)
    text_run(choice.engines["text_encoder"])
    assert opened[2:] == ["processor vae_decoder float32", "processor text_encoder float32"]
    closed(choice)


@pytest.mark.usefixtures("gpu", "cuda")
def test_onnx_runtime_on_the_gpu_stands_in_where_it_can(folder: Path, opened: list[str]) -> None:
    add_graphs(folder, "fp16", ("denoiser", "vae_decoder", "tiny_decoder"))
    add_engines(folder, roles=NEEDED)
    choice = choose(open_bundle(folder))
    assert choice.engines["vae_decoder"].spec.precision == "fp16"
    assert "the vae_decoder by ONNX Runtime on the GPU, fp16, as it has no engine)" in choice.reason
    with pytest.raises(EngineError, match="fake vae_decoder gave the wrong outputs"):
        choice.engines["vae_decoder"].run(LATENTS)
    assert opened[2:] == ["cuda vae_decoder fp16"]
    closed(choice)


@pytest.mark.usefixtures("gpu")
def test_engines_of_all_roles(folder: Path, opened: list[str]) -> None:
    add_graphs(folder, "fp16", ALL)
    add_engines(folder, roles=ALL)
    choice = closed(choose(open_bundle(folder)))
    # An engine of the text encoder is there, and nobody asked for it.
    assert "fp16 (but the text_encoder on the processor, float32, as it is costly):" in (
        choice.reason
    )
    asked = choose(open_bundle(folder), text_device="gpu")
    assert "but the" not in asked.reason
    assert len(opened) == 4
    for role in ("text_encoder", "vae_decoder"):
        assert isinstance(asked.engines[role], LazyEngine)
        assert asked.engines[role].spec.precision == "fp16"
    with pytest.raises(EngineError, match="fake text_encoder gave the wrong outputs"):
        text_run(asked.engines["text_encoder"])
    assert opened[4:] == ["tensorrt text_encoder fp16"]
    closed(asked)


@pytest.mark.usefixtures("gpu")
def test_a_text_encoder_in_bfloat16_goes_with_every_precision(folder: Path) -> None:
    add_graphs(folder, "fp16", ("denoiser", "vae_decoder", "tiny_decoder"))
    add_graphs(folder, "bf16", ("text_encoder",))
    add_graphs(folder, "int8", ("denoiser",))
    add_engines(folder, precision="int8", roles=("denoiser",))
    add_engines(folder, precision="bf16", roles=("text_encoder",))
    add_engines(folder, roles=("tiny_decoder",))
    choice = closed(choose(open_bundle(folder), precision="int8", text_device="gpu"))
    assert {role: e.spec.precision for role, e in choice.engines.items()} == {
        "text_encoder": "bf16",
        "denoiser": "int8",
        "vae_decoder": "float32",
        "tiny_decoder": "fp16",
    }


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("role", NEEDED)
def test_an_engine_that_every_clip_needs_must_be_there(folder: Path, role: Role) -> None:
    add_graphs(folder, "fp16", ALL)
    add_engines(folder, roles=[r for r in ALL if r != role])
    with pytest.raises(EngineError, match="no complete set of engines of tensorrt_rtx"):
        choose(open_bundle(folder), "tensorrt_rtx")


@pytest.mark.usefixtures("gpu")
def test_a_cheap_text_encoder_must_have_an_engine(folder: Path, opened: list[str]) -> None:
    add_graphs(folder, "fp16", ALL)
    add_engines(folder, roles=NEEDED)
    bundle = open_bundle(folder).bundle
    write_bundle(folder, replace(bundle, text=replace(bundle.text, costly=False)))
    with pytest.raises(EngineError, match="no complete set of engines"):
        choose(open_bundle(folder), "tensorrt_rtx")
    choice = closed(choose(open_bundle(folder), "tensorrt_rtx", text_device="cpu"))
    assert "(but the text_encoder on the processor, float32, as was asked; " in choice.reason
    assert opened[0] == "processor text_encoder float32"  # at once, as it is cheap


@pytest.mark.usefixtures("gpu")
def test_a_stale_engine_that_may_not_be_needed(folder: Path) -> None:
    add_graphs(folder, "fp16", ALL)
    add_engines(folder, roles=ALL)
    bundle = open_bundle(folder).bundle

    def stale(role: Role) -> None:
        engines = tuple(
            replace(e, flags={"precision": "another"}) if e.role == role else e
            for e in bundle.engines
        )
        write_bundle(folder, replace(bundle, engines=engines))

    stale("vae_decoder")
    choice = closed(choose(open_bundle(folder), "tensorrt_rtx"))
    assert "the vae_decoder on the processor, float32, as its engine is stale)" in choice.reason
    stale("tiny_decoder")
    with pytest.raises(EngineError, match=r"tiny_decoder\.fp16\.tensorrt_rtx\.plan is stale"):
        choose(open_bundle(folder), "tensorrt_rtx")


@pytest.mark.usefixtures("cuda")
def test_onnx_runtime_on_the_gpu(folder: Path, opened: list[str]) -> None:
    add_graphs(folder, "fp16", ("denoiser", "vae_decoder", "tiny_decoder"))
    choice = closed(choose(open_bundle(folder)))
    assert choice.backend == "onnxruntime-cuda"
    assert opened == ["cuda denoiser fp16", "cuda tiny_decoder fp16"]
    assert ", fp16 (but the text_encoder on the processor, float32, as it is costly): " in (
        choice.reason
    )
    asked = choose(open_bundle(folder), text_device="gpu")
    assert "but the" not in asked.reason
    with pytest.raises(EngineError, match="fake text_encoder"):
        text_run(asked.engines["text_encoder"])
    assert opened[-1] == "cuda text_encoder float32"
    closed(asked)


@pytest.fixture
def refused(folder: Path) -> Path:
    """A bundle with engines for all but its text encoder."""
    add_graphs(folder, "fp16", ALL)
    add_engines(folder, roles=("denoiser", "vae_decoder", "tiny_decoder"))
    return folder


@pytest.mark.usefixtures("gpu")
def test_a_text_encoder_that_cannot_be_on_the_gpu(refused: Path) -> None:
    words = (
        r"text_encoder of tiny was asked for on a GPU, but it has no engine and ONNX Runtime has "
        rf"no CUDA here; run `animatic build {re.escape(str(refused))} --target auto --text`"
    )
    with pytest.raises(EngineError, match=words):
        choose(open_bundle(refused), text_device="gpu")


def test_words_that_do_not_go_together(folder: Path) -> None:
    with pytest.raises(EngineError, match="device 'tpu' for the text encoder; choose one of auto"):
        choose(open_bundle(folder), text_device="tpu")
    with pytest.raises(EngineError, match="leave the device or the text device out"):
        choose(open_bundle(folder), "cpu", text_device="gpu")
    with pytest.raises(EngineError, match=r"auto with its text encoder on a GPU\. It has no en"):
        choose(open_bundle(folder), text_device="gpu")


def test_an_encoder_is_opened_by_the_first_shot_that_is_given_a_picture(
    tmp_path: Path, opened: list[str]
) -> None:
    with Pipeline.open(write_windowed_bundle(tmp_path / "windowed")) as pipeline:
        pipeline.clip(Shot("a red cube"))
        assert not any("vae_encoder" in line for line in opened)
        picture = np.zeros((48, 64, 3), np.uint8)
        pipeline.clip(Shot("a red cube", images={0: picture}))
        assert opened.count("processor vae_encoder float32") == 1
        pipeline.clip(Shot("a red cube", images={0: picture}))
        assert opened.count("processor vae_encoder float32") == 1


@pytest.mark.usefixtures("gpu")
def test_an_encoder_without_an_engine_plays_elsewhere(tmp_path: Path, opened: list[str]) -> None:
    root = write_windowed_bundle(tmp_path / "windowed")
    add_graphs(root, "fp16")
    add_engines(root)
    choice = choose(open_bundle(root), "tensorrt_rtx")
    assert "the vae_encoder on the processor, float32, as it has no engine" in choice.reason
    assert isinstance(choice.engines["vae_encoder"], LazyEngine)
    assert not any("vae_encoder" in line for line in opened)
    closed(choice)
