"""The base distribution in an environment of its own: no torch, and every module imports."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
BARRED = {"torch", "onnx", "onnxscript", "safetensors", "numba", "polygraphy", "triton"}

pytestmark = pytest.mark.slow

PROBE = """
import importlib, json, pkgutil, sys, time
start = time.perf_counter()
import animatic
seconds = time.perf_counter() - start
light = sorted(sys.modules)
names = [module.name for module in pkgutil.walk_packages(animatic.__path__, "animatic.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
from importlib.metadata import distributions
print(json.dumps({
    "seconds": seconds,
    "light": light,
    "names": names,
    "loaded": sorted({name.partition(".")[0] for name in sys.modules}),
    "installed": sorted(found.name.lower() for found in distributions()),
}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the base distribution, built from a copy as a wheel would be."""
    folder = tmp_path_factory.mktemp("lean")
    source = folder / "source"
    left_out = shutil.ignore_patterns(".git", ".venv*", "__pycache__", ".*_cache", "runs")
    shutil.copytree(ROOT, source, ignore=left_out)
    venv.create(folder / "venv", with_pip=True)
    bin_folder = folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin")
    subprocess.run(
        [bin_folder / "python", "-m", "pip", "install", "--quiet", source], check=True, cwd=folder
    )
    return bin_folder / "python"


@pytest.fixture(scope="module")
def facts(python: Path) -> dict[str, object]:
    child = subprocess.run(
        # -I: without PYTHONPATH, which would show the checkout.
        [python, "-I", "-W", "error", "-c", PROBE],
        capture_output=True,
        text=True,
        check=False,
        cwd=python.parent,
    )
    assert child.returncode == 0, child.stderr
    report: dict[str, object] = json.loads(child.stdout)
    return report


def names(facts: dict[str, object], key: str) -> set[str]:
    value = facts[key]
    assert isinstance(value, list)
    return set(value)


def test_torch_is_absent(facts: dict[str, object]) -> None:
    assert not names(facts, "installed") & BARRED
    assert not {name for name in names(facts, "installed") if name.startswith("nvidia")}


def test_every_module_imports_without_the_upper_floors(facts: dict[str, object]) -> None:
    assert len(names(facts, "names")) > 20
    upper = {"animatic_training", "animatic_export", "animatic_calibration", "animatic_engines"}
    assert not names(facts, "loaded") & (BARRED | upper)


def test_import_is_light(
    facts: dict[str, object], record_property: Callable[[str, object], None]
) -> None:
    record_property("import_seconds", facts["seconds"])  # machines differ: recorded, not judged
    heavy = {"numpy", "onnxruntime", "av", "imageio", "PIL", "rich", "tokenizers", "click"}
    assert not names(facts, "light") & heavy


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--run", "RUN"],
        ["export", "blockout", "--checkpoint", "x", "--out", "y"],
    ],
    ids=lambda command: str(command[0]),
)
def test_upper_floors_name_their_extra(python: Path, tmp_path: Path, command: list[str]) -> None:
    arguments = [str(tmp_path) if word == "RUN" else word for word in command]
    child = subprocess.run(
        [python, "-I", "-m", "animatic", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=python.parent,
    )
    assert (child.returncode, child.stdout) == (1, "")
    assert f"pip install -e '.[{command[0]}]' -c constraints.txt" in child.stderr
    assert child.stderr.count("\n") == 1, child.stderr  # and no traceback


def test_console_script_answers(python: Path) -> None:
    child = subprocess.run(
        [python.with_name("animatic"), "--version"], capture_output=True, text=True, check=True
    )
    assert child.stdout.startswith("animatic ")
