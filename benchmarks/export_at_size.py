"""A denoiser of Wan2.1-1.3B's size from weights to an engine: seconds, memory and disk per phase.

The weights are random, of the real shapes (30 layers, 1.42 G parameters), and exactly bfloat16, as
published ones are. Every phase is what `animatic export` does, in a process of its own, so that its
peak is its own:

    reference   the module in float32 to a graph with bfloat16 weights, compared with torch
    fp16        that graph's weights to a module again, and a graph typed in half precision
    engine      TensorRT-RTX for SM89 (rtx-40), which needs no GPU

A peak of memory is given twice: the largest resident set, and the part of it that is not of mapped
files, which the system can drop and read again.

    python benchmarks/export_at_size.py --out FOLDER [--layers 30] [--phases reference,fp16,engine]

FOLDER keeps the bundle, so that a later phase can be run alone. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import platform
import re
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import torch

from animatic.bundle import (
    SCHEMA_VERSION,
    Bundle,
    Conditioning,
    FileRef,
    Geometry,
    LatentStats,
    Provenance,
    SamplerSpec,
    Size,
    TextSpec,
)
from animatic.cli.machine import processor
from animatic.store import open_bundle, sha256_file, write_bundle
from animatic.targets import find_target
from animatic_engines.build import Request, build_engines
from animatic_engines.memory import peak_rss
from animatic_export.graph import export_graph
from animatic_export.typed_graphs import add_typed_graphs
from animatic_export.wan.config import WAN_1_3B, WanConfig
from animatic_export.wan.denoiser import WanDenoiser
from animatic_export.wan.graphs import denoiser_plan
from animatic_export.weights import storage_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from animatic.bundle import GraphSpec

    Report = dict[str, object]

WIDTH, HEIGHT, FRAMES = 832, 480, 81
STRIDE, TEMPORAL = 8, 4  # pixels a latent cell, frames a latent frame
TARGET: Final = "rtx-40"
GB: Final = 1e9


def reference(folder: Path, layers: int) -> Report:
    """Export random weights as the reference graph of a new bundle."""
    config = msgspec.structs.replace(WAN_1_3B, layers=layers)
    start = time.perf_counter()
    module = _random(config)
    seconds = time.perf_counter() - start
    folder.mkdir(parents=True, exist_ok=True)
    exported = export_graph(denoiser_plan(module, storage_of(torch.bfloat16)), folder)
    (folder / "tokenizer.json").write_text("{}")
    write_bundle(folder, _bundle(folder, exported.spec))
    parameters = sum(weight.numel() for weight in module.parameters())
    return {
        "parameters": parameters,
        "init_s": round(seconds, 1),
        "relative_error": exported.error,
        "files_mb": _sizes(folder, exported.spec),
    }


def fp16(folder: Path, _layers: int) -> Report:
    """Make the typed graph from the bundle alone."""
    errors = add_typed_graphs(folder, "fp16")
    graph = open_bundle(folder, verify=False).bundle.graph("denoiser", "fp16")
    return {"relative_error": errors["denoiser"], "files_mb": _sizes(folder, graph)}


def engine(folder: Path, layers: int) -> Report:
    """Build the engine; the peak is the compiler's process."""
    request = Request((find_target(TARGET),), precision="fp16", force=True)
    outcome = next(build_engines(folder, request, on_step=lambda *_: None, on_wait=lambda: None))
    sidecar = outcome.sidecar
    return {
        "backend": f"{sidecar.backend} {sidecar.backend_version}",
        "build_s": sidecar.seconds,
        "peak_gb": round((sidecar.peak_rss or 0) / GB, 2),
        "plan_gb": round(sidecar.plan_bytes / GB, 3),
        "fused_attentions": sum(sidecar.layers.attentions.values()),
        "attentions": 2 * layers,
        "gemms": sidecar.layers.gemms,
        "warnings": sidecar.warnings,
    }


PHASES: Final[dict[str, Callable[[Path, int], Report]]] = {
    "reference": reference,
    "fp16": fp16,
    "engine": engine,
}


def measured(phase: str, folder: Path, layers: int) -> Report:
    """Run a phase in this process, which is new, and add its seconds and peaks."""
    torch.set_grad_enabled(False)
    anonymous: list[int] = [0]
    done = threading.Event()
    sampler = threading.Thread(target=_sample, args=(anonymous, done), daemon=True)
    sampler.start()
    start = time.perf_counter()
    report = PHASES[phase](folder, layers)
    seconds = time.perf_counter() - start
    done.set()
    sampler.join()
    own = {
        "seconds": round(seconds, 1),
        "peak_gb": round((peak_rss() or 0) / GB, 2),
        "peak_anonymous_gb": round(max(anonymous) / GB, 2),
    }
    return own | report


def _sample(anonymous: list[int], done: threading.Event) -> None:
    """Keep the largest resident memory that is of no file, in bytes, twenty times a second."""
    while not done.wait(0.05):
        found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        anonymous[0] = max(anonymous[0], int(found[1]) * 1024 if found else 0)


def _random(config: WanConfig) -> WanDenoiser:
    """Make a denoiser whose activations stay near 1 and whose weights bfloat16 holds exactly."""
    with torch.device("meta"):
        module = WanDenoiser(config).requires_grad_(requires_grad=False)
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, weight in module.state_dict().items():
        scale = 0.5 * weight.shape[1] ** -0.5 if weight.dim() > 1 else 0.02
        middle = 1.0 if name.endswith(("gain", "norm.weight")) else 0.0
        noise = torch.randn(weight.shape, generator=generator)
        weights[name] = noise.mul_(scale).add_(middle).bfloat16().float()
    module.load_state_dict(weights, assign=True)
    return module.eval()


def _bundle(folder: Path, graph: GraphSpec) -> Bundle:
    """Say just enough of the denoiser for engines to be built for a clip of its usual size."""
    channels = WAN_1_3B.latent_channels
    return Bundle(
        schema_version=SCHEMA_VERSION,
        name="export-at-size",
        family="wan2.1-1.3b",
        version="0",
        licence="none",
        description="A denoiser with random weights.",
        provenance=Provenance(
            source="random",
            source_sha256="0" * 64,
            licence="none",
            created="",
            command="benchmarks/export_at_size.py",
            versions={},
        ),
        geometry=Geometry(
            spatial_factor=STRIDE,
            temporal_factor=TEMPORAL,
            latent_channels=channels,
            sizes=(Size(width=WIDTH, height=HEIGHT),),
            frame_counts=(FRAMES,),
            block_latent_frames=1 + (FRAMES - 1) // TEMPORAL,
            native_fps="16/1",
            decoder_trim=TEMPORAL - 1,
        ),
        latents=LatentStats(mean=(0.0,) * channels, std=(1.0,) * channels),
        conditioning=Conditioning(text=True, keyframes=False, context=False),
        text=TextSpec(
            tokenizer=FileRef(file="tokenizer.json", sha256=sha256_file(folder / "tokenizer.json")),
            max_tokens=WAN_1_3B.text_length,
            pad_to_max=True,
        ),
        sampler=SamplerSpec(kind="renoise", sigmas=(1.0,)),
        graphs=(graph,),
    )


def _sizes(folder: Path, graph: GraphSpec) -> dict[str, float]:
    files = (graph.file, *(data.file for data in graph.external_data))
    return {file: round((folder / file).stat().st_size / 1e6, 3) for file in files}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=WAN_1_3B.layers)
    parser.add_argument("--phases", default=",".join(PHASES))
    arguments = parser.parse_args()
    phases = arguments.phases.split(",")
    if unknown := set(phases) - set(PHASES):
        parser.error(f"there is no phase {min(unknown)}: choose among {', '.join(PHASES)}")
    packages = ("torch", "onnx", "onnxscript", "onnxruntime", "tensorrt-rtx-cu13")
    report: dict[str, object] = {
        "machine": processor(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "layers": arguments.layers,
    }
    spawn = multiprocessing.get_context("spawn")
    for phase in phases:
        with ProcessPoolExecutor(1, mp_context=spawn) as fresh:
            result = fresh.submit(measured, phase, arguments.out, arguments.layers).result()
        print(phase)
        for name, value in result.items():
            print(f"  {name:18} {value}")
        report[phase] = result
    print(json.dumps(report))


if __name__ == "__main__":
    main()
