"""A bundle of real ONNX graphs whose mathematics is trivial: it draws in milliseconds.

The prompt and the noise both change every pixel, the decoder carries a state from call to call,
and neighbouring frames differ, so that whatever loses, repeats or mixes up a frame shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import onnx
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from animatic.bundle import (
    SCHEMA_VERSION,
    Axis,
    Bundle,
    Conditioning,
    DecoderRole,
    FileRef,
    Geometry,
    GraphSpec,
    LatentStats,
    LicenceNote,
    Provenance,
    Role,
    SamplerSpec,
    Schedule,
    Size,
    StatePair,
    TensorSpec,
    TextSpec,
    Tier,
)
from animatic.store import open_bundle, sha256_file, write_bundle

if TYPE_CHECKING:
    from pathlib import Path

OPSET: Final = 20
CHANNELS: Final = 4
SPATIAL: Final = 8  # pixels per latent cell
TEMPORAL: Final = 4  # frames per latent frame
TEXT_WIDTH: Final = 384
SIZES: Final = ((64, 48), (32, 16))  # width, height
FRAME_COUNTS: Final = (9, 5, 8001)
NATIVE_FPS: Final = "8/1"
GFLOP_PER_CLIP: Final = 0.001

TOKENS: Final = TensorSpec(name="input_ids", dtype="int64", shape=("batch", "tokens"))
MASK: Final = TensorSpec(name="attention_mask", dtype="int64", shape=("batch", "tokens"))
STATES: Final = TensorSpec(
    name="text_states", dtype="float32", shape=("batch", "tokens", TEXT_WIDTH)
)
LATENT_AXES: Final = ("batch", CHANNELS, "frames", "rows", "columns")
STATE_AXES: Final = ("batch", 1, "rows", "columns")


def write_tiny_bundle(root: Path) -> Path:
    """Write the whole bundle into ``root`` and give it back."""
    root.mkdir(parents=True)
    (root / "licence.txt").write_text("This model is under Apache-2.0.\n", "utf-8")
    alphabet = sorted(ByteLevel.alphabet())
    tokenizer = Tokenizer(BPE(vocab={sign: i for i, sign in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.save(str(root / "tokenizer.json"))
    graphs = (_text_encoder(root), _denoiser(root), _decoder(root, "vae_decoder", contrast=0.3))
    write_bundle(root, _bundle(root, graphs))
    return root


def write_choosy_bundle(root: Path) -> Path:
    """Write the same with all that a shot may choose: steps, guidance, tiers and two decoders."""
    bundle = open_bundle(write_tiny_bundle(root)).bundle
    sampler = SamplerSpec(
        kind="unipc",
        sigmas=(0.999999, 0.75, 0.5, 0.25),
        timesteps=(999.0, 750.0, 500.0, 250.0),
        schedules=(Schedule(sigmas=(1.0, 0.5)),),
        guidance=4.0,
        negative_prompt="blurred",
    )
    tiers = (
        Tier(name="preview", size=bundle.geometry.sizes[1], steps=2, decoder="tiny_decoder"),
        Tier(name="final", size=bundle.geometry.sizes[0]),
    )
    graphs = (*bundle.graphs, _decoder(root, "tiny_decoder", contrast=0.2))
    write_bundle(root, replace(bundle, sampler=sampler, tiers=tiers, graphs=graphs))
    return root


def write_causal_bundle(root: Path) -> Path:
    """Write the same as a model that joins blocks of 9 frames and 12 more, by a state it keeps."""
    bundle = open_bundle(write_tiny_bundle(root)).bundle
    write_bundle(
        root,
        replace(
            bundle,
            geometry=replace(bundle.geometry, frame_counts=(9,), block_latent_frames=3),
            conditioning=Conditioning(text=True, keyframes=False, context=True),
            sampler=SamplerSpec(kind="renoise", sigmas=(1.0, 0.5), context_timestep=0.0),
            graphs=(bundle.graphs[0], _causal_denoiser(root), bundle.graphs[2]),
        ),
    )
    return root


def _bundle(root: Path, graphs: tuple[GraphSpec, ...]) -> Bundle:
    return Bundle(
        schema_version=SCHEMA_VERSION,
        name="tiny",
        family="tiny",
        version="1",
        licence="Apache-2.0",
        description="Trivial mathematics for tests.",
        provenance=Provenance(
            source="tests/runtime/tiny_bundle.py",
            source_sha256="0" * 64,
            licence="Apache-2.0",
            created="2025-01-01T00:00:00Z",
            command="pytest",
            versions={"onnx": onnx.__version__},
        ),
        geometry=Geometry(
            spatial_factor=SPATIAL,
            temporal_factor=TEMPORAL,
            latent_channels=CHANNELS,
            sizes=tuple(Size(width=width, height=height) for width, height in SIZES),
            frame_counts=FRAME_COUNTS,
            block_latent_frames=1 + (max(FRAME_COUNTS) - 1) // TEMPORAL,
            native_fps=NATIVE_FPS,
            decoder_trim=TEMPORAL - 1,
        ),
        latents=LatentStats(mean=(0.1, -0.1, 0.0, 0.2), std=(1.0, 0.9, 1.1, 1.0)),
        conditioning=Conditioning(text=True, keyframes=False, context=False),
        text=TextSpec(
            tokenizer=FileRef(file="tokenizer.json", sha256=sha256_file(root / "tokenizer.json")),
            max_tokens=16,
            pad_to_max=True,
        ),
        sampler=SamplerSpec(kind="renoise", sigmas=(1.0, 0.5)),
        graphs=graphs,
        licences=(LicenceNote(component="tiny", spdx="Apache-2.0", file="licence.txt"),),
        scores={"gflop_per_clip": GFLOP_PER_CLIP},
    )


def _text_encoder(root: Path) -> GraphSpec:
    """Each token's id, scaled to about 1, as a state of 384 equal numbers; 0 for padding."""
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["kept"]),
        helper.make_node("Cast", ["kept"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["real", "scale"], ["scaled"]),
        helper.make_node("Unsqueeze", ["scaled", "last"], ["column"]),
        helper.make_node("Tile", ["column", "repeats"], ["text_states"]),
    ]
    constants: dict[str, np.ndarray] = {
        "scale": np.array(128, np.float32),
        "last": np.array([2], np.int64),
        "repeats": np.array([1, 1, TEXT_WIDTH], np.int64),
    }
    return _save(root, "text_encoder", nodes, constants, (TOKENS, MASK), (STATES,))


def _denoiser(root: Path) -> GraphSpec:
    """velocity = latents / 2 + mean(text) + timestep / 4000."""
    nodes, constants = _velocity("velocity")
    inputs, outputs = _denoiser_tensors()
    return _save(root, "denoiser", nodes, constants, inputs, outputs)


def _causal_denoiser(root: Path) -> GraphSpec:
    """The same, less half of what it saw last, each cell's mean, and drifting with the position."""
    nodes, constants = _velocity("alone")
    nodes += [
        helper.make_node("ReduceMean", ["latents", "all_but_cells"], ["seen"], keepdims=0),
        helper.make_node("Unsqueeze", ["seen", "channel"], ["next_state_0"]),
        helper.make_node("Unsqueeze", ["state_0", "channel"], ["seen_before"]),
        helper.make_node("Mul", ["seen_before", "half"], ["remembered"]),
        helper.make_node("Sub", ["alone", "remembered"], ["causal"]),
        helper.make_node("Cast", ["position"], ["place"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["place", "slow_drift"], ["drift"]),
        helper.make_node("Add", ["causal", "drift"], ["velocity"]),
    ]
    constants |= {
        "all_but_cells": np.array([1, 2], np.int64),
        "channel": np.array([1], np.int64),
        "slow_drift": np.array(1 / 64, np.float32),
    }
    inputs, outputs = _denoiser_tensors()
    inputs += (
        TensorSpec(name="position", dtype="int64", shape=(1,)),
        TensorSpec(name="state_0", dtype="float32", shape=STATE_AXES),
    )
    outputs += (TensorSpec(name="next_state_0", dtype="float32", shape=STATE_AXES),)
    states = (StatePair(input="state_0", output="next_state_0"),)
    return _save(root, "denoiser", nodes, constants, inputs, outputs, states)


def _velocity(name: str) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    nodes = [
        helper.make_node("Mul", ["latents", "half"], ["shrunk"]),
        helper.make_node("ReduceMean", ["text_states", "text_axes"], ["text"], keepdims=1),
        helper.make_node("Reshape", ["text", "scalar_shape"], ["text_5d"]),
        helper.make_node("Add", ["shrunk", "text_5d"], ["worded"]),
        helper.make_node("Mul", ["timesteps", "small"], ["slow"]),
        helper.make_node("Unsqueeze", ["slow", "time_axes"], ["time"]),
        helper.make_node("Add", ["worded", "time"], [name]),
    ]
    constants: dict[str, np.ndarray] = {
        "half": np.array(0.5, np.float32),
        "small": np.array(1 / 4000, np.float32),
        "text_axes": np.array([1, 2], np.int64),
        "scalar_shape": np.array([-1, 1, 1, 1, 1], np.int64),
        "time_axes": np.array([1, 3, 4], np.int64),
    }
    return nodes, constants


def _denoiser_tensors() -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    inputs = (
        TensorSpec(name="latents", dtype="float32", shape=LATENT_AXES),
        TensorSpec(name="timesteps", dtype="float32", shape=("batch", "frames")),
        STATES,
    )
    return inputs, (TensorSpec(name="velocity", dtype="float32", shape=LATENT_AXES),)


def _decoder(root: Path, role: DecoderRole, *, contrast: float) -> GraphSpec:
    """Three channels as colours, eight times as large, drifting over the frames and the calls."""
    nodes = [
        helper.make_node("Slice", ["latents", "first", "third", "channel"], ["three"]),
        helper.make_node("Squeeze", ["three", "time"], ["flat"]),
        helper.make_node("Resize", ["flat", "", "scales"], ["large"], mode="nearest"),
        helper.make_node("Sigmoid", ["large"], ["light"]),
        helper.make_node("Unsqueeze", ["light", "time"], ["one"]),
        helper.make_node("Mul", ["one", "contrast"], ["soft"]),
        helper.make_node("Add", ["soft", "ramp"], ["four"]),
        helper.make_node("ReduceMean", ["state_0"], ["drift"], keepdims=0),
        helper.make_node("Sin", ["drift"], ["swing"]),
        helper.make_node("Mul", ["swing", "contrast"], ["soft_swing"]),
        helper.make_node("Add", ["four", "soft_swing"], ["swung"]),
        helper.make_node("Clip", ["swung", "zero", "one_value"], ["frames"]),
        helper.make_node("Add", ["state_0", "one_value"], ["next_state_0"]),
    ]
    constants: dict[str, np.ndarray] = {
        "first": np.array([0], np.int64),
        "third": np.array([3], np.int64),
        "channel": np.array([1], np.int64),
        "time": np.array([2], np.int64),
        "scales": np.array([1, 1, SPATIAL, SPATIAL], np.float32),
        "contrast": np.array(contrast, np.float32),
        "ramp": (0.3 + np.arange(TEMPORAL) * 0.02).astype(np.float32).reshape(1, 1, TEMPORAL, 1, 1),
        "zero": np.array(0, np.float32),
        "one_value": np.array(1, np.float32),
    }
    inputs = (
        TensorSpec(
            name="latents", dtype="float32", shape=("batch", CHANNELS, 1, "rows", "columns")
        ),
        TensorSpec(name="state_0", dtype="float32", shape=STATE_AXES),
    )
    outputs = (
        TensorSpec(name="frames", dtype="float32", shape=("batch", 3, TEMPORAL, "height", "width")),
        TensorSpec(name="next_state_0", dtype="float32", shape=STATE_AXES),
    )
    states = (StatePair(input="state_0", output="next_state_0"),)
    return _save(root, role, nodes, constants, inputs, outputs, states)


def _save(
    root: Path,
    role: Role,
    nodes: list[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    states: tuple[StatePair, ...] = (),
) -> GraphSpec:
    graph = helper.make_graph(
        nodes,
        role,
        [_value(tensor) for tensor in inputs],
        [_value(tensor) for tensor in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 9  # older than the newest, so that every supported ONNX Runtime reads it
    onnx.checker.check_model(model, full_check=True)
    file = f"{role}.onnx"
    onnx.save(model, root / file)
    return GraphSpec(
        role=role,
        file=file,
        sha256=sha256_file(root / file),
        precision="float32",
        inputs=inputs,
        outputs=outputs,
        states=states,
    )


def _value(tensor: TensorSpec) -> onnx.ValueInfoProto:
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    shape: list[Axis] = list(tensor.shape)
    return helper.make_tensor_value_info(tensor.name, kinds[tensor.dtype], shape)
