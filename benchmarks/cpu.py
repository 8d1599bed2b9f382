"""Blockout on this CPU: the runtime beside the same weights in torch, eager and compiled.

One run measures all three in turns, so that a noisy machine is noisy for all; the ratios count.
The floor is the clip's counted operations over the machine's measured float32 matrix rate.

    python benchmarks/cpu.py [--bundle FOLDER] [--runs 15]

Prints a table; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import torch

from animatic import Pipeline, Shot
from animatic.cli.machine import processor
from animatic.engine.cores import usable_cores
from animatic.text_cache import switched_off

if TYPE_CHECKING:
    from collections.abc import Callable

MATRIX = 1024


def matrix_rate() -> float:
    """Return the best float32 rate of a 1024-sided matrix product, GFLOP/s."""
    a = np.random.default_rng(0).standard_normal((MATRIX, MATRIX), dtype=np.float32)
    best = min(_timed(lambda: a @ a) for _ in range(20))
    return 2 * MATRIX**3 / best / 1e9


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    from benchmarks.contenders import PROMPT, clip, first_frame
    from benchmarks.torch_pipeline import torch_pipeline

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(usable_cores())
    with switched_off(), Pipeline.open(arguments.bundle, device="cpu") as pipeline:
        opened = pipeline.bundle
        pipelines = {"animatic": pipeline} | {
            name: torch_pipeline(opened, "cpu", compiled=compiled)
            for name, compiled in (("torch_eager", False), ("torch_compile", True))
        }
        contenders = {name: clip(own) for name, own in pipelines.items()}
        ours = pipeline.clip(Shot(PROMPT, seed=1))
        off = np.abs(ours.astype(int) - pipelines["torch_eager"].clip(Shot(PROMPT, seed=1))).mean()
        for contender in contenders.values():
            contender(0)
            contender(1)
        begin = first_frame(pipeline)
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        first: list[float] = []
        for seed in range(arguments.runs):
            first.append(_timed(lambda s=2 * seed: begin(s)))  # type: ignore[misc]
            for name, contender in contenders.items():
                seconds[name].append(_timed(lambda c=contender, s=2 * seed + 1: c(s)))  # type: ignore[misc]
    rate = matrix_rate()
    work = opened.bundle.scores["gflop_per_clip"]
    p50 = {name: float(np.percentile(values, 50)) for name, values in seconds.items()}
    report = {
        "machine": f"{processor()}, {usable_cores()} cores, {platform.system()}",
        "versions": {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__},
        "precision": "float32 arithmetic",
        "frames": len(ours),
        "steps": len(opened.bundle.sampler.sigmas),
        "state": "warm",
        "runs": arguments.runs,
        "p50_seconds": {name: round(value, 4) for name, value in p50.items()},
        "p95_seconds": {n: round(float(np.percentile(v, 95)), 4) for n, v in seconds.items()},
        "first_frame_p50_seconds": round(float(np.percentile(first, 50)), 4),
        "times_animatic": {n: round(value / p50["animatic"], 2) for n, value in p50.items()},
        "mean_difference_of_255": round(float(off), 3),
        "gflop_per_clip": work,
        "matrix_gflops": round(rate, 1),
        "floor_seconds": round(work / rate, 4),
        "times_floor": round(p50["animatic"] * rate / work, 2),
    }
    for name, value in p50.items():
        ratio = value / p50["animatic"]
        print(f"{name:<14} {value * 1e3:8.1f} ms  {len(ours) / value:6.1f} fps  {ratio:5.2f}x")
    print(f"{'first frame':<14} {np.percentile(first, 50) * 1e3:8.1f} ms  (animatic)")
    print(f"{'floor':<14} {work / rate * 1e3:8.1f} ms")
    print(json.dumps(report))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for the modules beside
    main()
