from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import onnx
import pytest
from click.testing import CliRunner

import animatic_calibration.calibrate as steps
from animatic.errors import OutputError
from animatic.pipeline import Pipeline
from animatic.shot import Shot
from animatic.store import open_bundle, write_bundle
from animatic_calibration.calibrate import Settings, calibrate_bundle
from animatic_calibration.cli import command
from animatic_calibration.errors import CalibrationError
from animatic_calibration.publish import report_path
from animatic_calibration.report import Fidelity
from tests.calibration.calibrating import LENIENT, PROMPTS, contents, read_report
from tests.calibration.typed_model import LAYERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from animatic.bundle import Bundle


def test_both_graphs_are_added_and_all_else_is_as_it_was(
    calibrated: Path, typed_tiny: Path
) -> None:
    before, after = open_bundle(typed_tiny), open_bundle(calibrated)  # verifies every hash
    assert after.bundle.graphs[: len(before.bundle.graphs)] == before.bundle.graphs
    for role in ("denoiser", "vae_decoder"):
        source, made = before.bundle.graph(role, "fp16"), after.bundle.graph(role, "int8")
        assert made.file == f"{role}.int8.onnx"
        assert (made.inputs, made.outputs, made.states) == (
            source.inputs,
            source.outputs,
            source.states,
        )
        model = onnx.load(calibrated / made.file)
        quantised = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
        assert quantised
    old = contents(typed_tiny)
    assert {name: data for name, data in contents(calibrated).items() if name in old} == {
        **old,
        "bundle.json": (calibrated / "bundle.json").read_bytes(),
    }
    assert not [name for name in contents(calibrated) if ".tmp" in name or ".old" in name]


def test_the_report_says_what_was_done(calibrated: Path) -> None:
    report = read_report(calibrated)
    assert report.made_from == open_bundle(calibrated).bundle.graph("denoiser", "int8").made_from
    assert {(layer.graph, layer.name) for layer in report.layers} == {
        (graph, name) for graph, names in LAYERS.items() for name in names
    }
    assert report.left_out["denoiser"]["embed"] == "fewer than 32 channels"
    assert report.calls == {"denoiser": 4, "vae_decoder": 6}
    assert report.measured["fp16"].psnr_db > report.measured["int8"].psnr_db > 25
    assert 0.8 < report.measured["int8"].ssim < 1
    assert report.range_psnr_db.keys() == {"chosen", "max", "percentile", "mse", "entropy"}
    assert all(20 < (layer.graph_snr_db or 0) < 100 for layer in report.layers)
    assert report.clip == "64x48, 9 frames, 2 steps, drawn by the vae_decoder"
    assert (report.left, report.measured_apart) == ({}, {})
    assert all(not layer.kept for layer in report.layers)
    assert report.measured["int8"].worst_psnr_db >= report.target_psnr_db
    assert not report.shortfall
    text = report_path(calibrated, "int8").with_suffix(".md").read_text("utf-8")
    assert text.startswith("# Calibration of tiny to int8\n")
    assert report.made_from[:16] in text
    assert "| denoiser | up | MatMul | 32 → 64 |" in text


def test_the_bundle_still_plays(calibrated: Path) -> None:
    with Pipeline.open(calibrated) as pipeline:
        assert pipeline.clip(Shot("a red truck", frames=5)).shape == (5, 48, 64, 3)


def test_a_second_run_does_nothing(second: Path) -> None:
    before = contents(second)
    told: list[str] = []
    assert calibrate_bundle(second, PROMPTS, LENIENT, tell=told.append) is None
    assert told == []
    assert contents(second) == before


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda root: report_path(root, "int8").unlink(), id="no report"),
        pytest.param(lambda root: write_bundle(root, _older(root)), id="other inputs"),
    ],
)
def test_what_is_not_fresh_is_made_again(second: Path, change: Callable[[Path], object]) -> None:
    change(second)
    assert calibrate_bundle(second, PROMPTS, LENIENT) is not None
    assert calibrate_bundle(second, PROMPTS, LENIENT) is None
    assert len(open_bundle(second).bundle.graphs) == 7


def _older(root: Path) -> Bundle:
    """The bundle as if its int8 graphs came from something else."""
    bundle = open_bundle(root).bundle
    graphs = tuple(
        msgspec.structs.replace(graph, made_from="0" * 64) if graph.precision == "int8" else graph
        for graph in bundle.graphs
    )
    return msgspec.structs.replace(bundle, graphs=graphs)


def test_force_makes_the_same_again(second: Path) -> None:
    before = contents(second)
    assert calibrate_bundle(second, PROMPTS, LENIENT, force=True) is not None
    after = contents(second)
    same = {name for name in before if before[name] == after[name]}
    assert {"denoiser.int8.onnx", "vae_decoder.int8.onnx", "bundle.json"} <= same


def test_fp8_lies_beside_int8(second: Path) -> None:
    assert calibrate_bundle(second, PROMPTS, Settings("fp8", target_psnr=15)) is not None
    bundle = open_bundle(second).bundle
    assert [graph.precision for graph in bundle.graphs[-4:]] == ["int8", "int8", "fp8", "fp8"]
    assert read_report(second, "fp8").range_psnr_db.keys() == {"chosen", "max", "mse"}
    assert calibrate_bundle(second, PROMPTS, LENIENT) is None


def test_layers_stay_in_float16_until_the_target_is_met(calibrated: Path, copy: Path) -> None:
    easy = read_report(calibrated)
    asked = easy.range_psnr_db["chosen"] + 1
    calibrate_bundle(copy, PROMPTS, Settings(target_psnr=asked))
    report = read_report(copy)
    assert report.range_psnr_db["chosen"] >= asked
    assert report.jury_target_psnr_db == asked + 3
    kept = {layer.name for layer in report.layers if layer.kept}
    assert 0 < len(kept) < len(report.layers)
    assert all("it alone would hold clips at" in x.kept for x in report.layers if x.kept)
    named = {
        node.input[1]
        for role in LAYERS
        for node in onnx.load(copy / f"{role}.int8.onnx").graph.node
        if node.op_type in {"MatMul", "Conv"}
    }
    for layer in report.layers:
        plain = {f"{layer.name}.weight.T", f"{layer.name}.weight"}
        assert bool(plain & named) == bool(layer.kept), layer.name


def test_what_float16_does_not_reach_is_refused(copy: Path) -> None:
    before = contents(copy)
    with pytest.raises(CalibrationError, match=r"themselves are .* give a lower --target-psnr"):
        calibrate_bundle(copy, PROMPTS, Settings(target_psnr=99))
    assert contents(copy) == before


def test_a_worst_clip_under_the_target_is_said(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def poor(*_: object) -> Fidelity:
        return Fidelity(psnr_db=21, worst_psnr_db=18.24, ssim=0.9, clips=8)

    monkeypatch.setattr(steps, "measure", poor)
    told: list[str] = []
    calibrate_bundle(copy, PROMPTS, LENIENT, tell=told.append)
    words = "he worst of 8 clips measured on is at 18.2 dB, under the 20 dB asked for"
    assert any(words in line for line in told)
    assert words in read_report(copy).shortfall
    assert words in report_path(copy, "int8").with_suffix(".md").read_text("utf-8")


def test_a_bundle_without_float16_graphs_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(CalibrationError, match="has no fp16 graph of the denoiser to quantise"):
        calibrate_bundle(tiny_bundle, PROMPTS, LENIENT)


def test_a_bundle_that_cannot_be_written_is_refused_at_once(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path as Anywhere

    def denied(path: Path, *_: object, **_named: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Anywhere, "mkdir", denied)
    with pytest.raises(OutputError, match=r"cannot be written \(Permission denied\); calibrate a"):
        calibrate_bundle(copy, PROMPTS, LENIENT)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--precision", "int4"), 2, "'int4' is not one of 'int8', 'fp8'"),
        (("--precision", "fp8", "--ranges", "entropy"), 2, "--ranges entropy is for int8"),
        (("--prompts", "500"), 1, "at most 48 can calibrate"),
        ((), 1, "has no fp16 graph of the denoiser to quantise; export it with"),
    ],
)
def test_the_command_says_what_is_wrong(
    tiny_bundle: Path,
    arguments: tuple[str, ...],
    code: int,
    said: str,
) -> None:
    result = CliRunner().invoke(command, [str(tiny_bundle), *arguments])
    if code == 2:
        assert result.exit_code == 2
        assert said in result.output
    else:  # the runtime's CLI prints it in one line and exits 1
        assert isinstance(result.exception, CalibrationError)
        assert said in str(result.exception)


def test_the_command_gives_the_report_and_then_nothing_to_do(copy: Path) -> None:
    prompts = copy.parent / "mine.txt"
    prompts.write_text("a red car\na blue boat\na tree\na green ball\n", "utf-8")
    words = [str(copy), "--prompt-file", str(prompts), "--prompts", "2", "--target-psnr", "20"]
    first = CliRunner().invoke(command, words)
    assert first.exit_code == 0, first.output
    assert first.stdout == f"{copy / 'calibration' / 'report.int8.md'}\n"
    assert "calibrate: smoothing\n" in first.stderr
    again = CliRunner().invoke(command, words)
    assert (again.exit_code, again.stdout) == (0, f"{copy}\n")
    assert again.stderr == "calibrate: nothing has changed since the last calibration\n"
    quiet = CliRunner().invoke(command, [*words, "--quiet", "--force"])
    assert (quiet.exit_code, quiet.stderr) == (0, "")


@pytest.mark.slow
def test_blockout_in_int8_is_near_float32(typed_blockout: Path) -> None:
    """The whole of it on the shipped model, with the few prompts of the fixture."""
    root = typed_blockout
    report = read_report(root)
    assert report.measured["fp16"].psnr_db > 50
    assert report.measured["int8"].psnr_db >= 35
    assert report.measured["int8"].ssim > 0.9
    # A handful of layers may have to stay high, not the bulk of them.
    assert sum(not layer.kept for layer in report.layers) >= 0.9 * len(report.layers)
    bundle = open_bundle(root).bundle
    for role in ("denoiser", "vae_decoder"):
        before, after = bundle.graph(role, "fp16"), bundle.graph(role, "int8")
        assert (root / after.file).stat().st_size < 0.65 * (root / before.file).stat().st_size
