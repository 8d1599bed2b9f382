"""A bundle whose only graph is one attention, in half precision and in 8 bits: built in seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from animatic.bundle import GraphSpec, TensorSpec
from animatic.store import open_bundle, sha256_file, write_bundle
from tests.runtime.tiny_bundle import write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

WIDTH: Final = 64
HEADS: Final = 2
LINEARS: Final = ("linear_q", "linear_k", "linear_v", "linear_out")
TARGET: Final = "rtx-40"
INPUT: Final = TensorSpec(name="text_states", dtype="float32", shape=("batch", "tokens", WIDTH))
OUTPUT: Final = TensorSpec(name="velocity", dtype="float32", shape=("batch", "tokens", WIDTH))


def write_small_bundle(root: Path) -> Path:
    """Write the bundle into ``root`` and give it back."""
    write_tiny_bundle(root)
    bundle = open_bundle(root).bundle
    for graph in bundle.graphs:
        (root / graph.file).unlink()
    graphs = tuple(add_graph(root, attention_graph(p), p) for p in ("fp16", "int8"))
    write_bundle(root, msgspec.structs.replace(bundle, graphs=graphs))
    return root


def add_graph(root: Path, model: onnx.ModelProto, precision: str) -> GraphSpec:
    """Write a denoiser's ONNX file, and say what bundle.json is to say of it."""
    file = f"denoiser.{precision}.onnx"
    onnx.save(model, root / file)
    return GraphSpec(
        role="denoiser",
        file=file,
        sha256=sha256_file(root / file),
        precision=precision,
        inputs=(INPUT,),
        outputs=(OUTPUT,),
    )


def replace_graph(root: Path, model: onnx.ModelProto, precision: str) -> None:
    """Put another graph of the same precision into the bundle, as an export would."""
    spec = add_graph(root, model, precision)
    bundle = open_bundle(root, verify=False).bundle
    graphs = tuple(spec if g.precision == precision else g for g in bundle.graphs)
    write_bundle(root, msgspec.structs.replace(bundle, graphs=graphs))


def attention_graph(precision: str, *, seed: int = 0) -> onnx.ModelProto:
    """Four linear layers around an attention of two heads; "int8" quantises the linear layers."""
    rng = np.random.default_rng(seed)
    graph = _Graph()
    graph.add("Cast", ["text_states"], "half", to=TensorProto.FLOAT16)
    for name in LINEARS[:3]:
        weights = rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 8
        _linear(graph, name, "half", weights, quantised=precision == "int8")
        graph.add("Reshape", [name, "heads"], f"{name}_heads")
    graph.constant("heads", np.array([0, 0, HEADS, WIDTH // HEADS], np.int64))
    graph.constant("flat", np.array([0, 0, WIDTH], np.int64))
    graph.constant("scale", np.array((WIDTH // HEADS) ** -0.5, np.float16))
    graph.add("Transpose", ["linear_q_heads"], "q", perm=[0, 2, 1, 3])
    graph.add("Transpose", ["linear_k_heads"], "k", perm=[0, 2, 3, 1])
    graph.add("Transpose", ["linear_v_heads"], "v", perm=[0, 2, 1, 3])
    graph.add("Mul", ["q", "scale"], "scaled")
    graph.add("MatMul", ["scaled", "k"], "scores")
    graph.add("Softmax", ["scores"], "softmax", axis=-1)
    graph.add("MatMul", ["softmax", "v"], "mixed")
    graph.add("Transpose", ["mixed"], "back", perm=[0, 2, 1, 3])
    graph.add("Reshape", ["back", "flat"], "joined")
    weights = rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 8
    _linear(graph, LINEARS[3], "joined", weights, quantised=precision == "int8")
    graph.add("Cast", [LINEARS[3]], "velocity", to=TensorProto.FLOAT)
    return graph.model()


def graph_with(operator: str, *, domain: str = "") -> onnx.ModelProto:
    """A graph of one node, "strange", of an operator that need not exist."""
    graph = _Graph()
    graph.nodes.append(
        helper.make_node(operator, ["text_states"], ["velocity"], "strange", domain=domain)
    )
    return graph.model(domain)


def _linear(graph: _Graph, name: str, source: str, weights: np.ndarray, *, quantised: bool) -> None:
    if not quantised:
        graph.constant(f"{name}_weights", weights.astype(np.float16))
        graph.add("MatMul", [source, f"{name}_weights"], name)
        return
    scale = np.abs(weights).max(axis=0) / 127
    graph.constant(f"{name}_int8", np.round(weights / scale).astype(np.int8))
    graph.constant(f"{name}_scale", scale.astype(np.float16))
    graph.constant(f"{name}_data_scale", np.array(0.05, np.float16))
    graph.constant(f"{name}_zero", np.array(0, np.int8))
    data = [f"{name}_data_scale", f"{name}_zero"]
    graph.add("QuantizeLinear", [source, *data], f"{name}_q")
    graph.add("DequantizeLinear", [f"{name}_q", *data], f"{name}_dq")
    graph.add("DequantizeLinear", [f"{name}_int8", f"{name}_scale"], f"{name}_weights", axis=1)
    graph.add("MatMul", [f"{name}_dq", f"{name}_weights"], name)


class _Graph:
    """Nodes named for what they give."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))

    def constant(self, name: str, array: np.ndarray) -> None:
        self.constants.append(numpy_helper.from_array(array, name))

    def model(self, domain: str = "") -> onnx.ModelProto:
        ends = [
            helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, list(spec.shape))
            for spec in (INPUT, OUTPUT)
        ]
        graph = helper.make_graph(self.nodes, "small", ends[:1], ends[1:], self.constants)
        domains = {"": 20, domain: 20 if not domain else 1}
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid(*pair) for pair in domains.items()]
        )
        model.ir_version = 9
        return model
