from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import animatic
from animatic.engine.untracked import SWITCH

RUNTIME = Path(animatic.__file__).parent
CALIBRATION = RUNTIME.parents[1] / "calibration" / "animatic_calibration"


def in_a_fresh_home(home: Path, code: str, **environment: str) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if name not in {SWITCH, "HOME"}}
    clean = {name: value for name, value in clean.items() if not name.startswith("XDG_")}
    subprocess.run(
        [sys.executable, "-c", code], env=clean | environment | {"HOME": str(home)}, check=True
    )
    return sorted(path.name for path in home.rglob("*") if path.is_file())


def test_a_pipeline_leaves_no_identity_of_the_machine(tmp_path: Path, tiny_bundle: Path) -> None:
    code = f"from animatic import Pipeline; Pipeline.open({str(tiny_bundle)!r}).close()"
    assert in_a_fresh_home(tmp_path, code) == []


def test_whoever_has_set_the_switch_keeps_their_choice(tmp_path: Path) -> None:
    code = (
        "import os; from animatic.engine.untracked import import_onnxruntime;"
        f"import_onnxruntime(); assert os.environ[{SWITCH!r}] == '0'"
    )
    in_a_fresh_home(tmp_path, code, **{SWITCH: "0"})


def test_nothing_else_imports_onnxruntime() -> None:
    for folder in (RUNTIME, CALIBRATION):
        for path in folder.rglob("*.py"):
            tree = ast.parse(path.read_text("utf-8"))
            for_types = [
                node
                for branch in ast.walk(tree)
                if isinstance(branch, ast.If) and ast.unparse(branch.test) == "TYPE_CHECKING"
                for node in ast.walk(branch)
            ]
            for node in ast.walk(tree):
                if isinstance(node, ast.Import) and node not in for_types:
                    assert "onnxruntime" not in {alias.name for alias in node.names}, path
