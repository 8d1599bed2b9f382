"""Which settings of ONNX Runtime are fastest on this CPU, and what each costs in accuracy.

    python benchmarks/cpu_settings.py [--bundle FOLDER] [--runs 15] [--only NAME …]

One run measures all in turns, so that a noisy machine is noisy for all; the ratios count. The
reference is what the runtime does by itself. PSNR is of the decoded clip (uint8) against the
reference with one thread and the least optimisation, over --seeds seeds; what a setting changes is
also seen in the nodes that remain after ONNX Runtime's own rewriting.

    threads, optimisation       of the shipped graphs, which compute in float32
    float32                     weights stored in float32: whether storing them narrow costs time
    weights8                    MatMulNBits: 8-bit weights, float32 arithmetic
    weights8-a8                 the same with 8-bit arithmetic (accuracy level 4)
    dynamic8                    8-bit weights, activations quantised on the fly
    dynamic7                    the same with 7-bit weights, which cannot saturate without VNNI
    qdq8, qdq8-fused            the bundle's calibrated int8 graphs, if it has them: without and
                                with ONNX Runtime's fused 8-bit kernels

Prints a table; the last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import platform
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from animatic import Pipeline, Shot
from animatic.cli.machine import processor
from animatic.engine import OnnxRuntimeEngine
from animatic.engine.choice import ROLES
from animatic.engine.cores import usable_cores
from animatic.store import open_bundle
from animatic.tokenizer import BundleTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from animatic.bundle import Role
    from animatic.engine.onnxruntime import Level
    from animatic.store import OpenBundle

BLOCK: Final = 64  # weights that share a scale
FLAGS: Final = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8")


@dataclass
class Setting:
    """One way to play the bundle.

    graphs: each role's file. threads: None takes every core. nodes: those that remain, counted.
    """

    name: str
    graphs: Mapping[Role, Path]
    threads: int | None = None
    level: Level = "all"
    seconds: list[float] = field(default_factory=list)
    psnr: float = float("nan")
    nodes: dict[str, int] = field(default_factory=dict)


def settings(opened: OpenBundle, work: Path) -> list[Setting]:
    """Make every setting's graphs; the first is the runtime's own."""
    bundle = opened.bundle
    shipped = {role: opened.path(bundle.graph(role).file) for role in ROLES}
    cores = usable_cores()
    found = [Setting("shipped", shipped)]
    found += [
        Setting(f"threads{threads}-{level}", shipped, threads, level)
        for threads in sorted({1, cores})
        for level in ("basic", "extended", "all")
        if (threads, level) != (cores, "all")  # that is the first
    ]
    plain = {role: _folded(path, work / f"{role}.float32.onnx") for role, path in shipped.items()}
    found.append(Setting("float32", plain))
    found.append(Setting("weights8", _each(plain, work, "weights8", _weights8)))
    found.append(Setting("weights8-a8", _each(plain, work, "weights8a8", _weights8_a8)))
    found.append(Setting("dynamic8", _each(plain, work, "dynamic8", _dynamic8)))
    found.append(Setting("dynamic7", _each(plain, work, "dynamic7", _dynamic7)))
    typed = {graph.role for graph in bundle.graphs if graph.precision == "int8"}
    if typed:
        qdq = {
            role: opened.path(bundle.graph(role, "int8").file) if role in typed else shipped[role]
            for role in ROLES
        }
        found += [Setting("qdq8", qdq, level="basic"), Setting("qdq8-fused", qdq)]
    return found


def _each(
    graphs: Mapping[Role, Path], work: Path, name: str, change: Callable[[Path, Path], object]
) -> dict[Role, Path]:
    changed: dict[Role, Path] = {}
    for role, path in graphs.items():
        changed[role] = work / f"{role}.{name}.onnx"
        change(path, changed[role])
    return changed


def _folded(path: Path, out: Path) -> Path:
    """Compute all that depends on constants alone, so that weights are plain float32."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(out)
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return out


def _weights8(path: Path, out: Path, accuracy_level: int = 1) -> None:
    quantizer = MatMulNBitsQuantizer(
        onnx.load(path), bits=8, block_size=BLOCK, is_symmetric=True, accuracy_level=accuracy_level
    )
    quantizer.process()
    quantizer.model.save_model_to_file(str(out))


def _weights8_a8(path: Path, out: Path) -> None:
    _weights8(path, out, accuracy_level=4)


def _dynamic8(path: Path, out: Path, *, reduce_range: bool = False) -> None:
    quantize_dynamic(
        path,
        out,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        reduce_range=reduce_range,
        weight_type=QuantType.QInt8,
    )


def _dynamic7(path: Path, out: Path) -> None:
    _dynamic8(path, out, reduce_range=True)


def open_pipeline(opened: OpenBundle, setting: Setting) -> Pipeline:
    """Chain the setting's graphs; they keep the names and shapes of the bundle's own."""
    text = opened.bundle.text
    engines = {
        role: OnnxRuntimeEngine(
            path,
            opened.bundle.graph(role, _precision(opened, role, path)),
            threads=setting.threads,
            optimisation=setting.level,
        )
        for role, path in setting.graphs.items()
    }
    return Pipeline(opened, BundleTokenizer(opened.path(text.tokenizer.file), text), engines)


def _precision(opened: OpenBundle, role: Role, path: Path) -> str | None:
    """A graph of the bundle goes by its own spec (its states may be half), others by the first."""
    own = (g.precision for g in opened.bundle.graphs if g.role == role and g.file == path.name)
    return next(own, None)


def remaining_nodes(setting: Setting, work: Path) -> dict[str, int]:
    """Count the nodes that do the work after ONNX Runtime's rewriting, over the three graphs."""
    levels = onnxruntime.GraphOptimizationLevel
    counts: Counter[str] = Counter()
    for path in setting.graphs.values():
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # it warns that such a file suits this machine alone
        options.graph_optimization_level = {
            "basic": levels.ORT_ENABLE_BASIC,
            "extended": levels.ORT_ENABLE_EXTENDED,
            "all": levels.ORT_ENABLE_ALL,
        }[setting.level]
        options.optimized_model_filepath = str(work / "remaining.onnx")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(work / "remaining.onnx", load_external_data=False).graph.node
        counts.update(node.op_type for node in nodes)
    wanted = ("MatMul", "Gemm", "Conv", "Quant", "Dequant", "Attention", "Cast")
    return {op: n for op, n in counts.most_common() if any(word in op for word in wanted)}


def psnr(clip: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]) -> float:
    """Of uint8 clips, in dB; infinite for equal ones."""
    error = float(np.mean((clip.astype(np.float64) - reference) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def measure(
    opened: OpenBundle, chosen: list[Setting], work: Path, *, runs: int, seeds: int
) -> None:
    """Fill the settings in: every one a clip in turn, --runs times."""
    from benchmarks.contenders import PROMPT, clip

    with contextlib.ExitStack() as stack:
        truth = Setting("truth", chosen[0].graphs, 1, "basic")
        exact = stack.enter_context(open_pipeline(opened, truth))
        wanted = [exact.clip(Shot(PROMPT, seed=seed)) for seed in range(seeds)]
        contenders = []
        for setting in chosen:
            pipeline = stack.enter_context(open_pipeline(opened, setting))
            clips = [pipeline.clip(Shot(PROMPT, seed=seed)) for seed in range(seeds)]
            setting.psnr = psnr(np.stack(clips), np.stack(wanted))
            setting.nodes = remaining_nodes(setting, work)
            contenders.append(clip(pipeline))
        for run in range(runs):
            for setting, contender in zip(chosen, contenders, strict=True):
                start = time.perf_counter()
                contender(run)
                setting.seconds.append(time.perf_counter() - start)


def flags() -> list[str]:
    """What the processor has of the instructions that decide here."""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text("utf-8")
        return [flag for flag in FLAGS if f" {flag}" in text]
    return []


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--only", nargs="*", metavar="NAME", help="these beside the first")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)  # the quantisers tell of every node
    opened = open_bundle(arguments.bundle)
    with tempfile.TemporaryDirectory() as folder:
        found = settings(opened, Path(folder))
        only = arguments.only
        chosen = [s for s in found if only is None or s.name in only or s is found[0]]
        measure(opened, chosen, Path(folder), runs=arguments.runs, seeds=arguments.seeds)
        sizes = {
            s.name: round(sum(path.stat().st_size for path in s.graphs.values()) / 2**20, 1)
            for s in chosen
        }
    base = np.array(chosen[0].seconds)
    rows: dict[str, dict[str, object]] = {}
    for s in chosen:
        p50, p95 = (float(np.percentile(s.seconds, rank)) for rank in (50, 95))
        ratio = float(np.median(np.array(s.seconds) / base))
        rows[s.name] = {
            "threads": s.threads or usable_cores(),
            "optimisation": s.level,
            "p50_seconds": round(p50, 4),
            "p95_seconds": round(p95, 4),
            "times_shipped": round(ratio, 3),
            "psnr_db": None if np.isinf(s.psnr) else round(s.psnr, 2),
            "mib": sizes[s.name],
            "nodes": s.nodes,
        }
        quality = "exact" if np.isinf(s.psnr) else f"{s.psnr:.1f} dB"
        print(f"{s.name:<20} {p50 * 1e3:8.1f} ms {ratio:6.2f}x  {quality:>9} {sizes[s.name]:7} MiB")
    report = {
        "machine": f"{processor()}, {usable_cores()} cores, {platform.system()}",
        "instructions": flags(),
        "versions": {"onnxruntime": onnxruntime.__version__, "onnx": onnx.__version__},
        "bundle": f"{opened.bundle.name} {opened.bundle.version} {opened.digest[:12]}",
        "runs": arguments.runs,
        "seeds": arguments.seeds,
        "state": "warm; times_shipped is the median of the ratios turn by turn",
        "settings": rows,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for the modules beside
    main()
