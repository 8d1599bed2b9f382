"""Whatever breaks off or comes in between, the bundle is whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import onnx
import pytest

import animatic_calibration.calibrate as steps
import animatic_calibration.publish as publishing
from animatic.lock import locked
from animatic.store import add_graphs, open_bundle, sha256_file, write_bundle
from animatic_calibration.calibrate import Settings, calibrate_bundle
from animatic_calibration.errors import CalibrationError
from tests.calibration.calibrating import LENIENT, PROMPTS, contents

if TYPE_CHECKING:
    from pathlib import Path

    from animatic.bundle import Bundle


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
