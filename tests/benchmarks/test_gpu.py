"""The GPU benchmark where there is no GPU, and the arithmetic by which it judges."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.gpu import attempt
from benchmarks.gpu_timing import floor, in_turns, percentiles

from animatic.errors import EngineError
from tests.runtime.device import require_no_device

ROOT = Path(__file__).parents[2]


def test_without_a_gpu_it_is_one_sentence(tmp_path: Path) -> None:
    require_no_device()
    child = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "gpu.py", "--results", tmp_path / "results"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (child.returncode, child.stdout) == (1, "")
    assert child.stderr.startswith("benchmarks/gpu.py needs an NVIDIA GPU and a bundle. ")
    assert child.stderr.count("\n") == 1, child.stderr
    assert not (tmp_path / "results").exists()


def test_a_part_that_cannot_run_says_why() -> None:
    def broken() -> dict[str, object]:
        raise EngineError("tensorrt_rtx 1.7 does not serve H100 (SM90).")

    def missing() -> dict[str, object]:
        raise ModuleNotFoundError("No module named 'torch'")

    def silent() -> dict[str, object]:
        raise AssertionError

    assert attempt(broken) == {"cannot_run": "tensorrt_rtx 1.7 does not serve H100 (SM90)."}
    assert attempt(missing) == {"cannot_run": "No module named 'torch'"}
    assert attempt(silent) == {"cannot_run": "AssertionError"}
    assert attempt(lambda: {"loads": True}) == {"loads": True}


def test_contenders_take_turns() -> None:
    turns: list[tuple[str, int]] = []
    work = {name: (lambda turn, n=name: turns.append((n, turn))) for name in "ab"}
    seconds = in_turns(work, warm=1, runs=2)
    assert turns == [("a", 0), ("b", 0), ("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}


def test_percentiles_are_milliseconds() -> None:
    assert percentiles([0.001, 0.002, 0.003]) == {"p50": 2.0, "p95": 2.9}


def test_the_floor_is_what_binds() -> None:
    roof = {"matmul_tflops": 100.0, "bandwidth_gb_s": 1000.0}
    assert floor(roof, tflop=1, gigabytes=2) == {
        "compute_ms": 10.0,
        "memory_ms": 2.0,
        "floor_ms": 10.0,
    }
    assert floor(roof, tflop=0.1, gigabytes=2)["floor_ms"] == 2.0


@pytest.mark.slow
def test_the_transformer_is_as_large_as_wan() -> None:
    pytest.importorskip("torch", reason="torch is not installed")
    from benchmarks.gpu_transformer import forward_tflop, parameters

    assert 1.35e9 < parameters() < 1.45e9
    # The counts for Wan2.1-1.3B at 256x448x33 and 480x832x81.
    assert forward_tflop(4032) == pytest.approx(13.6, rel=0.02)
    assert forward_tflop(32760) == pytest.approx(283.0, rel=0.02)
