from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import av
import pytest

import animatic
from animatic.sinks import read_record
from tests.runtime.tiny_bundle import write_tiny_bundle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.runtime.command_line import Run

MADE: list[tuple[Sequence[str], list[str]]] = [
    ([], ["a-red-lorry_0.mp4"]),
    (["--seed", "7"], ["a-red-lorry_7.mp4"]),
    (["-o", "clip.mov"], ["clip.mov"]),
    (["-o", "clip.webp"], ["clip.webp"]),
    (["-o", "clip.gif", "--frames", "5"], ["clip.gif"]),
    (["-o", "takes"], ["takes"]),
    (["-o", "clip.png"], ["clip.%04d.png"]),
    (["-o", "clip.rgb", "--size", "32x16"], ["clip.rgb"]),
    (["--variants", "2"], ["a-red-lorry_0_v1.mp4", "a-red-lorry_0_v2.mp4"]),
    (["--variants", "2", "-o", "c.%04d.png"], ["c_v1.%04d.png", "c_v2.%04d.png"]),
    (["--fps", "24000/1001", "--threads", "1", "-q"], ["a-red-lorry_0.mp4"]),
    (["--seconds", "1.1"], ["a-red-lorry_0.mp4"]),
    (["-o", "clip.####.png"], ["clip.%04d.png"]),
    (["-o", "shot #3.png"], ["shot #3.%04d.png"]),
    (["-o", ".clip.mp4"], [".clip.mp4"]),
]


@pytest.mark.parametrize(("arguments", "files"), MADE, ids=" ".join)
def test_generate(run: Run, arguments: Sequence[str], files: list[str]) -> None:
    result = run("generate", "A red lorry!", "--bundle", "BUNDLE", *arguments)
    assert result.code == 0, result.err
    # The paths are the only output: no bar in a pipe.
    assert (result.out.splitlines(), result.err) == (files, "")
    for file in files:
        if not file.endswith(".rgb"):
            assert read_record(Path(file)).prompt == "A red lorry!"


REFUSED: list[tuple[Sequence[str], str, int]] = [
    ([" "], "The prompt is empty", 1),
    (["x" * 2001], "shorten it to at most 2,000", 1),
    (["two\nlines"], "control or broken character", 1),
    (["a cube", "--size", "63x48"], "choose 64x48 or 32x16", 1),
    (["a cube", "--frames", "8"], "choose 9, 5 or 8001", 1),
    (["a cube", "--seconds", "60"], "does not make a clip of that many seconds", 1),
    (["a cube", "-o", "clip.avi"], "does not write .avi", 1),
    (["a cube", "-o", "nowhere/clip.mp4"], "does not exist; create it", 1),
    (["a cube", "--seconds", "1", "--frames", "9"], "exclude each other", 2),
    (["a cube", "--size", "large"], "is not a size such as 144x80", 2),
    (["a cube", "--seconds", "-1"], "choose a number above 0 and up to 86,400, such as 1.125", 1),
    (["a cube", "--fps", "fast"], "is not a frame rate such as 24", 2),
    (["a cube", "--fps", "0"], "Invalid value for '--fps'", 2),
    (["a cube", "--fps", "1000"], "above 0 and up to 240 with terms up to 1,000,000", 2),
    (["a cube", "-o", ""], "The name is empty; name a file such as clip.mp4, or a folder", 2),
    (["a cube", "-o", "."], "The folder . is in use and cannot become a folder of frames", 1),
    (["a cube", "-o", ".."], "The folder .. is in use", 1),
    (["a cube", "-o", ".", "--variants", "2"], "The folder . is in use", 1),
    (["a cube", "-o", ".mp4"], ".mp4 has no name in front of the dot; write it as clip.mp4.", 1),
    (["a cube", "-o", ".####.png"], "write it as clip.####.png.", 1),
    (["a cube", "-o", ".takes"], "would hide its frames; choose a name that does not begin", 1),
    (["a cube", "--seed", "-1"], "--seed", 2),
    (["a cube", "--threads", "0"], "--threads", 2),
    (["a cube", "--variants", "2", "-o", "-"], "A pipe takes one clip", 2),
    (["a cube", "--nonsense"], "No such option", 2),
    ([], "Missing argument 'PROMPT'", 2),
]


@pytest.mark.parametrize(
    ("arguments", "sentence", "code"), REFUSED, ids=lambda value: str(value)[:40]
)
def test_generate_refuses(
    run: Run, tmp_path: Path, arguments: Sequence[str], sentence: str, code: int
) -> None:
    result = run("generate", *arguments, "--bundle", "BUNDLE")
    assert result.code == code
    assert sentence in result.err
    assert result.out == ""
    assert list(tmp_path.iterdir()) == []
    assert result.err.splitlines()[-1].startswith("animatic: ")
    assert "Error" not in result.err
    assert result.err.startswith("animatic: " if code == 1 else "Usage: ")
    if code == 1:
        assert result.err.count("\n") == 1


@pytest.mark.parametrize("rate", ["23.976", "23.98", "24000/1001"])
def test_rate_as_people_write_it(run: Run, rate: str) -> None:
    shot = ("generate", "A red lorry!", "--bundle", "BUNDLE", "--frames", "5", "-o", "clip.mov")
    assert run(*shot, "--fps", rate).code == 0
    assert read_record(Path("clip.mov")).fps == "24000/1001"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ("1", "1 s is not a length that this model makes at 8 frames per second"),
        ("1.06", "1.06 s is not a length that this model makes at 8 frames per second"),
        ("1.07", ""),
        ("1.125", ""),
    ],
)
def test_another_length_is_said_once(run: Run, seconds: str, said: str) -> None:
    result = run(
        *("generate", "A red lorry!", "--bundle", "BUNDLE", "-q"),
        *("--seconds", seconds, "-o", "clip.gif"),
    )
    assert (result.code, result.out) == (0, "clip.gif\n")
    assert result.err == (f"animatic: {said}: the clip is 9 frames, 1.125 s.\n" if said else "")


def test_variants_differ_and_are_recorded(run: Run) -> None:
    first, second = run(
        "generate", "A red lorry!", "--bundle", "BUNDLE", "--variants", "2"
    ).out.split()
    assert (read_record(Path(first)).variant, read_record(Path(second)).variant) == (0, 1)
    with av.open(first) as one, av.open(second) as other:
        pair = [next(film.decode(video=0)).to_ndarray(format="rgb24") for film in (one, other)]
    assert (pair[0] != pair[1]).any()


def test_inspect_shows_what_the_bundle_says(run: Run) -> None:
    result = run("inspect", "BUNDLE", "--verify")
    assert (result.code, result.err) == (0, "")
    for part in ("tiny 1 (tiny)", "64x48, 32x16 pixels", "vae_decoder.onnx", "every file is"):
        assert part in result.out


def test_inspect_json_is_the_bundle(run: Run, tiny_bundle: Path) -> None:
    document = json.loads(run("inspect", "BUNDLE", "--json").out)
    assert document["bundle"] == json.loads((tiny_bundle / "bundle.json").read_bytes())


def test_inspect_verify_finds_damage(run: Run, tmp_path: Path) -> None:
    damaged = write_tiny_bundle(tmp_path / "damaged")
    (damaged / "denoiser.onnx").write_bytes(b"")
    assert run("inspect", str(damaged)).code == 0
    result = run("inspect", str(damaged), "--verify")
    assert result.code == 1
    assert "denoiser.onnx is truncated or changed" in result.err


def test_doctor_makes_a_clip(run: Run) -> None:
    result = run("doctor", "--bundle", "BUNDLE", "--json")
    assert result.code == 0
    report = json.loads(result.out)
    assert report["ok"]
    assert report["inference"]["frames"] == 9
    assert report["inference"]["frames_per_second"] > 0
    assert report["encoders"]["mp4"]
    assert "all is well" in run("doctor", "--bundle", "BUNDLE").out


def test_doctor_notes_a_cache_that_cannot_be_written(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "file" / name)
    result = run("doctor", "--bundle", "BUNDLE")
    assert result.code == 0
    assert "note: the cache folder " in result.out
    assert result.out.endswith("\nclips can be made; see the note above\n")
    report = json.loads(run("doctor", "--bundle", "BUNDLE", "--json").out)
    assert (report["ok"], report["cache"]["writable"], len(report["notes"])) == (True, False, 1)


def test_doctor_says_what_is_wrong(run: Run, tmp_path: Path) -> None:
    damaged = write_tiny_bundle(tmp_path / "damaged")
    (damaged / "denoiser.onnx").unlink()
    result = run("doctor", "--bundle", str(damaged), "--json")
    assert result.code == 1
    report = json.loads(result.out)
    assert not report["ok"]
    assert "denoiser.onnx" in report["inference"]["error"]
    assert run("doctor", "--bundle", str(damaged)).code == 1


def test_bench_ends_in_json(run: Run) -> None:
    result = run("bench", "--bundle", "BUNDLE", "--runs", "2", "--threads", "1")
    assert result.code == 0, result.err
    report = json.loads(result.out.splitlines()[-1])
    assert report["runs"] == 2
    assert 0 < report["first_frame_seconds"]["p50"] <= report["clip_seconds"]["p50"]
    assert report["clip_seconds"]["p50"] <= report["clip_seconds"]["p95"]
    assert sum(report["stage_share"].values()) == pytest.approx(1, abs=0.01)
    assert set(report["stage_share"]) == {"text", "denoise", "decode"}
    assert report["matrix_gflops"] > 0
    assert report["gflop_per_clip"] == 0.001


def test_version_and_help(run: Run) -> None:
    assert run("--version") == (0, f"animatic {animatic.__version__}\n", "")
    result = run("--help")
    assert result.code == 0
    for name in ("generate", "reproduce", "inspect", "doctor", "bench"):
        assert f"\n  {name} " in result.out


@pytest.mark.parametrize("name", ["generate", "reproduce", "inspect", "doctor", "bench"])
def test_every_command_has_help(run: Run, name: str) -> None:
    result = run(name, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: animatic {name} ")


def test_help_loads_nothing_heavy() -> None:
    heavy = ["av", "imageio", "numpy", "onnxruntime", "PIL", "rich", "tokenizers", "msgspec"]
    code = (
        "import sys; from animatic.cli import main; code = main(['generate', '--help']);"
        f"print(sorted(set({heavy!r}) & set(sys.modules)), file=sys.stderr); sys.exit(code)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stderr.strip() == "[]"


def test_unknown_command_is_usage(run: Run) -> None:
    result = run("animate")
    assert result.code == 2
    assert "\nanimatic: No such command 'animate'" in result.err
    assert run().err.startswith("Usage: animatic [OPTIONS] COMMAND")
    assert run().code == 2


def shell(tiny_bundle: Path, *arguments: str) -> list[str]:
    shot = ["generate", "A red lorry!", "--bundle", str(tiny_bundle)]
    return [sys.executable, "-m", "animatic", *shot, *arguments]


def test_pipe_is_the_pixels(tiny_bundle: Path) -> None:
    child = subprocess.run(shell(tiny_bundle, "-o", "-"), capture_output=True, check=True)
    assert len(child.stdout) == 9 * 48 * 64 * 3
    assert child.stderr == b""


def test_closed_pipe_ends_quietly(tiny_bundle: Path) -> None:
    with subprocess.Popen(
        shell(tiny_bundle, "-o", "-", "--frames", "8001"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.read(48 * 64 * 3)
        child.stdout.close()
        assert child.stderr.read() == b""
        assert child.wait(60) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX terminals")
def test_terminal_gets_a_bar_and_standard_output_only_the_path(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    import pty

    ours, theirs = pty.openpty()
    with subprocess.Popen(
        shell(tiny_bundle),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    ) as child:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux's way to say that the other end is closed
                break
            if not part:
                break
            shown += part
        assert child.stdout is not None
        assert child.stdout.read() == b"a-red-lorry_0.mp4\n"
    os.close(ours)
    assert child.returncode == 0
    assert b"%" in shown
