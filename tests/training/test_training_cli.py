"""What the user may meet on the command line is one sentence, not a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner

from animatic_training import stages
from animatic_training.cli import STAGE_NAMES, command
from animatic_training.parts import split_file
from animatic_training.probe import Probe, load_probe, save_probe
from tests.training.toy import TOML

ROOTS = [
    str(Path(__file__).parents[2] / root)
    for root in ("runtime", "export", "training", "calibration", "engines")
]
NEEDED = (
    "click",
    "llvmlite",
    "msgspec",
    "numba",
    "numpy",
    "safetensors",
    "tokenizers",
    "torch",
)
"""What training imports beyond Python: named on the page on training, llvmlite as part of numba."""


def sentence(folder: Path, *arguments: str) -> str:
    config = folder / "toy.toml"
    config.write_text(TOML)
    result = CliRunner().invoke(
        command, ["--config", str(config), "--run", str(folder / "run"), *arguments]
    )
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    return result.output.rpartition("Error: ")[2]


def test_what_to_train_must_be_said(tmp_path: Path) -> None:
    """A card's recipe would run for days on a processor, and fill its disk."""
    result = CliRunner().invoke(command, ["--run", str(tmp_path / "run")])
    assert result.exit_code == 2
    assert "v1-cpu on two cores, or toy to see every stage in minutes" in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["nonsense", "cuda:77"])
def test_a_device_that_is_not_there(tmp_path: Path, device: str) -> None:
    said = sentence(tmp_path, "--device", device, "--stage", "latents")
    assert f"cannot compute on '{device}': give `--device cpu`" in said


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


def test_parts_that_are_not_all_there(tmp_path: Path) -> None:
    assert "fetch it with the parts" in sentence(tmp_path, "--join", str(tmp_path / "model"))


def test_parts_are_joined(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(bytes(100))
    split_file(path, 30)
    path.unlink()
    result = CliRunner().invoke(command, ["--join", str(path)])
    assert result.exit_code == 0
    assert path.read_bytes() == bytes(100)


def test_the_stages_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, str]] = []

    def run(name: str, place: stages.Workplace) -> None:
        ran.append((name, place.method))

    for name in STAGE_NAMES:
        monkeypatch.setitem(stages.STAGES, name, partial(run, name))
    config = tmp_path / "toy.toml"
    config.write_text(TOML)
    arguments = ["--config", str(config), "--run", str(tmp_path / "run"), "--method", "perflow"]
    assert CliRunner().invoke(command, arguments).exit_code == 0
    assert ran == [(name, "perflow") for name in STAGE_NAMES]
    assert set(stages.STAGES) == set(STAGE_NAMES)


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
    probe = Probe()
    save_probe(probe, path)
    assert seen == [True]
    assert load_probe(path).shape == probe.shape


@pytest.mark.slow
def test_training_needs_few_packages_and_no_installation(tmp_path: Path) -> None:
    """Every module, in a process where no other package can be imported."""
    config = tmp_path / "toy.toml"
    config.write_text(TOML)
    modules = [
        ".".join(path.relative_to(ROOTS[2]).with_suffix("").parts)
        for path in sorted(Path(ROOTS[2]).rglob("*.py"))
        if path.stem not in {"__init__", "__main__"}
    ]
    script = f"""
import sys, importlib
OWN = {{"animatic", "animatic_export", "animatic_training"}}
ASKED = set({NEEDED!r})
class Only:
    within = 0
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        asking = sys._getframe(1)
        while asking and "importlib" in asking.f_code.co_filename:
            asking = asking.f_back
        asker = asking.f_globals.get("__name__", "").partition(".")[0] if asking else ""
        fine = top in OWN | ASKED | set(sys.stdlib_module_names) or asker not in OWN
        if not fine:
            raise ImportError(f"{{asker}} asks for {{name}}")
        return None
sys.meta_path.insert(0, Only())
for name in {modules!r}:
    importlib.import_module(name)
from animatic_training.cli import command
command(["--config", {str(config)!r}, "--plan"], standalone_mode=False)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(ROOTS), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "denoiser" in done.stdout
