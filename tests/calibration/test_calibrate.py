from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec
import onnx
import pytest
from click.testing import CliRunner

import animatic_calibration.calibrate as steps
import animatic_calibration.publish as publishing
from animatic.errors import OutputError
from animatic.lock import locked
from animatic.pipeline import Pipeline
from animatic.shot import Shot
from animatic.store import add_graphs, open_bundle, sha256_file, write_bundle
from animatic_calibration.calibrate import Settings, calibrate_bundle
from animatic_calibration.cli import command
from animatic_calibration.errors import CalibrationError
from animatic_calibration.prompts import PromptSplit
from animatic_calibration.publish import report_path
from animatic_calibration.report import Fidelity, Report
from tests.calibration.typed_model import LAYERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from animatic.bundle import Bundle

PROMPTS = PromptSplit(("a red truck", "a blue car at night"), ("a green ball",))
LENIENT = Settings(target_psnr=20)


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def read_report(root: Path, precision: str = "int8") -> Report:
    return msgspec.json.decode(report_path(root, precision).read_bytes(), type=Report)


@pytest.fixture(scope="module")
def calibrated(typed_tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("calibrated") / "bundle"
    shutil.copytree(typed_tiny, root)
    assert calibrate_bundle(root, PROMPTS, LENIENT) == report_path(root, "int8")
    return root


@pytest.fixture
def copy(typed_tiny: Path, tmp_path: Path) -> Path:
    return shutil.copytree(typed_tiny, tmp_path / "bundle")


@pytest.fixture
def second(calibrated: Path, tmp_path: Path) -> Path:
    """A calibrated bundle that may be changed."""
    return shutil.copytree(calibrated, tmp_path / "bundle")


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
    assert all(20 < layer.graph_snr_db < 100 for layer in report.layers)
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


@pytest.mark.parametrize("nth", [1, 2])
def test_a_break_while_publishing_leaves_the_bundle_as_it_was(
    second: Path, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    before = contents(second)
    written = 0

    def interrupted(root: Path, bundle: Bundle) -> str:
        nonlocal written
        written += 1
        if written == nth:
            raise KeyboardInterrupt
        return write_bundle(root, bundle)

    monkeypatch.setattr(publishing, "write_bundle", interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrate_bundle(second, PROMPTS, Settings(target_psnr=21))
    assert contents(second) == before
    open_bundle(second)


@pytest.mark.parametrize("nth", range(1, 9))
@pytest.mark.parametrize("done", [True, False])
def test_a_break_at_any_move_leaves_the_bundle_as_it_was(
    second: Path,
    monkeypatch: pytest.MonkeyPatch,
    nth: int,
    done: bool,  # noqa: FBT001  # pytest gives it by name
) -> None:
    from pathlib import Path as Anywhere

    before = contents(second)
    rename, moved = Anywhere.rename, 0

    def interrupted(path: Path, target: Path) -> Path:
        nonlocal moved
        moved += 1
        if moved != nth:
            return rename(path, target)
        if done:
            rename(path, target)
        raise KeyboardInterrupt

    with publishing.workplace(second, pytest.fail) as folder:
        graphs = [g for g in open_bundle(second).bundle.graphs if g.precision == "int8"]
        for graph in graphs:
            (folder / graph.file).write_bytes(b"new")
        publishing.save_report(b"{}", "new", "int8", folder)
        monkeypatch.setattr(Anywhere, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            publishing.publish(open_bundle(second), graphs, folder, pytest.fail)
        monkeypatch.undo()
    assert contents(second) == before


def test_what_a_killed_calibration_left_is_swept_and_a_running_one_is_not(copy: Path) -> None:
    left = copy / ".calibration.123.tmp"
    (left / "files").mkdir(parents=True)
    with publishing.workplace(copy, pytest.fail) as first:
        assert not left.exists()
        with publishing.workplace(copy, pytest.fail) as other:
            assert first.is_dir()
            assert first != other
    assert not list(copy.glob(".calibration.*"))


def test_publishing_waits_for_whoever_writes(copy: Path) -> None:
    class Waited(Exception):  # noqa: N818
        pass

    def waiting() -> None:
        raise Waited

    opened = open_bundle(copy)
    with locked(copy, pytest.fail), pytest.raises(Waited):
        publishing.publish(opened, (), copy / "nothing", waiting)


def test_a_break_while_working_leaves_the_bundle_as_it_was(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(copy)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(steps, "unit_noise", interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrate_bundle(copy, PROMPTS, LENIENT)
    assert contents(copy) == before


def test_at_every_moment_of_a_replacement_the_bundle_is_whole(
    second: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kill -9 would find: after every rename and every bundle.json, all that is named."""
    from pathlib import Path as Anywhere

    rename, moments = Anywhere.rename, 0

    def watched(path: Path, target: Path) -> Path:
        nonlocal moments
        open_bundle(second)
        renamed = rename(path, target)
        open_bundle(second)
        moments += 1
        return renamed

    monkeypatch.setattr(Anywhere, "rename", watched)
    calibrate_bundle(second, PROMPTS, Settings(target_psnr=21))
    assert moments >= 8  # two graphs and two reports, each out of the way and in


def test_a_bundle_that_changed_meanwhile_is_not_overwritten(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = publishing.save_report

    def meddling(json: bytes, markdown: str, precision: str, folder: Path) -> None:
        save(json, markdown, precision, folder)
        bundle = open_bundle(copy).bundle
        write_bundle(copy, msgspec.structs.replace(bundle, version="2"))

    monkeypatch.setattr(steps, "save_report", meddling)
    with pytest.raises(CalibrationError, match="was changed while it was calibrated"):
        calibrate_bundle(copy, PROMPTS, LENIENT)
    assert open_bundle(copy).bundle.version == "2"
    assert len(open_bundle(copy).bundle.graphs) == 5


def _meddle(monkeypatch: pytest.MonkeyPatch, root: Path, precision: str) -> None:
    """Have the denoiser exported again, in a precision, while the bundle is calibrated."""
    save = publishing.save_report

    def meddling(json: bytes, markdown: str, written: str, folder: Path) -> None:
        save(json, markdown, written, folder)
        staged = root.parent / "staged"
        staged.mkdir()
        file = f"denoiser.{precision}.onnx"
        model = onnx.load(root / "denoiser.fp16.onnx")
        model.doc_string = "another"
        onnx.save(model, staged / file)
        spec = msgspec.structs.replace(
            open_bundle(root).bundle.graph("denoiser", "fp16"),
            file=file,
            precision=precision,
            sha256=sha256_file(staged / file),
            made_from="c" * 64,
        )
        add_graphs(root, [spec], staged)

    monkeypatch.setattr(steps, "save_report", meddling)


def test_graphs_exported_again_meanwhile_are_not_undone(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _meddle(monkeypatch, copy, "fp16")
    with pytest.raises(CalibrationError, match="was changed while it was calibrated"):
        calibrate_bundle(copy, PROMPTS, LENIENT)
    bundle = open_bundle(copy).bundle  # verified
    assert bundle.graph("denoiser", "fp16").made_from == "c" * 64
    assert all(graph.precision != "int8" for graph in bundle.graphs)


def test_a_graph_added_meanwhile_stays(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _meddle(monkeypatch, copy, "bf16")
    assert calibrate_bundle(copy, PROMPTS, LENIENT) is not None
    bundle = open_bundle(copy).bundle  # verified
    assert bundle.graph("denoiser", "bf16").made_from == "c" * 64
    assert bundle.graph("denoiser", "int8").file == "denoiser.int8.onnx"


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
