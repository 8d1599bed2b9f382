"""`animatic verify` and the findings behind it: real files and graphs, a made-up device."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from animatic.bundle import AxisRange, EngineEntry, FileRef
from animatic.detect import Device
from animatic.engine import Engine, FakeEngine, OnnxRuntimeEngine
from animatic.errors import EngineError, TargetError
from animatic.extras import how_to_add
from animatic.fingerprint import engine_fingerprint
from animatic.store import OpenBundle, open_bundle, sha256_file, write_bundle
from animatic.verification import TOLERANCES, Finding, verify_bundle

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from animatic.bundle import GraphSpec, Role
    from tests.runtime.command_line import Run

replace = msgspec.structs.replace
VERSION = "1.7.1.116"
ADA = Device(name="NVIDIA L40", compute_capability=(8, 9), memory_gib=44, driver="580")
PROFILE = tuple(
    AxisRange(axis=axis, minimum=1, optimum=size, maximum=size)
    for axis, size in (("batch", 1), ("columns", 8), ("frames", 3), ("rows", 6), ("tokens", 16))
)


@pytest.fixture
def built(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle with fp16 graphs and an engine for each, for rtx-40.

    The graphs are copies of the reference, and the plans are not TensorRT's: nothing here reads
    them, but their bytes, hashes and fingerprints are as they should be.
    """
    root = tmp_path / "built bundle"
    shutil.copytree(tiny_bundle, root)
    bundle = open_bundle(root).bundle
    graphs, entries = list(bundle.graphs), []
    (root / "engines" / "rtx-40").mkdir(parents=True)
    for reference in bundle.graphs:
        graph = replace(reference, file=f"{reference.role}.fp16.onnx", precision="fp16")
        shutil.copy(root / reference.file, root / graph.file)
        graphs.append(graph)
        stem = f"engines/rtx-40/{graph.role}.fp16.tensorrt_rtx"
        (root / f"{stem}.plan").write_bytes(graph.role.encode())
        (root / f"{stem}.json").write_text("{}", "utf-8")
        entries.append(
            EngineEntry(
                role=graph.role,
                precision="fp16",
                target="rtx-40",
                backend="tensorrt_rtx",
                backend_version=VERSION,
                profile=PROFILE,
                flags={},
                file=f"{stem}.plan",
                sha256=sha256_file(root / f"{stem}.plan"),
                fingerprint=engine_fingerprint(
                    graph,
                    target="rtx-40",
                    backend="tensorrt_rtx",
                    backend_version=VERSION,
                    profile=PROFILE,
                    flags={},
                ),
                sidecar=FileRef(file=f"{stem}.json", sha256=sha256_file(root / f"{stem}.json")),
            )
        )
    write_bundle(root, replace(bundle, graphs=tuple(graphs), engines=tuple(entries)))
    return root


def edit(root: Path, change: Callable[[EngineEntry], EngineEntry]) -> None:
    """Change the denoiser's entry."""
    bundle = open_bundle(root, verify=False).bundle
    entries = tuple(change(e) if e.role == "denoiser" else e for e in bundle.engines)
    write_bundle(root, replace(bundle, engines=entries))


def on_the_cpu(opened: OpenBundle, _entry: EngineEntry, graph: GraphSpec) -> Engine:
    """In the place of TensorRT: the very graph, by ONNX Runtime."""
    return OnnxRuntimeEngine(opened.path(graph.file), graph, threads=1)


def no_gpu() -> Device:
    raise TargetError("There is no GPU; buy one.")


def findings(root: Path, **ways: Any) -> list[Finding]:
    defaults = {"detect": lambda: ADA, "version": lambda _: VERSION, "open_engine": on_the_cpu}
    return verify_bundle(open_bundle(root, verify=False), **{**defaults, **ways})


def of(found: list[Finding], role: Role = "denoiser") -> dict[str, tuple[str, str]]:
    """The outcomes and sentences of one engine."""
    plan = f"engines/rtx-40/{role}.fp16.tensorrt_rtx.plan"
    return {f.check: (f.outcome, f.sentence) for f in found if f.subject == plan}


def test_a_sound_bundle_where_its_device_is(built: Path) -> None:
    found = findings(built)
    assert {finding.outcome for finding in found} == {"right"}
    assert len(found) == 6 + 1 + 3 * 4  # graphs, tokenizer, four checks of each engine
    for role in ("text_encoder", "denoiser", "vae_decoder"):
        assert list(of(found, role)) == ["files", "fresh", "machine", "run"]
        assert "differs from ONNX Runtime by 0 (L2" in of(found, role)["run"][1]
    assert "is for this machine's NVIDIA L40 and tensorrt_rtx" in of(found)["machine"][1]


def test_where_there_is_no_device_engines_are_not_run(built: Path) -> None:
    found = of(findings(built, detect=no_gpu))
    assert found["machine"] == ("open", "was not run. There is no GPU; buy one.")
    assert (found["files"][0], found["fresh"][0]) == ("right", "right")
    assert "run" not in found


@pytest.mark.parametrize("capability", [(8, 6), (12, 0)])
def test_another_card(built: Path, capability: tuple[int, int]) -> None:
    other = replace(ADA, name="NVIDIA A10", compute_capability=capability)
    found = of(findings(built, detect=lambda: other))
    assert found["machine"] == (
        "open",
        "was not run: it is for rtx-40 and this machine has a NVIDIA A10.",
    )
    assert "run" not in found


def test_a_target_of_a_newer_version(built: Path) -> None:
    edit(built, lambda entry: replace(entry, target="rtx-99"))
    outcome, sentence = of(findings(built))["machine"]
    assert outcome == "open"
    assert "There is no target 'rtx-99'" in sentence


def test_another_version_of_tensorrt_is_refused(built: Path) -> None:
    found = of(findings(built, version=lambda _: "1.8.0.1"))
    assert found["machine"][0] == "wrong"
    assert found["machine"][1] == (
        "was built with tensorrt_rtx 1.7.1.116 and 1.8.0.1 is installed, which does not take it; "
        f"run `animatic build '{built}' --target rtx-40`."
    )
    assert "run" not in found


def test_no_tensorrt(built: Path) -> None:
    found = of(findings(built, version=lambda _: None))
    assert found["machine"] == (
        "open",
        "was not run: tensorrt_rtx is not installed; pip install tensorrt-rtx-cu13==1.7.1.116.",
    )


def test_an_unknown_backend(built: Path) -> None:
    edit(built, lambda entry: replace(entry, backend="tvm"))
    outcome, sentence = of(findings(built))["machine"]
    assert outcome == "wrong"
    assert "'tvm', which is unknown here; update animatic" in sentence


def test_a_stale_engine_names_what_mends_it(built: Path) -> None:
    edit(built, lambda entry: replace(entry, flags={"workspace": "1"}))
    found = of(findings(built))
    assert found["fresh"] == (
        "wrong",
        (
            "is stale: it was built from another denoiser.fp16.onnx or with other settings; "
            f"run `animatic build '{built}' --target rtx-40`."
        ),
    )
    assert "run" not in found
    assert "run" in of(findings(built), "vae_decoder")


@pytest.mark.parametrize(
    ("file", "damage", "sentence"),
    [
        ("{stem}.plan", "cut", "is truncated or changed; run `animatic build '{root}' --target"),
        ("{stem}.plan", "gone", "is missing; run `animatic build '{root}' --target rtx-40`."),
        ("{stem}.json", "cut", "{stem}.json is truncated or changed; run `animatic build"),
    ],
)
def test_a_damaged_engine_is_not_run(built: Path, file: str, damage: str, sentence: str) -> None:
    words = {"stem": "engines/rtx-40/denoiser.fp16.tensorrt_rtx", "root": str(built)}
    path = built / file.format(**words)
    path.write_bytes(b"") if damage == "cut" else path.unlink()
    found = of(findings(built))
    assert found["files"][0] == "wrong"
    assert sentence.format(**words) in found["files"][1]
    assert "run" not in found


def test_every_damaged_file_of_the_model_is_named(built: Path) -> None:
    (built / "denoiser.onnx").write_bytes(b"")
    (built / "vae_decoder.fp16.onnx").unlink()
    (built / "licence.txt").unlink()
    found = findings(built, detect=no_gpu)
    wrong = {f.subject: f.sentence for f in found if f.outcome == "wrong"}
    mend = "reinstall animatic or export the bundle again."
    assert wrong == {
        "denoiser.onnx": f"is truncated or changed; {mend}",
        "vae_decoder.fp16.onnx": f"is missing; {mend}",
        "tokenizer.json": f"licence.txt is missing; {mend}",
        "engines/rtx-40/vae_decoder.fp16.tensorrt_rtx.plan": (
            "cannot be told: vae_decoder.fp16.onnx is damaged."
        ),
    }
    # Without the reference there is nothing to compare with.
    assert "run" not in of(findings(built))


def test_a_name_that_leaves_the_bundle(built: Path) -> None:
    (built.parent / "outside.plan").write_bytes(b"denoiser")
    edit(built, lambda entry: replace(entry, file="../outside.plan"))
    assert any(
        (f.outcome, f.check) == ("wrong", "files")
        and "not inside the bundle's folder" in f.sentence
        for f in findings(built)
    )


def scaled(factor: float) -> Callable[[OpenBundle, EngineEntry, GraphSpec], Engine]:
    """An engine whose every output is too large by a factor."""

    def opener(opened: OpenBundle, _entry: EngineEntry, graph: GraphSpec) -> Engine:
        whole = replace(graph, states=())  # so that the states are inputs and outputs like others
        inner = OnnxRuntimeEngine(opened.path(graph.file), whole, threads=1)

        def function(inputs: dict[str, Any]) -> dict[str, Any]:
            carried = {pair.output for pair in graph.states}
            outputs = inner.run(inputs)
            return {
                name: array if name in carried else (array * factor).astype(array.dtype)
                for name, array in outputs.items()
            }

        return FakeEngine(graph, function)

    return opener


@pytest.mark.parametrize(
    ("factor", "outcome"), [(1.015, "right"), (1.025, "wrong"), (float("nan"), "wrong")]
)
def test_the_results_are_held_to_the_tolerance(built: Path, factor: float, outcome: str) -> None:
    assert TOLERANCES["fp16"] == 0.02
    for role in ("text_encoder", "denoiser", "vae_decoder"):
        found = of(findings(built, open_engine=scaled(factor)), role)
        assert found["run"][0] == outcome
        assert "0.02 is allowed" in found["run"][1]
        if outcome == "wrong":
            assert found["run"][1].endswith("--target rtx-40 --force`.")


def test_an_engine_that_will_not_open(built: Path) -> None:
    def refuse(_opened: OpenBundle, entry: EngineEntry, _graph: GraphSpec) -> Engine:
        raise EngineError(f"{entry.file} cannot be read; build it again.")

    outcome, sentence = of(findings(built, open_engine=refuse))["run"]
    assert outcome == "wrong"
    assert sentence.startswith("does not run. engines/rtx-40/denoiser")


def test_tensorrt_itself_is_asked(built: Path) -> None:
    pytest.importorskip("cuda.bindings.runtime", reason="needs animatic[gpu]")
    # Without a GPU it says so; with one, the plan is none.
    outcome, sentence = of(findings(built, open_engine=None))["run"]
    assert outcome == "wrong"
    assert sentence.startswith("does not run. ")


def test_without_the_gpu_extra(built: Path) -> None:
    def lacking(_opened: OpenBundle, _entry: EngineEntry, _graph: GraphSpec) -> Engine:
        raise ModuleNotFoundError(name="cuda")

    assert of(findings(built, open_engine=lacking))["run"] == (
        "open",
        f"was not run: cuda is missing; {how_to_add('gpu')} brings it.",
    )


def test_a_missing_module_of_ours_is_a_bug(built: Path) -> None:
    def lacking(_opened: OpenBundle, _entry: EngineEntry, _graph: GraphSpec) -> Engine:
        raise ModuleNotFoundError(name="animatic.engine.tensorrt")

    with pytest.raises(ModuleNotFoundError):
        findings(built, open_engine=lacking)


def test_the_command(run: Run, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def verify(opened: OpenBundle) -> list[Finding]:
        return verify_bundle(opened, detect=no_gpu)

    monkeypatch.setattr("animatic.verification.verify_bundle", verify)
    result = run("verify", str(built))
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert len(lines) == 6 + 1 + 3 * 3 + 1
    assert lines[0] == "ok     text_encoder.onnx  is as bundle.json says."
    assert lines[-1] == "all that could be checked here is right (3 checks are open)"
    edit(built, lambda entry: replace(entry, flags={"workspace": "1"}))
    result = run("verify", str(built))
    assert (result.code, result.err) == (1, "")
    stale = [line for line in result.out.splitlines() if line.startswith("WRONG  ")]
    assert len(stale) == 1
    assert "denoiser.fp16.tensorrt_rtx.plan  is stale" in stale[0]
    assert result.out.splitlines()[-1] == "1 of 16 checks failed"
    document = json.loads(run("verify", str(built), "--json").out)
    assert document["ok"] is False
    assert [f["check"] for f in document["findings"] if f["outcome"] == "wrong"] == ["fresh"]


def test_the_command_without_engines(run: Run) -> None:
    result = run("verify", "BUNDLE")
    assert result.code == 0
    assert result.out.splitlines()[-2:] == [
        "no engine has been built for this bundle",
        "all is right",
    ]


def test_the_command_on_no_bundle(run: Run) -> None:
    result = run("verify", "nowhere")
    assert (result.code, result.out) == (1, "")
    assert "There is no bundle at nowhere" in result.err
