from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from animatic.backends import how_to_install, installed_backends, installed_version
from animatic.detect import Detection
from animatic.errors import TargetError
from animatic.targets import find_target, load_targets

if TYPE_CHECKING:
    from pathlib import Path

    from tests.runtime.command_line import Run

INSTALLED = {
    "tensorrt_rtx": "1.7.1.116",
    "tensorrt": None,
    "onnxruntime-cuda": None,
    "onnxruntime": "1.32.0",
}
FOUND = Detection(
    target=find_target("rtx-40"),
    device="NVIDIA GeForce RTX 4090",
    compute_capability=(8, 9),
    memory_gib=24,
    driver="580.95.05",
    note="the first of 2 GPUs",
)


def nothing() -> Detection:
    raise TargetError("There is no GPU; buy one.")


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with TensorRT-RTX and without a GPU, whatever this one is."""
    monkeypatch.setattr("animatic.backends.installed_backends", lambda: INSTALLED)
    monkeypatch.setattr("animatic.detect.detect_target", nothing)


def test_every_target_has_a_line(run: Run) -> None:
    result = run("targets")
    assert (result.code, result.err) == (0, "")
    table, here = result.out.split("\n\n")
    heading, *rows = table.splitlines()
    assert heading.split()[:4] == ["target", "SM", "GiB", "precisions"]
    assert [row.split()[0] for row in rows] == list(load_targets())
    # The columns are aligned, and no line needs a wide terminal.
    assert all(row[heading.index("SM") - 1] == " " != row[heading.index("SM")] for row in rows)
    assert max(map(len, table.splitlines())) <= 120
    ada = next(row for row in rows if row.startswith("rtx-40"))
    cells = ["8.9", "6", "fp16*", "bf16", "int8", "fp8", "tensorrt_rtx", "tensorrt"]
    assert ada.split()[1:9] == cells
    assert here.splitlines() == [
        "installed here  tensorrt_rtx 1.7.1.116, onnxruntime 1.32.0",
        "not installed   tensorrt, onnxruntime-cuda",
        "this machine    There is no GPU; buy one.",
    ]


def test_this_machine_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("animatic.detect.detect_target", lambda: FOUND)
    assert run("targets").out.splitlines()[-1] == (
        "this machine    rtx-40 (NVIDIA GeForce RTX 4090, 24 GiB, 580.95.05, the first of 2 GPUs)"
    )
    machine = json.loads(run("targets", "--json").out)["machine"]
    assert (machine["target"], machine["memory_gib"]) == ("rtx-40", 24)


def test_one_target_has_its_note(run: Run) -> None:
    result = run("targets", "jetson-agx-orin")
    assert result.code == 0
    assert find_target("jetson-agx-orin").note in result.out
    assert "tensorrt>=10.3,<11 tensorrt>=11.4.1,<12" in result.out
    assert "rtx-40" not in result.out


def test_an_unknown_target(run: Run) -> None:
    result = run("targets", "rtx40")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("animatic: There is no target 'rtx40'; did you mean rtx-40")


def test_json_is_the_whole_table(run: Run) -> None:
    result = run("targets", "--json")
    assert result.out.count("\n") == 1
    document = json.loads(result.out)
    assert [target["name"] for target in document["targets"]] == list(load_targets())
    assert document["targets"][2]["compute_capability"] == [8, 9]
    assert document["installed"] == INSTALLED
    assert (document["machine"], document["why"]) == (None, "There is no GPU; buy one.")


def test_backends_are_imported_to_find_their_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tensorrt.py").write_text("__version__ = '10.3.0'\n", "utf-8")
    (tmp_path / "tensorrt_rtx.py").write_text("raise OSError('libtensorrt_rtx.so')\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    found = installed_backends()
    assert (found["tensorrt"], found["tensorrt_rtx"]) == ("10.3.0", None)
    assert installed_version("onnxruntime") is not None
    monkeypatch.delitem(sys.modules, "tensorrt")


def test_cuda_is_a_provider_of_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    for providers, has in ((["CPUExecutionProvider"], False), (["CUDAExecutionProvider"], True)):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda p=providers: p)
        assert (installed_version("onnxruntime-cuda") == onnxruntime.__version__) is has


def test_what_brings_a_backend() -> None:
    assert how_to_install("tensorrt_rtx", "1.7.1") == "pip install tensorrt-rtx-cu13==1.7.1"
    assert how_to_install("tensorrt", "10.3.0").endswith("or on a Jetson the JetPack that has it")
