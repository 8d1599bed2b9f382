"""How long things take on a GPU, and how long they would take if only its limits counted."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Work = Callable[[int], object]

SIDE: Final = 8192  # of the matrices: 1.1 TFLOP a product, past every launch cost
COPY: Final = 1 << 30  # bytes: past every cache
REPEATS: Final = 20


def percentiles(seconds: list[float]) -> dict[str, float]:
    """The median and the 95th percentile, in milliseconds."""
    return {f"p{rank}": round(float(np.percentile(seconds, rank)) * 1e3, 3) for rank in (50, 95)}


def in_turns(work: Mapping[str, Work], *, warm: int, runs: int) -> dict[str, list[float]]:
    """Time functions in turns, in seconds; each must have waited for the GPU when it returns.

    They are given the number of the turn, as a seed.
    """
    for each in work.values():
        for turn in range(warm):
            each(turn)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(runs):
        for name, each in work.items():
            start = time.perf_counter()
            each(turn)
            seconds[name].append(time.perf_counter() - start)
    return seconds


def roofline() -> dict[str, float]:
    """Measure the GPU with torch: half-precision matrix products and copies, the best of 20."""
    import torch

    a = torch.randn(SIDE, SIDE, device="cuda", dtype=torch.float16)
    b = torch.randn(SIDE, SIDE, device="cuda", dtype=torch.float16)
    source = torch.empty(COPY, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    product = _best(lambda: torch.mm(a, b))
    copied = _best(lambda: target.copy_(source))
    return {
        "matmul_tflops": round(2 * SIDE**3 / product / 1e12, 1),  # a product and a sum a term
        "bandwidth_gb_s": round(2 * COPY / copied / 1e9, 1),  # read and written
    }


def _best(work: Callable[[], object]) -> float:
    import torch

    best = float("inf")
    for _ in range(REPEATS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        end.synchronize()
        best = min(best, begin.elapsed_time(end) / 1e3)
    return best


def floor(roof: Mapping[str, float], *, tflop: float, gigabytes: float) -> dict[str, float]:
    """Say how many milliseconds the arithmetic and the reading of the weights take at least."""
    compute = tflop / roof["matmul_tflops"] * 1e3
    memory = gigabytes / roof["bandwidth_gb_s"] * 1e3
    return {
        "compute_ms": round(compute, 3),
        "memory_ms": round(memory, 3),
        "floor_ms": round(max(compute, memory), 3),
    }
