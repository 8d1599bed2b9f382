"""The benchmark of the processor's settings, on a bundle that costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_every_setting_plays(tiny_bundle: Path) -> None:
    child = subprocess.run(
        [
            sys.executable,
            ROOT / "benchmarks" / "cpu_settings.py",
            *("--bundle", tiny_bundle, "--runs", "1", "--seeds", "1"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    report = json.loads(child.stdout.splitlines()[-1])
    rows = report["settings"]
    assert {"shipped", "threads1-basic", "weights8", "weights8-a8", "dynamic8"} <= rows.keys()
    assert rows["shipped"]["times_shipped"] == 1
    for row in rows.values():
        assert row["p50_seconds"] > 0
        assert row["psnr_db"] is None or row["psnr_db"] > 30
    assert len(child.stdout.splitlines()) == len(rows) + 1


def test_psnr() -> None:
    from benchmarks.cpu_settings import psnr

    black = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    assert psnr(black, black) == float("inf")
    assert psnr(black + 255, black) == pytest.approx(0)
    assert psnr(black + 1, black) == pytest.approx(48.13, abs=0.01)
