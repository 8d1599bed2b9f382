"""Which backend plays a bundle: the order, the reasons, and no device that nobody asked for."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from animatic.detect import Device as Found
from animatic.engine import FakeEngine, OnnxRuntimeEngine
from animatic.engine.choice import ROLES, Choice, choose
from animatic.engine.compiled import compiled_sets
from animatic.engine.cuda import Device
from animatic.engine.wish import Wish
from animatic.errors import BundleIntegrityError, EngineError, TargetError
from animatic.pipeline import Pipeline
from animatic.store import OpenBundle, open_bundle, write_bundle
from tests.runtime.device import require_no_device
from tests.runtime.tiny_bundle import write_tiny_bundle
from tests.runtime.tiny_roles import JUNK, add_engines, add_graphs

if TYPE_CHECKING:
    from pathlib import Path

    from animatic.bundle import EngineEntry, GraphSpec

replace = msgspec.structs.replace


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny")


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "animatic.engine")


ADA = (8, 9)


def detection(name: str = "NVIDIA GeForce RTX 4090", capability: tuple[int, int] = ADA) -> Found:
    return Found(
        name=name,
        compute_capability=capability,
        memory_gib=24,
        driver="580.1",
    )


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine says that it has an RTX 4090; whoever then uses it finds that it has none."""
    card = Device(0, "NVIDIA GeForce RTX 4090", (8, 9), 24 << 30)
    monkeypatch.setattr("animatic.engine.cuda.find_devices", lambda: (card,))
    monkeypatch.setattr("animatic.detect.detect_device", detection)


def close(choice: Choice) -> None:
    for engine in choice.engines.values():
        engine.close()


def precisions(choice: Choice) -> dict[str, str]:
    close(choice)
    return {role: engine.spec.precision for role, engine in choice.engines.items()}


def test_a_bundle_without_engines(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    choice = choose(open_bundle(folder))
    assert tuple(choice.engines) == ROLES
    assert (choice.backend, choice.is_fallback) == ("onnxruntime", False)
    assert choice.reason.startswith("tiny plays by ONNX Runtime ")
    assert choice.reason.endswith("on the processor, float32: the bundle has no engines.")
    assert [record.message for record in caplog.records] == [choice.reason]
    close(choice)
    asked = choose(open_bundle(folder), "cpu")
    assert asked.reason.endswith(": cpu was asked for.")
    close(asked)


def test_it_pays_nothing_for_gpus(folder: Path) -> None:
    code = (
        "import sys; from animatic.pipeline import Pipeline; "
        f"Pipeline.open({str(folder)!r}).close(); "
        "print(*(m for m in sys.modules if m.split('.')[0] in "
        "{'cuda', 'pynvml', 'tensorrt', 'tensorrt_rtx'} or m in {'animatic.detect', "
        "'animatic.targets', 'animatic.engine.cuda', 'animatic.engine.tensorrt'}))"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.split() == []


def test_engines_without_a_gpu(folder: Path) -> None:
    require_no_device()
    add_graphs(folder, "fp16")
    add_engines(folder)
    choice = choose(open_bundle(folder))
    assert (choice.backend, choice.is_fallback) == ("onnxruntime", True)
    assert "on the processor, float32: " in choice.reason
    assert "no NVIDIA driver" in choice.reason or "no GPU" in choice.reason
    close(choice)


@pytest.mark.parametrize("device", ["cuda", "tensorrt", "tensorrt_rtx", "onnxruntime-cuda"])
@pytest.mark.parametrize("engines", [True, False])
def test_a_device_that_is_not_there_is_an_error(
    folder: Path, device: str, *, engines: bool
) -> None:
    require_no_device()
    if engines:
        add_graphs(folder, "fp16")
        add_engines(folder)
    sentence = rf"tiny cannot be played by the device {device}\. .*(no NVIDIA driver|sees no GPU)"
    with pytest.raises(EngineError, match=sentence):
        choose(open_bundle(folder), device)


def test_an_unknown_device(folder: Path) -> None:
    with pytest.raises(EngineError, match="no device 'gpu'; choose one of auto, cpu, cuda, tens"):
        choose(open_bundle(folder), "gpu")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("verify", [True, False])
def test_a_plan_that_does_not_load(folder: Path, *, verify: bool) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    add_graphs(folder, "fp16")
    add_engines(folder)
    sentence = r"text_encoder.* is truncated or not a plan of .*; run `animatic build"
    with pytest.raises(EngineError, match=sentence):
        choose(open_bundle(folder), "tensorrt_rtx", verify=verify)
    plan = folder / "engines/rtx-40/text_encoder.fp16.tensorrt_rtx.plan"
    plan.write_bytes(JUNK[:-7])
    wanted = "is truncated or changed" if verify else "is truncated or not a plan"
    choice = choose(open_bundle(folder, verify=False), verify=verify)
    assert (choice.backend, choice.is_fallback) == ("onnxruntime", True)
    assert wanted in choice.reason
    close(choice)


@pytest.mark.usefixtures("gpu")
def test_an_engine_that_is_stale(folder: Path) -> None:
    add_graphs(folder, "fp16")
    add_engines(folder)
    bundle = open_bundle(folder).bundle
    stale = replace(bundle.engines[1], flags={"precision": "another"})
    engines = (bundle.engines[0], stale, bundle.engines[2])
    write_bundle(folder, replace(bundle, engines=engines))
    sentence = r"denoiser\.fp16\.tensorrt_rtx\.plan is stale: .*; run `animatic build .* rtx-40`"
    with pytest.raises(EngineError, match=sentence):
        choose(open_bundle(folder), "tensorrt_rtx")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    "built",
    [
        {"roles": ("text_encoder", "denoiser")},
        {"target": "rtx-30"},
        {"backend": "tensorrt"},
    ],
)
def test_engines_that_are_not_for_here(folder: Path, built: dict[str, Any]) -> None:
    add_graphs(folder, "fp16")
    add_engines(folder, **built)
    sentence = (
        r"no complete set of engines of tensorrt_rtx for NVIDIA GeForce RTX 4090; run "
        r"`animatic build .*tiny --target rtx-40`"
    )
    with pytest.raises(EngineError, match=sentence):
        choose(open_bundle(folder), "tensorrt_rtx")


def test_no_family_for_the_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Found:
        raise TargetError("Voodoo 2 is not among the cards of any target; use the target cpu.")

    monkeypatch.setattr("animatic.engine.cuda.find_devices", lambda: (object(),))
    monkeypatch.setattr("animatic.detect.detect_device", refuse)
    add_graphs(folder, "fp16")
    add_engines(folder)
    choice = choose(open_bundle(folder))
    assert "Voodoo 2" in choice.reason
    assert choice.is_fallback
    close(choice)


def sets(opened: OpenBundle, found: Found | None = None, **wish: Any) -> list[Any]:
    """The sets in their order: precision, backend, and the denoiser's precision."""
    whole = {"device": "auto", "precision": None, "threads": None, "verify": True, **wish}
    return [
        (precision, entries["denoiser"].backend, entries["text_encoder"].precision)
        for precision, entries in compiled_sets(Wish(opened, **whole), found or detection())
    ]


def test_the_order_of_sets(folder: Path) -> None:
    add_graphs(folder, "fp16")
    add_graphs(folder, "int8", ("denoiser", "vae_decoder"))
    for target in ("rtx-40", "l4", "jetson-agx-orin"):
        for backend in ("tensorrt", "tensorrt_rtx"):
            add_engines(folder, target=target, backend=backend)
            add_engines(
                folder,
                target=target,
                backend=backend,
                precision="int8",
                roles=("denoiser", "vae_decoder"),
            )
    opened = open_bundle(folder)
    # The text encoder has no 8-bit graph: its half one goes with both.
    fp16_rtx, fp16_trt = ("fp16", "tensorrt_rtx", "fp16"), ("fp16", "tensorrt", "fp16")
    int8_rtx, int8_trt = ("int8", "tensorrt_rtx", "fp16"), ("int8", "tensorrt", "fp16")
    own = [fp16_rtx, fp16_trt, int8_rtx, int8_trt]
    likes = [fp16_trt, fp16_rtx, int8_trt, int8_rtx]  # as l4 prefers them
    # A card's own engines first, then those of targets with its compute capability.
    assert sets(opened) == own + likes
    assert sets(opened, detection("NVIDIA L4")) == likes + own
    assert sets(opened, detection("NVIDIA L40")) == own + likes  # of no target itself
    orin = detection("NVIDIA Jetson AGX Orin Developer Kit", (8, 7))
    assert sets(opened, orin) == [int8_trt, fp16_trt]
    assert sets(opened, detection("NVIDIA GeForce RTX 3090", (8, 6))) == []
    assert sets(opened, precision="int8") == [int8_rtx, int8_trt, int8_trt, int8_rtx]
    assert sets(opened, precision="fp8") == []
    assert sets(opened, device="tensorrt") == [fp16_trt, int8_trt, fp16_trt, int8_trt]


@pytest.mark.usefixtures("gpu")
def test_engines_that_load_are_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened_plans: list[Path] = []

    def load(path: Path, spec: GraphSpec, _entry: EngineEntry) -> FakeEngine:
        opened_plans.append(path)
        return FakeEngine(spec, dict)

    monkeypatch.setattr("animatic.engine.tensorrt.TensorRtEngine", load)
    add_graphs(folder, "fp16")
    add_engines(folder)
    with Pipeline.open(folder) as pipeline:
        choice = pipeline.choice
    assert choice is not None
    assert (choice.backend, choice.is_fallback) == ("tensorrt_rtx", False)
    assert choice.reason == (
        "tiny plays by tensorrt_rtx 1.7.1.116 on NVIDIA GeForce RTX 4090, fp16: its engines were "
        "built for this GPU."
    )
    assert [path.name for path in opened_plans] == [
        f"{role}.fp16.tensorrt_rtx.plan" for role in ROLES
    ]


@pytest.mark.usefixtures("gpu")
def test_a_better_set_that_does_not_load_is_not_passed_over_in_silence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(path: Path, spec: GraphSpec, _entry: EngineEntry) -> FakeEngine:
        if path.name == "denoiser.fp16.tensorrt_rtx.plan":
            raise EngineError("The plan denoiser.fp16 is cut short; build it again.")
        return FakeEngine(spec, dict)

    monkeypatch.setattr("animatic.engine.tensorrt.TensorRtEngine", load)
    add_graphs(folder, "fp16")
    add_graphs(folder, "int8", ("denoiser", "vae_decoder"))
    add_engines(folder)
    add_engines(folder, precision="int8", roles=("denoiser", "vae_decoder"))
    choice = choose(open_bundle(folder))
    close(choice)
    assert choice.is_fallback
    assert choice.reason.endswith(", int8: The plan denoiser.fp16 is cut short; build it again.")


def test_precisions_on_the_processor(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    levels: dict[str, str] = {}

    class Watched(OnnxRuntimeEngine):
        def __init__(self, path: Path, spec: GraphSpec, **options: Any) -> None:
            levels[f"{spec.role} {spec.precision}"] = options.get("optimisation", "all")
            super().__init__(path, spec, **options)

    monkeypatch.setattr("animatic.engine.parts.OnnxRuntimeEngine", Watched)
    opened = open_bundle(folder)
    with pytest.raises(
        EngineError, match=r"has no int8 graph; run `animatic export tiny --precision int8 "
    ):
        choose(opened, "cpu", "int8")
    with pytest.raises(EngineError, match="cannot compute in fp8; choose fp32, fp16 or int8"):
        choose(opened, "cpu", "fp8")
    add_graphs(folder, "fp16")
    add_graphs(folder, "int8", ("denoiser",))
    opened = open_bundle(folder)
    assert set(precisions(choose(opened, "cpu")).values()) == {"float32"}
    assert set(precisions(choose(opened, "cpu", "fp32")).values()) == {"float32"}
    assert set(precisions(choose(opened, "cpu", "float32")).values()) == {"float32"}
    assert set(precisions(choose(opened, "cpu", "fp16")).values()) == {"fp16"}
    assert precisions(choose(opened, "cpu", "int8")) == {
        "text_encoder": "fp16",
        "denoiser": "int8",
        "vae_decoder": "fp16",
    }
    assert levels.pop("denoiser int8") == "basic"
    assert set(levels.values()) == {"all"}


def test_only_what_is_loaded_is_hashed(folder: Path) -> None:
    add_graphs(folder, "fp16")
    add_engines(folder, target="rtx-30")
    for file in ("denoiser.fp16.onnx", "engines/rtx-30/denoiser.fp16.tensorrt_rtx.plan"):
        (folder / file).write_bytes(b"changed")
    with pytest.raises(BundleIntegrityError):
        open_bundle(folder)
    Pipeline.open(folder, device="cpu").close()
    with pytest.raises(BundleIntegrityError, match=r"denoiser\.fp16\.onnx is truncated or changed"):
        Pipeline.open(folder, device="cpu", precision="fp16")
    (folder / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(BundleIntegrityError, match="tokenizer"):
        Pipeline.open(folder, device="cpu")
