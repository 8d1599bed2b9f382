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
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import torch
from tokenizers import Tokenizer
from torch import nn

from animatic import Pipeline, Shot
from animatic.cli.machine import processor
from animatic.engine.cores import usable_cores
from animatic.noise import NoiseStream
from animatic_export.blockout.from_bundle import read_decoder, read_denoiser
from animatic_export.blockout.minilm import load_minilm, minilm_folder

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from animatic.store import OpenBundle
    from animatic_export.blockout.vae import Decoder

PROMPT = "a red truck drives left through a desert at sunset, slow dolly in"
MATRIX = 1024


class TorchChain:
    """The runtime's chain with torch modules; compiled or not."""

    def __init__(self, opened: OpenBundle, *, compiled: bool) -> None:
        bundle = opened.bundle
        kind = bundle.sampler.kind
        if kind != "euler":
            raise SystemExit(
                f"The bundle samples by {kind!r} and this benchmark integrates by Euler alone: "
                "give a bundle whose sampler is `euler`."
            )
        self.bundle = bundle
        folder = minilm_folder()
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        decoder = read_decoder(opened)
        size, factor = bundle.geometry.sizes[0], bundle.geometry.spatial_factor
        shapes = decoder.memory_shapes(size.height // factor, size.width // factor)
        self.memories = [torch.zeros(1, *shape) for shape in shapes]
        modules: list[nn.Module] = [
            load_minilm(folder / "model.safetensors"),
            read_denoiser(opened),
            _Step(decoder),
        ]
        self.text, self.denoiser, self.decoder = (
            torch.compile(m.eval(), disable=not compiled) for m in modules
        )
        stats = bundle.latents
        self.mean = torch.tensor(stats.mean).view(1, -1, 1, 1, 1)
        self.std = torch.tensor(stats.std).view(1, -1, 1, 1, 1)

    @torch.no_grad()
    def clip(self, seed: int) -> np.ndarray:
        """Return uint8 [frames, height, width, 3], as `Pipeline.clip` does."""
        geometry, sampler = self.bundle.geometry, self.bundle.sampler
        ids = torch.tensor([self.tokenizer.encode(PROMPT).ids])
        states = self.text(ids, torch.ones_like(ids))
        size, factor = geometry.sizes[0], geometry.spatial_factor
        frames = geometry.block_latent_frames
        shape = (1, geometry.latent_channels, frames, size.height // factor, size.width // factor)
        x = torch.from_numpy(NoiseStream(seed).initial(0, shape))
        for now, following in pairwise([*sampler.sigmas, 0.0]):
            times = torch.full((1, frames), sampler.timestep_scale * now)
            x = x + (following - now) * self.denoiser(x, times, states)
        raw, memories, parts = x * self.std + self.mean, self.memories, []
        for n in range(frames):
            group, memories = self.decoder(raw[:, :, n], memories)
            parts.append(group.unflatten(1, (geometry.temporal_factor, 3))[0])
        video = torch.cat(parts)[geometry.decoder_trim :]
        pixels: np.ndarray = (
            (((video + 1) / 2).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
        )
        return pixels


class _Step(nn.Module):
    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latents: Tensor, memories: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return self.decoder.step(latents, memories)


def matrix_rate() -> float:
    """Return the best float32 rate of a 1024-sided matrix product, GFLOP/s."""
    a = np.random.default_rng(0).standard_normal((MATRIX, MATRIX), dtype=np.float32)
    best = min(_timed(lambda: a @ a) for _ in range(20))
    return 2 * MATRIX**3 / best / 1e9


def _first_frame(pipeline: Pipeline, seed: int) -> None:
    # Not a prompt of the contenders' either: neither may find the other's text kept.
    frames = pipeline.generate(Shot(PROMPT + "  ", seed=seed))
    next(frames)
    frames.close()


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--runs", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(usable_cores())
    with Pipeline.open(arguments.bundle) as pipeline:
        opened = pipeline.bundle
        eager = TorchChain(opened, compiled=False)
        compiled = TorchChain(opened, compiled=True)
        ours = pipeline.clip(Shot(PROMPT, seed=1))
        off = np.abs(ours.astype(int) - eager.clip(1).astype(int)).mean()
        contenders: dict[str, Callable[[int], object]] = {
            # The last prompt's text is kept; another one first, so that text is always encoded.
            "animatic": lambda seed: pipeline.clip(Shot(PROMPT + " " * (seed % 2), seed=seed)),
            "torch_eager": eager.clip,
            "torch_compile": compiled.clip,
        }
        for contender in contenders.values():
            contender(0)
            contender(1)
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        first: list[float] = []
        for seed in range(arguments.runs):
            first.append(_timed(lambda s=seed: _first_frame(pipeline, s)))  # type: ignore[misc]
            for name, contender in contenders.items():
                seconds[name].append(_timed(lambda c=contender, s=seed: c(s)))  # type: ignore[misc]
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
    main()
