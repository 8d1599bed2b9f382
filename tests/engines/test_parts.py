"""The small parts of a build: progress, log, lock, shelf, sidecar, first run, the child's end."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import msgspec
import pytest

from animatic.errors import OutputError, TargetError
from animatic.lock import locked
from animatic.store import open_bundle
from animatic.targets import find_target
from animatic_engines.cli import find_targets
from animatic_engines.errors import BuildError, CrashError
from animatic_engines.log import BuildLog
from animatic_engines.messages import Failed, ProbeJob, Step
from animatic_engines.phases import Phases
from animatic_engines.presence import presence_of
from animatic_engines.progress import build_bar
from animatic_engines.shelf import building, publish, sweep
from animatic_engines.sidecar import decode_sidecar, encode_sidecar
from tests.engines.building import entry_for

replace = msgspec.structs.replace


def test_nested_phases_become_one_number_that_never_falls() -> None:
    told: list[tuple[float, str]] = []
    phases = Phases(lambda fraction, name: told.append((fraction, name)))
    phases.start("building", 4)
    phases.step("building", 0)
    phases.start("timing", 2)
    phases.step("timing", 0)
    phases.step("timing", 0)  # nothing new
    phases.step("timing", 1)
    phases.finish("timing")
    phases.step("building", 1)
    phases.finish("unheard of")
    phases.finish("building")
    assert told == [
        (0.0, "building"),
        (0.25, "building"),
        (0.25, "timing"),
        (0.38, "timing"),
        (0.5, "timing"),
        (0.5, "building"),
        (0.5, ""),
    ]


def test_the_log_keeps_layers_and_the_first_trouble(tmp_path: Path) -> None:
    with BuildLog(tmp_path / "log") as log:
        log.add("VERBOSE", "Layers:\nName: a")
        log.add("ERROR", "[x.cpp::12] Error Code 4:\n  no such kernel.")
        log.add("ERROR", "and so on")
        log.check()
    assert log.layers == ["Layers:\nName: a"]
    assert log.trouble == "[x.cpp::12] Error Code 4: no such kernel"
    assert (tmp_path / "log").read_text().startswith("VERBOSE Layers:\nName: a\nERROR [x.cpp")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_log_that_cannot_be_written_says_so_later_and_not_to_the_compiler() -> None:
    with BuildLog(Path("/dev/full")) as log:
        log.add("ERROR", "this does not fit")
        log.add("ERROR", "nor does this")
        with pytest.raises(OSError, match="No space left"):
            log.check()
    assert log.trouble == "this does not fit"


def test_a_second_build_waits_and_says_so(tmp_path: Path) -> None:
    waiting, entered = threading.Event(), threading.Event()

    def second() -> None:
        with locked(tmp_path, waiting.set):
            entered.set()

    thread = threading.Thread(target=second)
    with locked(tmp_path, pytest.fail):
        thread.start()
        assert waiting.wait(30)
        assert not entered.is_set()
    thread.join(30)
    assert entered.is_set()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("killed_at", [1, 2, 3, 4])
def test_the_bundle_is_valid_wherever_publishing_breaks_off(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    graph = open_bundle(bundle).bundle.graph("denoiser", "fp16")
    with building(bundle) as folder:
        publish(bundle, graph, *entry_for(graph, folder, b"old"))
    real, moves = Path.replace, []

    def breaking(source: Path, target: Path) -> Path:
        moves.append(target)  # bundle.json without it, two files, bundle.json with it
        if len(moves) == killed_at:
            raise KeyboardInterrupt
        return real(source, target)

    with building(bundle) as folder:
        entry, files = entry_for(graph, folder, b"new")
        monkeypatch.setattr(Path, "replace", breaking)
        with pytest.raises(KeyboardInterrupt):
            publish(bundle, graph, entry, files)
        monkeypatch.undo()
    after = open_bundle(bundle)  # verified
    assert len(after.bundle.engines) == (1 if killed_at == 1 else 0)
    sweep(bundle, after.bundle)
    left = {path.suffix for path in (bundle / "engines").glob("*/*")}
    assert left == ({".plan", ".json"} if killed_at == 1 else set())


def test_sweeping_leaves_what_is_not_ours(bundle: Path) -> None:
    folder = bundle / "engines" / "rtx-40"
    folder.mkdir(parents=True)
    ours = [
        f"denoiser.fp16.tensorrt_rtx{end}" for end in (".plan", ".json", ".log", ".layers.json")
    ]
    theirs = ["notes.txt", "denoiser.plan", "denoiser.fp16.tensorrt_rtx.plan.bak"]
    for name in (*ours, *theirs):
        (folder / name).touch()
    sweep(bundle, open_bundle(bundle).bundle)
    assert sorted(path.name for path in folder.iterdir()) == sorted(theirs)


def test_a_folder_that_may_not_be_made_is_a_sentence(bundle: Path) -> None:
    (bundle / "engines").write_text("a file in the way")
    with pytest.raises(OutputError, match=r"building"), building(bundle):
        pytest.fail("there is no such folder")


def test_the_place_to_build_is_empty_and_goes(bundle: Path) -> None:
    left = bundle / "engines" / ".building" / "plan"
    left.parent.mkdir(parents=True)
    left.touch()
    with building(bundle) as folder:
        assert list(folder.iterdir()) == []
    assert not (bundle / "engines").exists()


def test_a_sidecar_of_another_kind_is_refused() -> None:
    with pytest.raises(BuildError, match=r"build the engine again: animatic build --force"):
        decode_sidecar(b"{}")
    with pytest.raises(BuildError):
        decode_sidecar(b"\xff")


def test_a_process_that_says_nothing_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from animatic_engines import child

    def ask(script: str) -> str:
        monkeypatch.setattr(child, "COMMAND", (sys.executable, "-c", script))
        with pytest.raises(CrashError) as caught:
            child.ask(ProbeJob(backend="x"), lambda _: None, doing="Importing x", folder=tmp_path)
        return str(caught.value)

    said = ask("import sys; sys.stdin.readline(); sys.exit('first\\nlibx.so: no such symbol')")
    assert said.startswith("Importing x ended early (exit code 1): libx.so: no such symbol; build")
    assert ask("pass").startswith("Importing x ended early (exit code 0); build again")


def test_a_worker_reads_utf_8_whatever_the_locale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from animatic_engines import child

    monkeypatch.setenv("PYTHONIOENCODING", "ascii:strict")
    job = ProbeJob(backend="gerät")
    reply = child.ask(job, lambda _: None, doing="Importing", folder=tmp_path)
    assert reply == Failed(kind="missing", reason="No module named 'gerät'")


def test_no_bar_in_a_pipe_and_one_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    order: Any = SimpleNamespace(kind="fp16 denoiser for rtx-40")
    later: Any = SimpleNamespace(kind="fp16 vae_decoder for rtx-40")
    for stream, quiet, shown in (
        (io.StringIO(), False, False),
        (Terminal(), True, False),
        (Terminal(), False, True),
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm")
        out = sys.stdout
        with build_bar(quiet=quiet) as bar:
            bar.step(order, Step(fraction=0.25, phase="Timing"))
            assert sys.stdout is out  # what is printed meanwhile still goes where it should
            bar.clear()
            bar.step(later, Step(fraction=0.5, phase="Timing"))
        assert ("fp16 vae_decoder for rtx-40" in stream.getvalue()) == shown


def test_targets_are_named_with_commas() -> None:
    assert find_targets("rtx-40, rtx-50") == (find_target("rtx-40"), find_target("rtx-50"))
    with pytest.raises(TargetError, match=r"no target 'rtx-41'; did you mean"):
        find_targets("rtx-40,rtx-41")
    with pytest.raises(click.UsageError, match=r"names nothing; `animatic targets` lists them"):
        find_targets(" , ")


def test_auto_is_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from animatic import detect

    card = detect.Device(
        name="NVIDIA GeForce RTX 5090",
        compute_capability=(12, 0),
        memory_gib=32.0,
        driver="580.1",
    )
    monkeypatch.setattr(detect, "detect_device", lambda **_: card)
    assert find_targets("auto") == (find_target("rtx-50"),)
    assert presence_of(find_target("rtx-50")) == ("NVIDIA GeForce RTX 5090", "")
    absent = presence_of(find_target("rtx-40"))
    assert absent == ("", "this machine has a NVIDIA GeForce RTX 5090, which is no rtx-40")


def test_a_card_of_no_target_runs_what_was_built_for_its_capability(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from animatic import detect

    card = detect.Device(
        name="NVIDIA L20", compute_capability=(8, 9), memory_gib=48.0, driver="580.1"
    )
    monkeypatch.setattr(detect, "detect_device", lambda **_: card)
    with pytest.raises(TargetError, match="NVIDIA L20"):
        find_targets("auto")
    assert presence_of(find_target("rtx-40")) == ("NVIDIA L20", "")
    assert not presence_of(find_target("rtx-50")).device


def test_no_card_is_a_reason_without_its_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    from animatic import detect

    def none() -> detect.Device:
        raise TargetError("This machine shows no GPU; name a target.")

    monkeypatch.setattr(detect, "detect_device", none)
    assert presence_of(find_target("rtx-40")) == ("", "This machine shows no GPU")


def test_help_loads_no_compiler() -> None:
    code = (
        "import sys\n"
        "from animatic_engines.cli import command\n"
        "command(['--help'], standalone_mode=False)\n"
        "heavy = {'tensorrt_rtx', 'tensorrt', 'numpy', 'onnx', 'polygraphy', 'rich'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "--target T[,T…]" in ran.stdout


def test_a_sidecar_survives_the_disk(built: Path, tmp_path: Path) -> None:
    (path,) = (built / "engines").glob("*/*_rtx.json")
    sidecar = decode_sidecar(path.read_bytes())
    assert encode_sidecar(sidecar) == path.read_bytes()
    shutil.copy(path, tmp_path)  # a plain file, readable by whoever reads the bundle
