"""A bundle with a float32 and a float16 graph of each kind: small, but with everything in it that
calibration looks for: a product cut in three, attention, a residual MLP, convolutions and a state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from animatic.bundle import GraphSpec, Size, StatePair, TensorSpec
from animatic.store import open_bundle, sha256_file, write_bundle
from tests.runtime.tiny_bundle import CHANNELS, SPATIAL, STATES, write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Weight = npt.NDArray[np.generic]
    Arrays = dict[str, Weight]

WIDTH: Final = 32
LATENTS: Final = TensorSpec(
    name="latents", dtype="float32", shape=("batch", CHANNELS, "frames", 6, 8)
)
LAYERS: Final = {
    "denoiser": {"qkv.0", "qkv.1", "qkv.2", "proj", "up", "down"},
    "vae_decoder": {"join", "middle", "last"},
}
"""What can be quantised after `split_products`."""


def write_typed_bundle(root: Path) -> Path:
    """Write it and give it back; its clips are 9 frames of 64x48."""
    write_tiny_bundle(root)
    bundle = open_bundle(root).bundle
    graphs = [bundle.graph("text_encoder")]
    for dtype in (np.float32, np.float16):
        graphs += [_denoiser(root, dtype), _decoder(root, dtype)]
    geometry = msgspec.structs.replace(bundle.geometry, sizes=(Size(width=64, height=48),))
    write_bundle(root, msgspec.structs.replace(bundle, graphs=tuple(graphs), geometry=geometry))
    return root


def denoiser_model(dtype: type[np.generic] = np.float16) -> onnx.ModelProto:
    """[batch, 4, frames, 6, 8]: tokens, attention along the columns, an MLP."""
    rng = np.random.default_rng(1)

    def matrix(rows: int, columns: int) -> Weight:
        values = rng.standard_normal((rows, columns)) / np.sqrt(rows)
        # Loud channels, as trained networks have them.
        loud: Weight = (values * np.exp(rng.standard_normal(columns) / 2) / 2).astype(dtype)
        return loud

    constants: Arrays = {
        "embed.weight.T": matrix(CHANNELS, WIDTH),
        "qkv.weight.T": matrix(WIDTH, 3 * WIDTH),
        "qkv.bias": rng.standard_normal(3 * WIDTH).astype(dtype),
        "proj.weight.T": matrix(WIDTH, WIDTH),
        "up.weight.T": matrix(WIDTH, 2 * WIDTH),
        "down.weight.T": matrix(2 * WIDTH, WIDTH),
        "out.weight.T": matrix(WIDTH, CHANNELS),
        "text_axes": np.array([1, 2], np.int64),
        "text_shape": np.array([-1, 1, 1, 1, 1], np.int64),
        "small": np.array(1 / 4000, np.float32),
        "time_axes": np.array([1, 3, 4], np.int64),
    }
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = helper.make_node
    nodes = [
        node("Transpose", ["latents"], ["cells"], perm=[0, 2, 3, 4, 1]),
        node("Cast", ["cells"], ["typed"], to=kind),
        node("MatMul", ["typed", "embed.weight.T"], ["embedded"], "embed"),
        node("ReduceMean", ["text_states", "text_axes"], ["mean"], keepdims=1),
        node("Reshape", ["mean", "text_shape"], ["word"]),
        node("Cast", ["word"], ["typed_word"], to=kind),
        node("Add", ["embedded", "typed_word"], ["x"]),
        node("MatMul", ["x", "qkv.weight.T"], ["qkv_product"], "qkv"),
        node("Add", ["qkv_product", "qkv.bias"], ["qkv"]),
        node("Split", ["qkv"], ["q", "k", "v"], axis=4, num_outputs=3),
        node("Transpose", ["k"], ["k_t"], perm=[0, 1, 2, 4, 3]),
        node("MatMul", ["q", "k_t"], ["scores"], "scores"),
        node("Softmax", ["scores"], ["shares"]),
        node("MatMul", ["shares", "v"], ["mixed"], "mixed"),
        node("MatMul", ["mixed", "proj.weight.T"], ["projected"], "proj"),
        node("Add", ["x", "projected"], ["y"]),
        node("MatMul", ["y", "up.weight.T"], ["wide"], "up"),
        node("Gelu", ["wide"], ["bent"]),
        node("MatMul", ["bent", "down.weight.T"], ["narrow"], "down"),
        node("Add", ["y", "narrow"], ["z"]),
        node("MatMul", ["z", "out.weight.T"], ["given"], "out"),
        node("Cast", ["given"], ["plain"], to=TensorProto.FLOAT),
        node("Transpose", ["plain"], ["turned"], perm=[0, 4, 1, 2, 3]),
        node("Mul", ["timesteps", "small"], ["slow"]),
        node("Unsqueeze", ["slow", "time_axes"], ["time"]),
        node("Add", ["turned", "time"], ["velocity"]),
    ]
    return _model(nodes, constants, DENOISER_INPUTS, DENOISER_OUTPUTS)


def decoder_model(dtype: type[np.generic] = np.float16) -> onnx.ModelProto:
    """[batch, 4, 1, 6, 8] and a memory: a memory block and a residual, then colours."""
    rng = np.random.default_rng(2)

    def filters(outputs: int, inputs: int, size: int) -> Weight:
        values = rng.standard_normal((outputs, inputs, size, size)) / np.sqrt(inputs * size**2)
        loud: Weight = (values * np.exp(rng.standard_normal((outputs, 1, 1, 1)) / 2)).astype(dtype)
        return loud

    def bias(outputs: int) -> Weight:
        return (rng.standard_normal(outputs) / 4).astype(dtype)

    constants: Arrays = {
        "widen.weight": filters(WIDTH, CHANNELS, 3),
        "join.weight": filters(WIDTH, 2 * WIDTH, 3),
        "join.bias": bias(WIDTH),
        "middle.weight": filters(WIDTH, WIDTH, 3),
        "middle.bias": bias(WIDTH),
        "last.weight": filters(WIDTH, WIDTH, 3),
        "colours.weight": filters(12, WIDTH, 1),
        "time": np.array([2], np.int64),
        "scales": np.array([1, 1, SPATIAL, SPATIAL], np.float32),
        "shape": np.array([-1, 3, 4, 6 * SPATIAL, 8 * SPATIAL], np.int64),
    }
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    node = helper.make_node
    pads = [1, 1, 1, 1]
    nodes = [
        node("Squeeze", ["latents", "time"], ["flat"]),
        node("Cast", ["flat"], ["typed"], to=kind),
        node("Conv", ["typed", "widen.weight"], ["next_state_0"], "widen", pads=pads),
        node("Concat", ["next_state_0", "state_0"], ["both"], axis=1),
        node("Conv", ["both", "join.weight", "join.bias"], ["joined"], "join", pads=pads),
        node("Relu", ["joined"], ["joined_up"]),
        node("Conv", ["joined_up", "middle.weight", "middle.bias"], ["bent"], "middle", pads=pads),
        node("Relu", ["bent"], ["bent_up"]),
        node("Conv", ["bent_up", "last.weight"], ["residual"], "last", pads=pads),
        node("Add", ["next_state_0", "residual"], ["whole"]),
        node("Conv", ["whole", "colours.weight"], ["colours"], "colours"),
        node("Cast", ["colours"], ["plain"], to=TensorProto.FLOAT),
        node("Sigmoid", ["plain"], ["light"]),
        node("Resize", ["light", "", "scales"], ["large"], mode="nearest"),
        node("Reshape", ["large", "shape"], ["frames"]),
    ]
    state = _dtype(dtype)
    return _model(nodes, constants, *_decoder_tensors(state))


DENOISER_INPUTS: Final = (
    LATENTS,
    TensorSpec(name="timesteps", dtype="float32", shape=("batch", "frames")),
    STATES,
)
DENOISER_OUTPUTS: Final = (msgspec.structs.replace(LATENTS, name="velocity"),)


def _decoder_tensors(state: str) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    memory = ("batch", WIDTH, 6, 8)
    inputs = (
        TensorSpec(name="latents", dtype="float32", shape=("batch", CHANNELS, 1, 6, 8)),
        TensorSpec(name="state_0", dtype=state, shape=memory),
    )
    outputs = (
        TensorSpec(name="frames", dtype="float32", shape=("batch", 3, 4, 6 * SPATIAL, 8 * SPATIAL)),
        TensorSpec(name="next_state_0", dtype=state, shape=memory),
    )
    return inputs, outputs


def _denoiser(root: Path, dtype: type[np.generic]) -> GraphSpec:
    file, sha256 = _saved(root, "denoiser", denoiser_model(dtype), dtype)
    return GraphSpec(
        role="denoiser",
        file=file,
        sha256=sha256,
        precision=_precision(dtype),
        made_from=_made_from(dtype),
        inputs=DENOISER_INPUTS,
        outputs=DENOISER_OUTPUTS,
    )


def _decoder(root: Path, dtype: type[np.generic]) -> GraphSpec:
    file, sha256 = _saved(root, "vae_decoder", decoder_model(dtype), dtype)
    inputs, outputs = _decoder_tensors(_dtype(dtype))
    return GraphSpec(
        role="vae_decoder",
        file=file,
        sha256=sha256,
        precision=_precision(dtype),
        made_from=_made_from(dtype),
        inputs=inputs,
        outputs=outputs,
        states=(StatePair(input="state_0", output="next_state_0"),),
    )


def _saved(
    root: Path, role: str, model: onnx.ModelProto, dtype: type[np.generic]
) -> tuple[str, str]:
    file = f"{role}.onnx" if dtype is np.float32 else f"{role}.fp16.onnx"
    onnx.save(model, root / file)
    return file, sha256_file(root / file)


def _dtype(dtype: type[np.generic]) -> str:
    return np.dtype(dtype).name


def _precision(dtype: type[np.generic]) -> str:
    return "fp16" if dtype is np.float16 else "float32"


def _made_from(dtype: type[np.generic]) -> str:
    return "b" * 64 if dtype is np.float16 else ""


def _model(
    nodes: list[onnx.NodeProto],
    constants: Arrays,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [_value(tensor) for tensor in inputs],
        [_value(tensor) for tensor in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    onnx.checker.check_model(model, full_check=True)
    return model


def _value(tensor: TensorSpec) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
    return helper.make_tensor_value_info(tensor.name, kind, list(tensor.shape))
