"""Blockout on this GPU: our engines, ONNX Runtime, and torch, all driven by one pipeline."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from benchmarks.contenders import PROMPT, clip, first_frame
from benchmarks.gpu_timing import floor, in_turns, percentiles
from benchmarks.torch_pipeline import torch_pipeline

from animatic import Pipeline, Shot
from animatic.engine.choice import ROLES
from animatic.errors import AnimaticError
from animatic.store import open_bundle
from animatic_export.typed_graphs import add_typed_graphs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from animatic.store import OpenBundle

WARM: Final = 4  # clips: three prompts, captured graphs, compiled kernels
SEED: Final = 7  # of the clips that are compared


def blockout(folder: Path, roof: Mapping[str, float] | None, runs: int) -> dict[str, object]:
    """Measure every contender on a copy of the bundle, to which graphs and engines are added."""
    add_typed_graphs(folder, "fp16")
    missing: dict[str, str] = {}
    trouble = _build(folder)
    if trouble:
        missing["build"] = trouble
    opened = open_bundle(folder, verify=False)
    makers: dict[str, Callable[[], Pipeline]] = {
        "tensorrt_rtx": lambda: Pipeline.open(folder, device="tensorrt_rtx", precision="fp16"),
        "tensorrt": lambda: Pipeline.open(folder, device="tensorrt", precision="fp16"),
        "onnxruntime_cuda": lambda: Pipeline.open(
            folder, device="onnxruntime-cuda", precision="fp16"
        ),
        "torch_eager": lambda: torch_pipeline(opened, "cuda", compiled=False),
        "torch_compile": lambda: torch_pipeline(opened, "cuda", compiled=True),
    }
    pipelines: dict[str, Pipeline] = {}
    load: dict[str, float] = {}
    psnr: dict[str, float] = {}
    with Pipeline.open(folder, device="cpu") as reference:
        wanted = reference.clip(Shot(PROMPT, seed=SEED))
    for name, make in makers.items():
        start = time.perf_counter()
        try:
            pipelines[name] = make()
            psnr[name] = _psnr(pipelines[name].clip(Shot(PROMPT, seed=SEED)), wanted)
        # AssertionError: a torch that was compiled without CUDA.
        except (AnimaticError, RuntimeError, ImportError, AssertionError) as error:
            missing[name] = str(error).partition("\n")[0]
            pipelines.pop(name, None)
        else:
            load[name] = round(time.perf_counter() - start, 2)
    clips = in_turns({n: clip(p) for n, p in pipelines.items()}, warm=WARM, runs=runs)
    firsts = in_turns({n: first_frame(p) for n, p in pipelines.items()}, warm=1, runs=runs)
    for pipeline in pipelines.values():
        pipeline.close()
    report: dict[str, object] = {
        "size": f"{wanted.shape[2]}x{wanted.shape[1]}",
        "frames": len(wanted),
        "steps": len(opened.bundle.sampler.sigmas),
        "precision": "fp16",
        "runs": runs,
        "state": "warm; load_and_first_clip_s is cold, graphs and kernels made",
        "clip_ms": {name: percentiles(seconds) for name, seconds in clips.items()},
        "first_frame_ms": {name: percentiles(seconds) for name, seconds in firsts.items()},
        "load_and_first_clip_s": load,
        "psnr_against_cpu_db": psnr,
        "missing": missing,
    }
    work = opened.bundle.scores.get("gflop_per_clip")
    if roof is not None and work is not None:
        report["floor"] = floor(roof, tflop=work / 1e3, gigabytes=_weights(opened, wanted))
    return report


def _build(folder: Path) -> str:
    """Run `animatic build` for this machine; what it says if it fails."""
    command = [sys.executable, "-m", "animatic", "build", str(folder), "--target", "auto"]
    done = subprocess.run([*command, "--precision", "fp16"], capture_output=True, text=True)  # noqa: PLW1510
    return "" if done.returncode == 0 else (done.stderr.strip() or "it failed").splitlines()[-1]


def _psnr(made: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> float:
    error = float(np.mean((made.astype(np.float64) - wanted) ** 2))
    return round(10 * float(np.log10(255**2 / max(error, 1e-9))), 2)


def _weights(opened: OpenBundle, made: np.ndarray[Any, Any]) -> float:
    """Gigabytes of weights that a clip reads: each graph's file, as often as it runs."""
    geometry = opened.bundle.geometry
    latent_frames = 1 + (len(made) - 1) // geometry.temporal_factor
    blocks = max(1, latent_frames // geometry.block_latent_frames)
    steps = len(opened.bundle.sampler.sigmas)
    calls = {"text_encoder": 1, "denoiser": blocks * steps, "vae_decoder": latent_frames}
    sizes = {r: opened.path(opened.bundle.graph(r, "fp16").file).stat().st_size for r in ROLES}
    return sum(calls[role] * size for role, size in sizes.items()) / 1e9
