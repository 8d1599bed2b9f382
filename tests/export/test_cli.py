"""`animatic export` before and around the work of a recipe."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
from click.testing import CliRunner

from animatic.store import open_bundle, write_bundle
from animatic_export.cli import command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from click.testing import Result

    from animatic.bundle import Bundle
    from animatic_export.recipe import Request

WAN = "wan2.1-1.3b"


class Prepared:
    """An export that only makes a file."""

    notices = ("its licence is a secret",)

    def is_current(self, _bundle: Bundle) -> bool:
        return False

    def write(self, folder: Path, _say: Callable[[str], None]) -> None:
        (folder / "bundle.json").touch()


def export(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command, [str(word) for word in arguments])


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What the recipe is asked for; it makes an empty bundle of it."""
    asked: list[Request] = []

    def prepare(_: object, request: Request) -> Prepared:
        asked.append(request)
        return Prepared()

    monkeypatch.setattr("animatic_export.wan.recipe.WanRecipe.prepare", prepare)
    return asked


@pytest.mark.parametrize(
    "option",
    [
        ("--sampler", "rcm-4"),
        ("--base", "somewhere"),
        ("--size", "64x64"),
        ("--frames", "81"),
        ("--lora", "l.safetensors:0.5"),
        ("--tiny-decoder", "t.safetensors"),
    ],
)
def test_what_would_change_nothing_in_a_bundle_is_refused(
    tmp_path: Path, option: tuple[str, str]
) -> None:
    out = tmp_path / "b"
    out.mkdir()
    bundle = open_bundle(verify=False).bundle
    write_bundle(out, msgspec.structs.replace(bundle, family=WAN))
    assert export(WAN, "--out", out).exit_code == 0
    result = export(WAN, *option, "--out", out)
    assert result.exit_code == 2
    words = " ".join(result.output.split())
    assert f"{option[0]} needs --checkpoint; without it, only --precision and --target" in words


def test_the_recorded_command_names_files_and_not_where_they_lay(
    tmp_path: Path, requests: list[Request]
) -> None:
    for name in ("c.safetensors", "l.safetensors"):
        (tmp_path / name).touch()
    arguments: list[str | Path] = [
        *(WAN, "--checkpoint", tmp_path / "c.safetensors", "--base", "Wan-AI/Wan2.1"),
        *("--lora", f"{tmp_path / 'l.safetensors'}:0.8", "--lora", tmp_path / "l.safetensors"),
        *("--lora", "me/loras:l.safetensors:0.5", "--out", tmp_path / "b"),
    ]
    assert export(*arguments).exit_code == 0
    (request,) = requests
    assert str(tmp_path) not in request.command
    assert shlex.split(request.command) == [
        *("animatic", "export", WAN, "--checkpoint", "c.safetensors", "--base", "Wan-AI/Wan2.1"),
        *("--lora", "l.safetensors:0.8", "--lora", "l.safetensors"),
        *("--lora", "me/loras:l.safetensors:0.5", "--out", "b"),
    ]


def test_a_strength_that_is_none_is_a_sentence(tmp_path: Path) -> None:
    result = export(WAN, "--checkpoint", "c", "--lora", "l.safetensors:much", "--out", tmp_path)
    assert result.exit_code == 1
    assert "is not a LoRA and its strength" in result.output


@pytest.mark.usefixtures("requests")
def test_an_out_that_cannot_be_written_is_refused_before_licences_are_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = export(WAN, "--checkpoint", "c", "--out", tmp_path / "file" / "b")
    assert result.exit_code == 1
    assert "cannot be written" in result.output
    assert "licence" not in result.output
    assert (
        "its licence is a secret"
        in export(WAN, "--checkpoint", "c", "--out", tmp_path / "b").output
    )


@pytest.mark.skipif(os.name == "nt", reason="no process can be asked whether it lives")
@pytest.mark.usefixtures("requests")
def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    kept = [f".b.{os.getppid()}.tmp", f".other.{gone.pid}.tmp", ".b.notes.tmp"]
    for name in [*kept, f".b.{gone.pid}.tmp"]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "denoiser.onnx").touch()
    assert export(WAN, "--checkpoint", "c", "--out", tmp_path / "b").exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "b"])
