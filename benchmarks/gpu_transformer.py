"""A transformer of 1.4 G parameters with random weights, as large as Wan2.1-1.3B's.

30 layers of width 1536: attention over the clip, attention over 512 tokens of text, and a feed
forward of 8960. Latents and text come and go in float32 and are small; all else is half. There are
no rotary embeddings: they cost memory traffic and hardly any arithmetic.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from benchmarks.gpu_plan import compiled_engine, graph_spec
from benchmarks.gpu_timing import floor, in_turns, percentiles
from torch import nn
from torch.nn import functional as F  # noqa: N812, torch's own idiom

from animatic.bundle import TensorSpec
from animatic.engine.onnxruntime_cuda import OnnxRuntimeCudaEngine
from animatic.errors import AnimaticError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import Tensor

    from animatic.engine import Engine
    from animatic.engine.cuda import Device

    Tensors = dict[str, np.ndarray[Any, Any]]
    Contender = tuple[Callable[[int], np.ndarray[Any, Any]], Callable[[], object]]

LAYERS: Final = 30
WIDTH: Final = 1536
HEADS: Final = 12
HIDDEN: Final = 8960
TEXT: Final = 512  # tokens
PATCH: Final = 64  # numbers a token: 16 channels of 1x2x2 latents
WARM: Final = 4


class Attention(nn.Module):
    """Queries of one sequence, keys and values of another."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Map [1, tokens, WIDTH] to the same shape."""
        query, key, value = (
            layer(source).unflatten(2, (HEADS, -1)).transpose(1, 2)
            for layer, source in ((self.query, x), (self.key, context), (self.value, context))
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return result


class Layer(nn.Module):
    """Self-attention, attention to the text, feed forward; norms in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.text = Attention(), Attention()
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Map [1, tokens, WIDTH] to the same shape."""
        normed = _norm(x)
        x = x + self.own(normed, normed)
        x = x + self.text(_norm(x), text)
        result: Tensor = x + self.down(F.gelu(self.up(_norm(x)), approximate="tanh"))
        return result


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x.float(), (WIDTH,)).to(x.dtype)


class Transformer(nn.Module):
    """The whole: float32 in, float32 out."""

    def __init__(self, layers: int = LAYERS) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(PATCH, WIDTH), nn.Linear(WIDTH, PATCH)
        self.layers = nn.ModuleList(Layer() for _ in range(layers))

    def forward(self, latents: Tensor, text_states: Tensor) -> Tensor:
        """Map latents [1, tokens, PATCH] with text [1, TEXT, WIDTH] to a velocity."""
        half = self.embed.weight.dtype
        x, text = self.embed(latents.to(half)), text_states.to(half)
        for layer in self.layers:
            x = layer(x, text)
        velocity: Tensor = self.head(_norm(x)).float()
        return velocity


def half_transformer(device: str, layers: int = LAYERS) -> Transformer:
    """Make one with random weights that keep activations near 1."""
    with torch.device("meta"):
        model = Transformer(layers).half()
    model = model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for name, weight in model.named_parameters():
        with torch.no_grad():
            if name.endswith("bias"):
                weight.zero_()
            else:
                weight.normal_(0, 0.5 / weight.shape[1] ** 0.5, generator=generator)
    return model.eval().requires_grad_(requires_grad=False)


def parameters() -> int:
    """Count the weights of the whole."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in Transformer().parameters())


def forward_tflop(tokens: int, layers: int = LAYERS) -> float:
    """Count a forward's arithmetic, a product and a sum for each term of a matrix product."""
    linear = 6 * WIDTH * WIDTH + 2 * WIDTH * HIDDEN  # per token of the clip
    text = 2 * TEXT * WIDTH * WIDTH
    attention = 2 * tokens * (tokens + TEXT) * WIDTH
    return 2 * layers * (tokens * linear + text + attention) / 1e12


class Contest:
    """The contenders' times, and why those that have none have none."""

    def __init__(self, inputs: Tensors, wanted: np.ndarray[Any, Any], runs: int) -> None:
        self.inputs: Final = inputs
        self.times: dict[str, object] = {}
        self.missing: dict[str, str] = {}
        self._wanted, self._runs = wanted, runs

    def measure(self, name: str, make: Callable[[], Contender]) -> None:
        """Make a contender, time it, and free it before the next."""
        start = time.perf_counter()
        try:
            forward, close = make()
            try:
                error = _relative(forward(0), self._wanted)
                made = time.perf_counter() - start
                seconds = in_turns({name: forward}, warm=WARM, runs=self._runs)[name]
            finally:
                close()
        except (AnimaticError, RuntimeError, ImportError) as trouble:
            self.missing[name] = str(trouble).partition("\n")[0]
            return
        self.times[name] = {
            **percentiles(seconds),
            "made_and_first_run_s": round(made, 1),
            "relative_error": round(error, 5),
        }


def transformer(
    work: Path, device: Device, roof: Mapping[str, float] | None, *, tokens: int, runs: int
) -> dict[str, object]:
    """Measure a forward of every contender."""
    random = np.random.default_rng(0)
    inputs = {
        "latents": random.standard_normal((1, tokens, PATCH), dtype=np.float32),
        "text_states": random.standard_normal((1, TEXT, WIDTH), dtype=np.float32),
    }
    report: dict[str, object] = {
        "tokens": tokens,
        "precision": "fp16",
        "runs": runs,
        "state": "warm; one forward, latents from the host and velocity back to it",
    }
    graph = work / "transformer.onnx"
    contest = _in_torch(graph, inputs, report, runs)
    torch.cuda.empty_cache()
    if roof is not None:
        size = 2 * parameters() / 1e9
        report["floor"] = floor(roof, tflop=forward_tflop(tokens), gigabytes=size)
    spec = graph_spec(
        graph,
        [TensorSpec(name=n, dtype="float32", shape=array.shape) for n, array in inputs.items()],
        [TensorSpec(name="velocity", dtype="float32", shape=(1, tokens, PATCH))],
        "fp16",
    )

    def compiled(backend: str) -> Contender:
        plan = work / f"transformer.{backend}.plan"
        return _engine(compiled_engine(backend, graph, spec, device, plan), inputs)

    if graph.is_file():
        contest.measure(
            "onnxruntime_cuda", lambda: _engine(OnnxRuntimeCudaEngine(graph, spec), inputs)
        )
        contest.measure("tensorrt_rtx", lambda: compiled("tensorrt_rtx"))
        contest.measure("tensorrt", lambda: compiled("tensorrt"))
    return {**report, "forward_ms": contest.times, "missing": contest.missing}


def _in_torch(graph: Path, inputs: Tensors, report: dict[str, object], runs: int) -> Contest:
    """Time torch, export the graph for the others, and leave nothing on the GPU."""
    model = half_transformer("cuda")
    given = tuple(torch.from_numpy(array).cuda() for array in inputs.values())
    with torch.no_grad():
        wanted = model(*given).cpu().numpy()
    contest = Contest(inputs, wanted, runs)
    contest.measure("torch_eager", lambda: _torch(model, inputs))
    fused = torch.compile(model, mode="reduce-overhead")  # with CUDA graphs
    contest.measure("torch_compile", lambda: _torch(fused, inputs))
    start = time.perf_counter()
    try:
        export(model, given, graph)
    except (RuntimeError, ImportError) as trouble:
        contest.missing["export"] = str(trouble).partition("\n")[0]
    report["parameters"] = parameters()
    report["export_s"] = round(time.perf_counter() - start, 1)
    return contest


def export(model: Transformer, given: tuple[Tensor, ...], graph: Path) -> None:
    """Write the ONNX graph, its weights beside it."""
    torch.onnx.export(
        model,
        given,
        str(graph),
        input_names=["latents", "text_states"],
        output_names=["velocity"],
        opset_version=20,
        dynamo=True,
        external_data=True,
        verbose=False,
    )


def _torch(model: Callable[..., Any], inputs: Tensors) -> Contender:
    @torch.no_grad()
    def forward(_turn: int) -> np.ndarray[Any, Any]:
        given = [torch.from_numpy(array).cuda() for array in inputs.values()]
        velocity: np.ndarray[Any, Any] = model(*given).cpu().numpy()  # waits for the GPU
        return velocity

    return forward, lambda: None


def _engine(engine: Engine, inputs: Tensors) -> Contender:
    return (lambda _turn: engine.run(inputs)["velocity"]), engine.close


def _relative(actual: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> float:
    return float(np.linalg.norm(actual - wanted) / np.linalg.norm(wanted))
