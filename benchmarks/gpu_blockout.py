"""Blockout on this GPU: our engines, ONNX Runtime, and torch, all driven by one pipeline."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from benchmarks.gpu_timing import floor, in_turns, percentiles

from animatic import Pipeline, Shot
from animatic.engine.choice import ROLES
from animatic.engine.contract import InputCheck
from animatic.errors import AnimaticError
from animatic.store import open_bundle
from animatic.tokenizer import BundleTokenizer
from animatic_export.blockout.from_bundle import read_decoder, read_denoiser, read_text_encoder
from animatic_export.blockout.graphs import decoder_plan, denoiser_plan, text_encoder_plan
from animatic_export.typed import typed_module
from animatic_export.typed_graphs import add_typed_graphs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from animatic.bundle import GraphSpec, Role
    from animatic.store import OpenBundle
    from animatic_export.graph import GraphPlan

    Tensors = dict[str, np.ndarray[Any, Any]]

PROMPT: Final = "a red truck drives left through a desert at sunset, slow dolly in"
WARM: Final = 4  # clips: two prompts, captured graphs, compiled kernels
SEED: Final = 7  # of the clips that are compared


class TorchEngine:
    """A graph's module on the GPU behind the engines' protocol: the same pipeline drives it."""

    def __init__(self, plan: GraphPlan, spec: GraphSpec, *, compiled: bool) -> None:
        self.spec = spec
        module = typed_module(plan.module, torch.float16).cuda().eval()
        # reduce-overhead: with CUDA graphs, which is what the others have.
        self._module = torch.compile(module, mode="reduce-overhead") if compiled else module
        self._check = InputCheck(spec)
        self._states: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Run once; states stay on the GPU."""
        arrays, axes = self._check.arrays(inputs)
        given = {name: torch.from_numpy(array).cuda() for name, array in arrays.items()}
        for name, tensor in self._check.states.items():
            kept = self._states.get(name)
            shape = self._check.state_shape(name, axes, None if kept is None else tuple(kept.shape))
            dtype = getattr(torch, tensor.dtype)
            given[name] = torch.zeros(shape, dtype=dtype, device="cuda") if kept is None else kept
        results = self._module(*(given[tensor.name] for tensor in self.spec.inputs))
        results = results if isinstance(results, tuple) else (results,)
        outputs = dict(zip((t.name for t in self.spec.outputs), results, strict=True))
        pairs = self._check.pairs
        # Cloned: the next replay of a captured graph writes where this one did.
        self._states = {pairs[name]: outputs[name].clone() for name in pairs}
        return {n: value.float().cpu().numpy() for n, value in outputs.items() if n not in pairs}

    def reset(self) -> None:
        """Forget the states."""
        self._states = {}

    def close(self) -> None:
        """Forget everything."""
        self._states = {}


def torch_pipeline(opened: OpenBundle, *, compiled: bool) -> Pipeline:
    """Chain the bundle's weights in torch, half-typed as the fp16 graphs are."""
    geometry, denoiser = opened.bundle.geometry, read_denoiser(opened)
    plans: dict[Role, GraphPlan] = {
        "text_encoder": text_encoder_plan(read_text_encoder(opened)),
        "denoiser": denoiser_plan(denoiser),
        "vae_decoder": decoder_plan(
            read_decoder(opened),
            denoiser.config.rows,
            denoiser.config.columns,
            scale=geometry.spatial_factor,
            factor=geometry.temporal_factor,
        ),
    }
    engines = {
        role: TorchEngine(plan, opened.bundle.graph(role, "fp16"), compiled=compiled)
        for role, plan in plans.items()
    }
    text = opened.bundle.text
    tokenizer = BundleTokenizer(opened.path(text.tokenizer.file), text)
    return Pipeline(opened, tokenizer, engines)


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
        "torch_eager": lambda: torch_pipeline(opened, compiled=False),
        "torch_compile": lambda: torch_pipeline(opened, compiled=True),
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
    # The last prompt's text is kept: two prompts by turns, so that text is always encoded.
    clips = in_turns({n: _clip(p) for n, p in pipelines.items()}, warm=WARM, runs=runs)
    firsts = in_turns({n: _first(p) for n, p in pipelines.items()}, warm=1, runs=runs)
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


def _clip(pipeline: Pipeline) -> Callable[[int], object]:
    return lambda turn: pipeline.clip(Shot(PROMPT + " " * (turn % 2), seed=turn))


def _first(pipeline: Pipeline) -> Callable[[int], object]:
    def first(turn: int) -> None:
        frames = pipeline.generate(Shot(PROMPT + " " * (turn % 2), seed=turn))
        next(frames)
        frames.close()

    return first


def _psnr(clip: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> float:
    error = float(np.mean((clip.astype(np.float64) - wanted) ** 2))
    return round(10 * float(np.log10(255**2 / max(error, 1e-9))), 2)


def _weights(opened: OpenBundle, clip: np.ndarray[Any, Any]) -> float:
    """Gigabytes of weights that a clip reads: each graph's file, as often as it runs."""
    geometry = opened.bundle.geometry
    latent_frames = 1 + (len(clip) - 1) // geometry.temporal_factor
    blocks = max(1, latent_frames // geometry.block_latent_frames)
    steps = len(opened.bundle.sampler.sigmas)
    calls = {"text_encoder": 1, "denoiser": blocks * steps, "vae_decoder": latent_frames}
    sizes = {r: opened.path(opened.bundle.graph(r, "fp16").file).stat().st_size for r in ROLES}
    return sum(calls[role] * size for role, size in sizes.items()) / 1e9
