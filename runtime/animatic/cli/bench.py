"""``animatic bench``: how long a clip takes here, and what bounds it.

Every clip has a prompt of its own, so that the text encoder works each time. Loading is measured in
a fresh process each time, imports included; the system's file cache is whatever it is, and is warm
from the second load on. The floor is the time that the clip's arithmetic would take at the rate of
a large float32 matrix product on this machine; the ratio to it is what remains to be won without a
smaller model or a lower precision. NumPy's BLAS takes every core for that product, so that there is
no floor where --threads asks for fewer.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import click

from animatic.cli.facts import shown
from animatic.cli.machine import peak_memory_mib, processor
from animatic.cli.parameters import bundle_option, threads_option

if TYPE_CHECKING:
    from pathlib import Path

    from animatic.pipeline import Pipeline, Progress

__all__ = ["command"]

PROMPTS: Final = (
    "a red truck drives left through a desert at sunset, slow dolly in",
    "WS, white horse, galloping right, through the snow, at dawn",
    "EXT. CITY STREET - NIGHT. A yellow car waits. Pan left. Medium shot.",
    "close-up of a blue ball rolling toward the camera on a beach by day",
)
MATRIX_SIDE: Final = 1024  # 4 MiB a matrix: past the caches of small parts, short of paging
MATRIX_REPEATS: Final = 10
# Printed by the fresh process: seconds from before the first import until the model is ready.
LOAD: Final = """
import sys, time
start = time.perf_counter()
from animatic.pipeline import Pipeline
Pipeline.open(sys.argv[1] or None, threads=int(sys.argv[2]) or None).close()
print(time.perf_counter() - start)
"""


@dataclass
class Timing:
    """What was measured, in seconds; one entry per run."""

    load: list[float] = field(default_factory=list)
    first_frame: list[float] = field(default_factory=list)
    clip: list[float] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)  # summed over the runs
    frames: int = 0  # of one clip


@click.command("bench", short_help="Measure how long a clip takes.")
@bundle_option
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True, metavar="N")
@threads_option
def command(*, bundle: Path | None, runs: int, threads: int | None) -> None:
    """Measure loading, the first frame and the whole clip; the last line is JSON."""
    from animatic.pipeline import Pipeline

    Pipeline.open(bundle, threads=threads).close()  # complains here and not in a child process
    timing = Timing(load=[_load(bundle, threads) for _ in range(runs)])
    with Pipeline.open(bundle, threads=threads) as pipeline:
        _time_clip(pipeline, PROMPTS[-1], Timing())  # warms allocators and caches; not counted
        for run in range(runs):
            _time_clip(pipeline, PROMPTS[run % len(PROMPTS)], timing)
        report = _report(pipeline, timing, threads)
    for name, value in report.items():
        click.echo(f"{name.replace('_', ' '):<20} {shown(value)}")
    click.echo(json.dumps(report))


def _load(bundle: Path | None, threads: int | None) -> float:
    child = subprocess.run(
        [sys.executable, "-c", LOAD, str(bundle or ""), str(threads or 0)],
        check=True,
        capture_output=True,
        text=True,
    )
    return float(child.stdout)


def _time_clip(pipeline: Pipeline, prompt: str, timing: Timing) -> None:
    from animatic.shot import Shot

    marks: list[tuple[str, float]] = [("", time.perf_counter())]

    def mark(progress: Progress) -> None:
        marks.append((progress.stage, time.perf_counter()))

    frames = 0
    for _frame in pipeline.generate(Shot(prompt), on_progress=mark):
        frames += 1
        if frames == 1:
            timing.first_frame.append(time.perf_counter() - marks[0][1])
    timing.clip.append(time.perf_counter() - marks[0][1])
    timing.frames = frames
    for (_, before), (stage, after) in pairwise(marks):
        timing.stages[stage] = timing.stages.get(stage, 0.0) + after - before


def _report(pipeline: Pipeline, timing: Timing, threads: int | None) -> dict[str, object]:
    from animatic.engine.untracked import import_onnxruntime

    onnxruntime = import_onnxruntime()

    from animatic import __version__
    from animatic.engine.cores import usable_cores

    bundle = pipeline.bundle.bundle
    size = bundle.geometry.sizes[0]
    spent = sum(timing.stages.values())
    clip = _percentiles(timing.clip)
    gflops = _matrix_gflops()
    report: dict[str, object] = {
        "animatic": __version__,
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "machine": f"{processor()}, {platform.machine()} {platform.system()}",
        "cores_usable": usable_cores(),
        "bundle": f"{bundle.name} {bundle.version} {pipeline.bundle.digest[:12]}",
        "precision": sorted({graph.precision for graph in bundle.graphs}),
        "size": f"{size.width}x{size.height}",
        "frames": timing.frames,
        "steps": len(bundle.sampler.sigmas),
        "threads": min(threads or usable_cores(), usable_cores()),
        "runs": len(timing.clip),
        "state": "load: a fresh process each; clips: warm, after one that is not counted",
        "load_seconds": _percentiles(timing.load),
        "first_frame_seconds": _percentiles(timing.first_frame),
        "clip_seconds": clip,
        "frames_per_second": round(timing.frames / clip["p50"], 2),
        "native_fps": str(bundle.geometry.fps),
        "stage_share": {name: round(part / spent, 3) for name, part in timing.stages.items()},
        "peak_memory_mib": peak_memory_mib(),
        "matrix_gflops": round(gflops, 1),
    }
    work = bundle.scores.get("gflop_per_clip")
    if work is not None:
        floor = work / gflops
        report["gflop_per_clip"] = work
        if threads is None:  # else the matrix product ran on other cores than the clip
            report["floor_seconds"] = round(floor, 4)
            report["times_floor"] = round(clip["p50"] / floor, 2)
    return report


def _percentiles(seconds: list[float]) -> dict[str, float]:
    import numpy as np

    return {f"p{rank}": round(float(np.percentile(seconds, rank)), 4) for rank in (50, 95)}


def _matrix_gflops() -> float:
    """The best rate of a float32 matrix product of NumPy's BLAS, in 10^9 operations a second."""
    import numpy as np

    generator = np.random.Generator(np.random.Philox(0))
    left, right = generator.standard_normal((2, MATRIX_SIDE, MATRIX_SIDE), dtype=np.float32)
    best = float("inf")
    for _ in range(MATRIX_REPEATS):
        start = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - start)
    return 2 * MATRIX_SIDE**3 / best / 1e9  # a multiplication and an addition per term
