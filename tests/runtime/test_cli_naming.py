"""The names of clips: from the prompt, numbered, and never over somebody's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from animatic.cli.naming import default_names, slug
from animatic.sinks import read_record

if TYPE_CHECKING:
    from tests.runtime.command_line import Run


def test_default_names_take_the_next_free_number(run: Run) -> None:
    shot = ("generate", "A red lorry!", "--bundle", "BUNDLE", "--frames", "5")
    outputs = [run(*shot).out.strip() for _ in range(3)]
    assert outputs == ["a-red-lorry_0.mp4", "a-red-lorry_0_2.mp4", "a-red-lorry_0_3.mp4"]
    assert Path(outputs[0]).read_bytes() == Path(outputs[2]).read_bytes()


@pytest.mark.parametrize("output", ["clip.mp4", "takes", "clip.png"])
def test_named_file_is_replaced_only_by_force(run: Run, output: str) -> None:
    shot = ("generate", "A red lorry!", "--bundle", "BUNDLE", "-o", output)
    assert run(*shot).code == 0
    refused = run(*shot, "--seed", "1")
    assert refused.code == 1
    assert "already exists; choose another name, or replace it with --force" in refused.err
    assert read_record(Path(output)).seed == 0
    assert run(*shot, "--seed", "1", "--force").code == 0
    assert read_record(Path(output)).seed == 1


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize(
    ("output", "taken", "sentence"),
    [
        ("mine", "mine/thesis.txt", "The folder mine holds other files; choose a new or an empty"),
        ("a.mp4", "a.mp4/thesis.txt", "The folder a.mp4 holds other files; choose a new or an"),
        ("c.png", "c.1003.png/thesis.txt", "c.1003.png is a folder; move it away, or choose"),
    ],
)
def test_what_force_would_not_mend_is_said_at_once(
    run: Run, output: str, taken: str, sentence: str, force: list[str]
) -> None:
    Path(taken).parent.mkdir()
    Path(taken).write_bytes(b"years of work")
    result = run("generate", "A red lorry!", "--bundle", "BUNDLE", "-o", output, *force)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"animatic: {sentence}")
    assert "--force" not in result.err
    assert Path(taken).read_bytes() == b"years of work"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A red lorry!", "a-red-lorry"),
        ("Éclair’s café — 50%", "eclairs-cafe-50"),
        ("赤いトラック", "shot"),
        ("../../etc/passwd", "etc-passwd"),
        ("word " * 40, "word-" * 8 + "word"),
        ("x" * 200, "x" * 48),
    ],
)
def test_slug(prompt: str, expected: str) -> None:
    assert slug(prompt) == expected


@pytest.mark.parametrize("taken", ["clip.1002.png", "clip.0001.png", "clip.99999.png"])
@pytest.mark.parametrize("output", ["clip.png", "clip.%04d.png"])
def test_any_frame_of_that_name_is_somebody_elses(run: Run, taken: str, output: str) -> None:
    Path(taken).write_bytes(b"a painting")
    result = run("generate", "A red lorry!", "--bundle", "BUNDLE", "-o", output)
    assert (result.code, result.out) == (1, "")
    assert "already exists; choose another name, or replace it with --force" in result.err
    assert [file.name for file in Path.cwd().iterdir()] == [taken]


def test_two_renders_of_one_name_are_both_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is taken by somebody else while the clip is made."""
    from animatic.pipeline import Pipeline

    real = Pipeline.record

    def slow(pipeline: Pipeline, *arguments: object) -> object:
        Path("a-red-lorry_0.mp4").write_bytes(b"the other render")
        return real(pipeline, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Pipeline, "record", slow)
    result = run("generate", "A red lorry!", "--bundle", "BUNDLE", "--frames", "5")
    assert (result.code, result.out, result.err) == (0, "a-red-lorry_0_2.mp4\n", "")
    assert Path("a-red-lorry_0.mp4").read_bytes() == b"the other render"
    assert read_record(Path("a-red-lorry_0_2.mp4")).frames == 5
    assert len(list(Path.cwd().iterdir())) == 2


def test_variants_begin_at_one_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a_0_v2.mp4").touch()
    assert [str(name.first) for name in default_names("a", 0, 2)] == [
        "a_0_2_v1.mp4",
        "a_0_2_v2.mp4",
    ]


@pytest.mark.parametrize("ending", [".mp4", ".gif", ".rgb", ".png", ".%04d.png", ""])
def test_name_that_is_too_long_is_one_sentence(run: Run, ending: str) -> None:
    long = "x" * 300 + ending
    for command in (["generate", "A red lorry!", "-o", long], ["reproduce", long]):
        result = run(*command, "--bundle", "BUNDLE")
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith("animatic: ")
        assert result.err.count("\n") == 1
        assert "too long" in result.err
    assert list(Path.cwd().iterdir()) == []


def test_longest_name_is_used_whole(run: Run) -> None:
    name = "x" * 251 + ".mp4"
    assert run("generate", "A red lorry!", "--bundle", "BUNDLE", "-o", name).out == name + "\n"


# A child process, because root passes every permission check; it makes clips first, as a user
# without rights may not be able to import the rest.
CHILD = """
import contextlib, io, json, os, sys
from animatic.cli import main
open_folder, locked, bundle = sys.argv[1:]
def call(*words):
    err = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        return main(words), err.getvalue()
NAMES = ["clip.mp4", "clip.gif", "clip.png", "clip.%04d.png", "takes"]
def commands(folder):
    for name in NAMES:
        file = os.path.join(folder, name)
        shot = ("generate", "A red lorry!", "-q", "--frames", "5", "-o", file, "--bundle", bundle)
        yield shot
        yield (*shot, "--force")
        yield ("reproduce", file, "--bundle", bundle)
        yield ("inspect", file, "--verify")
for words in commands(open_folder):
    call(*words)
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
print(json.dumps([call(*words) for words in commands(locked)]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_folder_that_may_not_be_entered_is_one_sentence(tiny_bundle: Path, tmp_path: Path) -> None:
    for folder in (tmp_path, tiny_bundle):
        for parent in (folder, *folder.parents):
            if parent.stat().st_uid == os.geteuid() and "pytest-" in str(parent):
                parent.chmod(0o755)  # pytest's own folders are private
    (tmp_path / "open").mkdir()
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700 if os.geteuid() == 0 else 0)
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "open"), str(locked), str(tiny_bundle)],
        capture_output=True,
        text=True,
        check=False,
    )
    locked.chmod(0o700)
    assert child.returncode == 0, child.stderr
    results = json.loads(child.stdout)
    assert len(results) == 5 * 4
    for code, said in results:
        assert code == 1
        assert said.startswith("animatic: ")
        assert said.count("\n") == 1, said
    assert list(locked.iterdir()) == []
