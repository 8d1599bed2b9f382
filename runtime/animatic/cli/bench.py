"""``animatic bench``: how long a clip takes here, and what bounds it.

Every clip has a prompt of its own, and text states that are kept on disk are not used, so that the
text encoder works each time. Loading is measured in a fresh process each time, imports included;
the system's file cache is whatever it is, and is warm from the second load on. What is opened by
its first run (a text encoder that is costly, a decoder that is not the usual one) is not part of
it. The floor is the time that the clip's arithmetic would take at the rate of a large float32
matrix product on this machine; the ratio to it is what remains to be won without a smaller model or
a lower precision. NumPy's BLAS takes every core for that product, so that there is no floor where
--threads asks for fewer.
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
    from animatic.shot import Shot, ShotPlan

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
@click.option("--tier", metavar="NAME", help="Of the bundle's; without it, the model's usual way.")
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True, metavar="N")
@threads_option
def command(*, bundle: Path | None, tier: str | None, runs: int, threads: int | None) -> None:
    """Measure loading, the first frame and the whole clip; the last line is JSON."""
    from animatic.pipeline import Pipeline
    from animatic.shot import Shot
    from animatic.text_cache import switched_off

    with Pipeline.open(bundle, threads=threads) as pipeline:  # complains here, not in a child
        plan = Shot(PROMPTS[0], tier=tier).plan(pipeline.bundle.bundle)
    timing = Timing(load=[_load(bundle, threads) for _ in range(runs)])
    with switched_off(), Pipeline.open(bundle, threads=threads) as pipeline:
        # Warms allocators and caches; not counted.
        _time_clip(pipeline, Shot(PROMPTS[-1], tier=tier), Timing())
        for run in range(runs):
            _time_clip(pipeline, Shot(PROMPTS[run % len(PROMPTS)], tier=tier), timing)
        report = _report(pipeline, plan, tier, timing, threads)
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


def _time_clip(pipeline: Pipeline, shot: Shot, timing: Timing) -> None:
    marks: list[tuple[str, float]] = [("", time.perf_counter())]

    def mark(progress: Progress) -> None:
        marks.append((progress.stage, time.perf_counter()))

    frames = 0
    for _frame in pipeline.generate(shot, on_progress=mark):
        frames += 1
        if frames == 1:
            timing.first_frame.append(time.perf_counter() - marks[0][1])
    timing.clip.append(time.perf_counter() - marks[0][1])
    timing.frames = frames
    for (_, before), (stage, after) in pairwise(marks):
        timing.stages[stage] = timing.stages.get(stage, 0.0) + after - before


def _report(
    pipeline: Pipeline, plan: ShotPlan, tier: str | None, timing: Timing, threads: int | None
) -> dict[str, object]:
    from animatic.engine.untracked import import_onnxruntime

    onnxruntime = import_onnxruntime()

    from animatic import __version__
    from animatic.engine.cores import usable_cores

    bundle, choice = pipeline.bundle.bundle, pipeline.choice
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
        "played": None if choice is None else choice.reason,
        "precision": _precisions(pipeline, plan),
        **({} if tier is None else {"tier": tier}),
        "size": f"{plan.width}x{plan.height}",
        "frames": timing.frames,
        "steps": plan.steps,
        "guidance": plan.guidance,
        "decoder": plan.decoder,
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
    if work is not None and tier is None:  # it is the usual clip's
        floor = work / gflops
        report["gflop_per_clip"] = work
        if threads is None:  # else the matrix product ran on other cores than the clip
            report["floor_seconds"] = round(floor, 4)
            report["times_floor"] = round(clip["p50"] / floor, 2)
    return report


def _precisions(pipeline: Pipeline, plan: ShotPlan) -> dict[str, str]:
    """What the graphs that made the clips compute in, by role."""
    if pipeline.choice is None:
        return {}
    played = {"text_encoder", "denoiser", plan.decoder}
    engines = pipeline.choice.engines.items()
    return {role: engine.spec.precision for role, engine in engines if role in played}


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
