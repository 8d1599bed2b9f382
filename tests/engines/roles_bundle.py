"""A bundle with every kind of graph that a photoreal model has, each of a few nodes.

A costly text encoder in bfloat16 alone; a denoiser with its weights in external data, padded text,
the block's position and a ring of what it keeps; a VAE decoder of a whole clip with a convolution
in three dimensions; a tiny decoder that streams.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import ml_dtypes
import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from animatic.bundle import FileRef, GraphSpec, Role, StatePair, TensorSpec
from animatic.store import open_bundle, sha256_file, write_bundle
from tests.runtime.tiny_bundle import CHANNELS, SPATIAL, TEMPORAL, write_tiny_bundle

if TYPE_CHECKING:
    from pathlib import Path

WIDTH: Final = 64
WORDS: Final = 256
STATES_LENGTH: Final = 32
WINDOW: Final = 6
BLOCK: Final = 3
PIXELS: Final = 3 * TEMPORAL * SPATIAL * SPATIAL

_KINDS: Final = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int64": TensorProto.INT64,
}


def write_roles_bundle(root: Path) -> Path:
    """Write the bundle into ``root`` and give it back."""
    write_tiny_bundle(root)
    bundle = open_bundle(root).bundle
    typed = (_text_encoder(root), _denoiser(root), _vae_decoder(root), _tiny_decoder(root))
    # The references, which nothing here runs, but for whose roles there is none.
    tiny = msgspec.structs.replace(bundle.graph("vae_decoder"), role="tiny_decoder")
    write_bundle(
        root,
        msgspec.structs.replace(
            bundle,
            geometry=msgspec.structs.replace(
                bundle.geometry, frame_counts=(9,), block_latent_frames=BLOCK
            ),
            text=msgspec.structs.replace(
                bundle.text, costly=True, pad_to_max=False, states_length=STATES_LENGTH
            ),
            graphs=(*bundle.graphs, tiny, *typed),
        ),
    )
    return root


def shape_deciding_graph(root: Path) -> GraphSpec:
    """A denoiser that takes a slice of its ring from the position on: no engine can."""
    graph = _Graph()
    graph.constant("block", np.array([BLOCK], np.int64))
    graph.constant("axis", np.array([1], np.int64))
    graph.add("Add", ["position", "block"], "end")
    graph.add("Slice", ["state_0", "position", "end", "axis"], "velocity")
    graph.add("Identity", ["state_0"], "next_state_0")
    ring = ("batch", WINDOW, "rows", "columns")
    return graph.save(
        root,
        "denoiser",
        "fp16",
        (_tensor("position", "int64", 1), _tensor("state_0", "float16", *ring)),
        (
            _tensor("velocity", "float16", "batch", "frames", "rows", "columns"),
            _tensor("next_state_0", "float16", *ring),
        ),
        (StatePair(input="state_0", output="next_state_0"),),
    )


def _text_encoder(root: Path) -> GraphSpec:
    graph = _Graph()
    graph.weights("embedding", (WORDS, WIDTH), ml_dtypes.bfloat16)
    graph.weights("matrix", (WIDTH, WIDTH), ml_dtypes.bfloat16)
    graph.constant("last", np.array([2], np.int64))
    graph.add("Gather", ["embedding", "input_ids"], "words")
    graph.add("MatMul", ["words", "matrix"], "read")
    graph.add("Cast", ["read"], "wide", to=TensorProto.FLOAT)
    graph.add("Unsqueeze", ["attention_mask", "last"], "column")
    graph.add("Cast", ["column"], "counts", to=TensorProto.FLOAT)
    graph.add("Mul", ["wide", "counts"], "text_states")
    tokens = [_tensor(n, "int64", "batch", "tokens") for n in ("input_ids", "attention_mask")]
    return graph.save(
        root,
        "text_encoder",
        "bf16",
        tuple(tokens),
        (_tensor("text_states", "float32", "batch", "tokens", WIDTH),),
    )


def _denoiser(root: Path) -> GraphSpec:
    """Each cell attends to the words, and the block's frames take their slots of the ring."""
    graph = _Graph()
    for name in ("q", "k", "v"):
        graph.weights(name, (CHANNELS if name == "q" else WIDTH, WIDTH), np.float16)
    graph.weights("out", (WIDTH, CHANNELS), np.float16)
    graph.constant("cells", np.array([0, -1, CHANNELS], np.int64))
    graph.constant("slots", np.arange(WINDOW, dtype=np.int64))
    graph.constant("window", np.array(WINDOW, np.int64))
    graph.constant("first", np.array(0, np.int64))
    graph.constant("final", np.array(BLOCK - 1, np.int64))
    graph.constant("block", np.array(BLOCK, np.int64))
    graph.constant("cell_axes", np.array([1, 2], np.int64))
    graph.constant("channel", np.array([1], np.int64))
    graph.add("Shape", ["latents"], "shape", start=0)
    graph.add("Cast", ["latents"], "half", to=TensorProto.FLOAT16)
    graph.add("Transpose", ["half"], "channels_last", perm=[0, 2, 3, 4, 1])
    graph.add("Shape", ["channels_last"], "last_shape", start=0)
    graph.add("Reshape", ["channels_last", "cells"], "tokens")
    graph.add("MatMul", ["tokens", "q"], "queries")
    graph.add("Cast", ["text_states"], "text", to=TensorProto.FLOAT16)
    graph.add("MatMul", ["text", "k"], "keys")
    graph.add("MatMul", ["text", "v"], "values")
    graph.add("Transpose", ["keys"], "keys_t", perm=[0, 2, 1])
    graph.add("MatMul", ["queries", "keys_t"], "scores")
    graph.add("Softmax", ["scores"], "softmax", axis=-1)
    graph.add("MatMul", ["softmax", "values"], "heard")
    graph.add("MatMul", ["heard", "out"], "drawn")
    graph.add("Reshape", ["drawn", "last_shape"], "grid")
    graph.add("Transpose", ["grid"], "predicted", perm=[0, 4, 1, 2, 3])
    # [batch, frames, rows, columns], the mean of the channels.
    graph.add("ReduceMean", ["predicted", "channel"], "seen", keepdims=0)
    graph.add("Sub", ["slots", "position"], "ahead_of")
    graph.add("Mod", ["ahead_of", "window"], "ahead")
    graph.add("Clip", ["ahead", "first", "final"], "source")
    graph.add("Gather", ["seen", "source"], "spread", axis=1)
    graph.add("Less", ["ahead", "block"], "is_taken")
    graph.add("Unsqueeze", ["is_taken", "cell_axes"], "taken")
    graph.add("Where", ["taken", "spread", "state_0"], "next_state_0")
    graph.add("ReduceMean", ["next_state_0"], "kept", keepdims=0)
    graph.add("Add", ["predicted", "kept"], "remembering")
    graph.add("Cast", ["remembering"], "wide", to=TensorProto.FLOAT)
    graph.add("Unsqueeze", ["timesteps", "time_axes"], "time")
    graph.constant("time_axes", np.array([1, 3, 4], np.int64))
    graph.add("Add", ["wide", "time"], "velocity")
    latents = ("batch", CHANNELS, "frames", "rows", "columns")
    ring = ("batch", WINDOW, "rows", "columns")
    return graph.save(
        root,
        "denoiser",
        "fp16",
        (
            _tensor("latents", "float32", *latents),
            _tensor("timesteps", "float32", "batch", "frames"),
            _tensor("text_states", "float32", "batch", STATES_LENGTH, WIDTH),
            _tensor("position", "int64", 1),
            _tensor("state_0", "float16", *ring),
        ),
        (_tensor("velocity", "float32", *latents), _tensor("next_state_0", "float16", *ring)),
        (StatePair(input="state_0", output="next_state_0"),),
        beside=True,
    )


def _vae_decoder(root: Path) -> GraphSpec:
    graph = _Graph()
    graph.weights("kernel", (PIXELS, CHANNELS, 3, 3, 3), np.float16)
    graph.constant("split", np.array([0, 3, TEMPORAL, SPATIAL, SPATIAL, -1], np.int64))
    graph.add("Cast", ["latents"], "half", to=TensorProto.FLOAT16)
    graph.add("Conv", ["half", "kernel"], "drawn", pads=[1] * 6)
    _unfold(graph, "drawn")
    return graph.save(
        root,
        "vae_decoder",
        "fp16",
        (_tensor("latents", "float32", "batch", CHANNELS, "frames", "rows", "columns"),),
        (_tensor("frames", "float32", "batch", 3, "pictures", "height", "width"),),
    )


def _tiny_decoder(root: Path) -> GraphSpec:
    graph = _Graph()
    graph.weights("kernel", (PIXELS, CHANNELS, 1, 1, 1), np.float16)
    graph.add("Cast", ["latents"], "half", to=TensorProto.FLOAT16)
    graph.add("Conv", ["half", "kernel"], "drawn")
    _unfold(graph, "drawn")
    return graph.save(
        root,
        "tiny_decoder",
        "fp16",
        (_tensor("latents", "float32", "batch", CHANNELS, 1, "rows", "columns"),),
        (_tensor("frames", "float32", "batch", 3, TEMPORAL, "height", "width"),),
    )


def _unfold(graph: _Graph, source: str) -> None:
    """From [batch, 3 t s s, frames, rows, columns] to [batch, 3, frames t, rows s, columns s]."""
    graph.add("Shape", [source], "grid", start=2)
    graph.constant("cell", np.array([TEMPORAL, SPATIAL, SPATIAL], np.int64))
    graph.constant("head", np.array([-1, 3, TEMPORAL, SPATIAL, SPATIAL], np.int64))
    graph.constant("colours", np.array([-1, 3], np.int64))
    graph.add("Concat", ["head", "grid"], "apart", axis=0)
    graph.add("Reshape", [source, "apart"], "cells")
    graph.add("Transpose", ["cells"], "woven", perm=[0, 1, 5, 2, 6, 3, 7, 4])
    graph.add("Mul", ["grid", "cell"], "size")
    graph.add("Concat", ["colours", "size"], "together", axis=0)
    graph.add("Reshape", ["woven", "together"], "picture")
    graph.add("Sigmoid", ["picture"], "light")
    graph.add("Cast", ["light"], "frames", to=TensorProto.FLOAT)


def _tensor(name: str, dtype: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


class _Graph:
    """Nodes named for what they give."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self._nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))

    def constant(self, name: str, array: np.ndarray) -> None:
        self._constants.append(numpy_helper.from_array(array, name))

    def weights(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        self.constant(name, (self._random.standard_normal(shape) / 8).astype(dtype))

    def save(
        self,
        root: Path,
        role: Role,
        precision: str,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        states: tuple[StatePair, ...] = (),
        *,
        beside: bool = False,
    ) -> GraphSpec:
        """Write the file, and one more for its weights if they are to lie beside it."""
        graph = helper.make_graph(
            self._nodes, role, _values(inputs), _values(outputs), self._constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        file = f"{role}.{precision}.onnx"
        data = f"{file}.data"
        if beside:
            onnx.save(
                model, root / file, save_as_external_data=True, location=data, size_threshold=64
            )
        else:
            onnx.save(model, root / file)
        weights = FileRef(file=data, sha256=sha256_file(root / data)) if beside else None
        return GraphSpec(
            role=role,
            file=file,
            sha256=sha256_file(root / file),
            precision=precision,
            inputs=inputs,
            outputs=outputs,
            states=states,
            external_data=() if weights is None else (weights,),
        )


def _values(tensors: tuple[TensorSpec, ...]) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(t.name, _KINDS[t.dtype], list(t.shape)) for t in tensors]
