"""What the command line says when something outside of it is wrong: disks, files, long prompts."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from animatic.bundle import decode_bundle
from animatic.cli.facts import shown
from animatic.sinks import read_record
from animatic.store import sha256_file, write_bundle
from tests.runtime.tiny_bundle import write_tiny_bundle

if TYPE_CHECKING:
    from tests.runtime.command_line import Run

# EFBIG: a limit on the size of files, the way to a full disk that needs no disk.
FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
from animatic.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
@pytest.mark.parametrize("arguments", [["inspect", "BUNDLE"], ["--help"], ["bench", "--help"]])
def test_standard_output_on_a_full_disk(
    tiny_bundle: Path, tmp_path: Path, arguments: list[str]
) -> None:
    words = [str(tiny_bundle) if word == "BUNDLE" else word for word in arguments]
    with (tmp_path / "out").open("wb") as out:
        child = subprocess.run(
            [sys.executable, "-c", FULL, *words],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert child.returncode == 1
    assert child.stderr == (
        "animatic: standard output cannot be written (File too large); "
        "free some space or write elsewhere.\n"
    )


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="Linux's /dev/full")
def test_standard_output_is_dev_full(tiny_bundle: Path) -> None:
    with Path("/dev/full").open("wb") as out:
        child = subprocess.run(
            [sys.executable, "-m", "animatic", "inspect", str(tiny_bundle)],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert child.returncode == 1
    assert child.stderr.startswith("animatic: standard output cannot be written (No space left")
    assert child.stderr.count("\n") == 1


# `>&-` of a shell, which no argument of subprocess gives.
CLOSED = """
import os, sys
os.close(int(sys.argv[1]))
os.execv(sys.executable, [sys.executable, "-m", "animatic", *sys.argv[2:]])
"""


def closed(stream: int, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", CLOSED, str(stream), *words], capture_output=True, check=False
    )


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX descriptors")
@pytest.mark.parametrize("stream", [0, 1, 2])
def test_closed_stream_is_done_without(tiny_bundle: Path, tmp_path: Path, stream: int) -> None:
    clip = str(tmp_path / "c.mp4")
    shot = ["generate", "x " * 200, "--frames", "5", "--bundle", str(tiny_bundle), "-o"]
    child = closed(stream, *shot, clip)
    said = b"" if stream == 2 else b"animatic: the prompt is longer than the model reads"
    assert (child.returncode, child.stderr[: len(said)]) == (0, said)
    assert child.stdout == (b"" if stream == 1 else f"{clip}\n".encode())
    assert read_record(tmp_path / "c.mp4").frames == 5

    child = closed(stream, *shot, "-")
    if stream == 1:
        assert child.returncode == 1
        assert child.stderr == (
            b"animatic: Standard output is closed; redirect it to a file or a pipe, "
            b"or name a file.\n"
        )
    else:
        assert (child.returncode, len(child.stdout)) == (0, 5 * 48 * 64 * 3)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX descriptors")
@pytest.mark.parametrize("stream", [1, 2])
@pytest.mark.parametrize(("words", "code"), [(["inspect"], 0), (["--help"], 0), (["--no"], 2)])
def test_closed_stream_drops_what_is_said(stream: int, words: list[str], code: int) -> None:
    child = closed(stream, *words)
    assert child.returncode == code
    assert b"Traceback" not in child.stdout + child.stderr


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="Linux's /dev/full")
def test_frames_to_dev_full(tiny_bundle: Path) -> None:
    with Path("/dev/full").open("wb") as out:
        child = subprocess.run(
            [
                *(sys.executable, "-m", "animatic", "generate", "a cube"),
                *("-o", "-", "--bundle", str(tiny_bundle)),
            ],
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert child.returncode == 1
    assert child.stderr == (
        "animatic: Standard output cannot be written (No space left on device); free some space "
        "or write elsewhere.\n"
    )


@pytest.mark.skipif(not Path("/dev/null").is_char_device(), reason="POSIX devices")
@pytest.mark.parametrize("force", [[], ["--force"]])
def test_device_is_no_folder(run: Run, force: list[str]) -> None:
    os.mkfifo("pipe")
    Path("notes").touch()
    shot = ("generate", "x", "--bundle", "BUNDLE", *force, "-o")
    for name in ("/dev/null", "pipe"):
        result = run(*shot, name)
        assert (result.code, result.out) == (1, "")
        assert result.err == (
            f"animatic: {name} is a device or a pipe; choose a file name, or give - and redirect "
            "standard output.\n"
        )
    assert run(*shot, "notes").err == (
        "animatic: notes is a file, and a name without a suffix makes a folder of frames; add a "
        "suffix such as .mp4, or give - for standard output.\n"
    )


def test_another_error_of_the_system_is_not_blamed_on_standard_output(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error", "a file")

    monkeypatch.setattr("animatic.store.open_bundle", broken)
    with pytest.raises(OSError, match=r"a file"):
        run("inspect", "BUNDLE")


@pytest.mark.parametrize(
    ("name", "cut"),
    [
        *(("clip.mp4", 20), ("clip.mp4", 200), ("clip.gif", 20), ("clip.gif", 200)),
        *(("clip.webp", 200), ("clip.png", 200), ("takes", 200)),
    ],
)
def test_damaged_clip_is_one_sentence(run: Run, name: str, cut: int) -> None:
    assert run("generate", "A red lorry!", "--bundle", "BUNDLE", "-o", name).code == 0
    damaged = {"clip.png": "clip.1004.png", "takes": "takes/takes.1004.png"}.get(name, name)
    data = Path(damaged).read_bytes()
    Path(damaged).write_bytes(data[:-cut])
    result = run("reproduce", name, "--bundle", "BUNDLE")
    assert result.code == 1
    if result.err:
        assert result.err.startswith("animatic: ")
        assert result.err.count("\n") == 1
        assert "is damaged and cannot be compared; " in result.err or "cannot be read" in result.err
    else:  # what is left may be readable, and shorter
        assert result.out == f"different: {name} did not come out again on this machine\n"


def test_folder_with_a_file_browsers_notes_is_compared(run: Run) -> None:
    run("generate", "A red lorry!", "--bundle", "BUNDLE", "-o", "takes")
    Path("takes", ".DS_Store").write_bytes(b"where the icons are")
    Path("takes", "notes.txt").write_bytes(b"good")
    result = run("reproduce", "takes", "--bundle", "BUNDLE")
    assert result == (0, "identical: every byte of takes came out again\n", "")


def test_bench_says_what_will_not_load(run: Run, tmp_path: Path) -> None:
    """Every hash is right, and a graph is none."""
    root = write_tiny_bundle(tmp_path / "odd")
    (root / "denoiser.onnx").write_bytes(b"no graph")
    bundle = decode_bundle((root / "bundle.json").read_bytes())
    graphs = tuple(
        msgspec.structs.replace(graph, sha256=sha256_file(root / graph.file))
        for graph in bundle.graphs
    )
    write_bundle(root, msgspec.structs.replace(bundle, graphs=graphs))
    result = run("bench", "--bundle", str(root), "--runs", "1")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("animatic: The graph denoiser.onnx is truncated or not")


def test_bench_has_no_floor_for_fewer_threads(run: Run) -> None:
    keys = {"floor_seconds", "times_floor"}
    whole = run("bench", "--bundle", "BUNDLE", "--runs", "1").out.splitlines()[-1]
    assert keys <= set(json.loads(whole))
    fewer = run("bench", "--bundle", "BUNDLE", "--runs", "1", "--threads", "1")
    assert not keys & set(json.loads(fewer.out.splitlines()[-1]))


def test_cut_prompt_is_said_once_and_in_our_words(run: Run) -> None:
    prompt = "a red cube " * 100
    handlers = list(logging.getLogger("animatic").handlers)
    result = run("generate", prompt, "--bundle", "BUNDLE", "--frames", "5", "-o", "clip.mp4")
    assert (result.code, result.out) == (0, "clip.mp4\n")
    assert result.err.startswith("animatic: the prompt is longer than the model reads; it sees the")
    assert result.err.count("\n") == 1
    assert logging.getLogger("animatic").handlers == handlers


def test_facts_in_words() -> None:
    values = [True, False, None, ["a", 1], {"p50": 1.5}, 0, "x"]
    assert [shown(value) for value in values] == [
        *("yes", "no", "unknown", "a, 1", "p50 1.5", "0", "x")
    ]
