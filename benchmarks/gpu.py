"""Animatic on this machine's NVIDIA GPU, beside torch and the GPU's own limits.

    python benchmarks/gpu.py [--bundle FOLDER] [--runs 30] [--tokens 4032] [--parts rtx …]

rtx          does TensorRT-RTX load, compile and run here at all?
roofline     what the GPU gives: half-precision matrix products, memory bandwidth
blockout     a clip: TensorRT engines, ONNX Runtime's CUDA provider with CUDA graphs, torch eager
             and compiled, all in fp16 and by the same pipeline
transformer  a forward of a 1.4 G-parameter transformer with random weights, by the same five

A part, or a contender, that cannot run here says why in the report. Writes a dated file to
benchmarks/results and prints a table; the last line is JSON. Without a GPU: one sentence, exit 1.
"""

from __future__ import annotations

import argparse
import datetime as dt
import importlib.metadata
import json
import platform
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from animatic.bundle import TensorSpec
from animatic.cli.machine import processor
from animatic.engine.cuda import call, find_devices
from animatic.errors import AnimaticError
from animatic.store import open_bundle

if TYPE_CHECKING:
    from collections.abc import Callable

    from animatic.engine.cuda import Device

PARTS: Final = ("rtx", "roofline", "blockout", "transformer")
RESULTS: Final = Path(__file__).parent / "results"
PACKAGES: Final = (
    "torch",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx-cu13",
    "cuda-bindings",
    "onnx",
)


def rtx(work: Path, device: Device) -> dict[str, object]:
    """Compile, load and run y = 2 x by TensorRT-RTX."""
    import onnx
    from benchmarks.gpu_plan import compiled_engine, graph_spec
    from onnx import TensorProto, helper

    shape = [4, 8]
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    model = helper.make_model(
        helper.make_graph(nodes, "double", ends[:1], ends[1:]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    path = work / "double.onnx"
    onnx.save(model, path)
    tensors = [TensorSpec(name=name, dtype="float32", shape=(4, 8)) for name in "xy"]
    spec = graph_spec(path, tensors[:1], tensors[1:], "fp32")
    engine = compiled_engine("tensorrt_rtx", path, spec, device, work / "double.plan")
    given = np.arange(32, dtype=np.float32).reshape(4, 8)
    runs = [engine.run({"x": given})["y"] for _ in range(5)]
    engine.close()
    return {"loads": True, "right": all(np.array_equal(run, 2 * given) for run in runs)}


def versions() -> dict[str, str]:
    """What is installed of all that takes part."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def attempt(part: Callable[[], dict[str, object]]) -> dict[str, object]:
    """Do a part; if it cannot be done, the report says why instead."""
    try:
        return part()
    # OSError: a library that does not load; RuntimeError: all of torch's own.
    except (AnimaticError, ImportError, OSError, RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        return {"cannot_run": reason}


def main() -> int:
    """Measure, print, and write the dated file; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--bundle", type=Path, help="without it, the built-in one")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--tokens", type=int, default=4032, help="256x448, 33 frames, for Wan")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    try:
        opened = open_bundle(arguments.bundle)
        device = find_devices()[0]
        (driver,) = call("cudaDriverGetVersion")
    except AnimaticError as error:
        print(f"benchmarks/gpu.py needs an NVIDIA GPU and a bundle. {error}", file=sys.stderr)
        return 1
    major, minor = device.compute_capability
    report: dict[str, object] = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "device": f"{device.name}, SM{major}{minor}, {device.memory / 2**30:.0f} GiB",
        "cuda_driver": f"{driver // 1000}.{driver % 1000 // 10}",
        "machine": f"{processor()}, {platform.platform()}",
        "python": platform.python_version(),
        "versions": versions(),
        "bundle": f"{opened.bundle.name} {opened.bundle.version} {opened.digest[:12]}",
    }
    roof: dict[str, float] | None = None
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if "rtx" in arguments.parts:
            report["rtx"] = attempt(lambda: rtx(work, device))
        if "roofline" in arguments.parts:

            def roofline_part() -> dict[str, object]:
                from benchmarks.gpu_timing import roofline

                return {**roofline()}

            measured = report["roofline"] = attempt(roofline_part)
            roof = {k: float(v) for k, v in measured.items() if isinstance(v, int | float)} or None
        if "blockout" in arguments.parts:

            def blockout_part() -> dict[str, object]:
                from benchmarks.gpu_blockout import blockout

                shutil.copytree(opened.root, work / "bundle")
                return blockout(work / "bundle", roof, arguments.runs)

            report["blockout"] = attempt(blockout_part)
        if "transformer" in arguments.parts:

            def transformer_part() -> dict[str, object]:
                from benchmarks.gpu_transformer import transformer

                return transformer(work, device, roof, tokens=arguments.tokens, runs=arguments.runs)

            report["transformer"] = attempt(transformer_part)
    _show(report)
    name = re.sub(r"[^a-z0-9]+", "-", device.name.lower()).strip("-")
    file = arguments.results / f"{report['date']}-gpu-{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    print(f"written to {file}")
    print(json.dumps(report))
    return 0


def _show(report: dict[str, object]) -> None:
    """Print what is of interest as indented lines."""
    for name, value in report.items():
        if not isinstance(value, dict):
            print(f"{name:<14} {value}")
            continue
        print(name)
        for key, inner in value.items():
            if isinstance(inner, dict):
                print(f"  {key}")
                for row, cell in inner.items():
                    print(f"    {row:<20} {cell}")
            else:
                print(f"  {key:<22} {inner}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # for the other benchmarks.gpu_*
    sys.exit(main())
