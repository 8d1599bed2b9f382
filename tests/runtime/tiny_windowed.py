"""The tiny bundle as a model with windows and an encoder, in real graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from msgspec.structs import replace
from onnx import helper

from animatic.bundle import Conditioning, GraphSpec, SamplerSpec, Schedule, Size, TensorSpec, Tier
from animatic.store import open_bundle, write_bundle
from tests.runtime.tiny_bundle import (
    CHANNELS,
    LATENT_AXES,
    SPATIAL,
    TEMPORAL,
    _denoiser_tensors,
    _save,
    _velocity,
    write_tiny_bundle,
)

if TYPE_CHECKING:
    from pathlib import Path

SIZES: Final = (Size(width=64, height=48), Size(width=48, height=48), Size(width=32, height=64))


def write_windowed_bundle(root: Path) -> Path:
    """Write a bundle of 13, 29 and more frames that can be given pictures and clips."""
    bundle = open_bundle(write_tiny_bundle(root)).bundle
    geometry = replace(
        bundle.geometry,
        sizes=SIZES,
        frame_counts=(13, 29),
        block_latent_frames=4,
        context_latent_frames=2,
    )
    text_encoder, _, decoder = bundle.graphs
    write_bundle(
        root,
        replace(
            bundle,
            geometry=geometry,
            conditioning=Conditioning(text=True, keyframes=True, context=True),
            sampler=SamplerSpec(
                kind="renoise", sigmas=(1.0, 0.5), schedules=(Schedule(sigmas=(1.0,)),)
            ),
            tiers=(Tier(name="preview", size=SIZES[1], steps=1),),
            graphs=(text_encoder, _denoiser(root), decoder, _encoder(root)),
        ),
    )
    return root


def _denoiser(root: Path) -> GraphSpec:
    """The usual velocity, less a share of the mean of all that is seen, weighed by its position."""
    nodes, constants = _velocity("alone")
    nodes += [
        helper.make_node("Unsqueeze", ["positions", "around"], ["place"]),
        helper.make_node("Mul", ["latents", "place"], ["weighed"]),
        helper.make_node("ReduceMean", ["weighed", "frame_axis"], ["seen"], keepdims=1),
        helper.make_node("Mul", ["seen", "share"], ["shared"]),
        helper.make_node("Sub", ["alone", "shared"], ["velocity"]),
    ]
    constants |= {
        "around": np.array([1, 3, 4], np.int64),
        "frame_axis": np.array([2], np.int64),
        "share": np.array(0.125, np.float32),
    }
    inputs, outputs = _denoiser_tensors()
    inputs += (TensorSpec(name="positions", dtype="float32", shape=("batch", "frames")),)
    return _save(root, "denoiser", nodes, constants, inputs, outputs)


def _encoder(root: Path) -> GraphSpec:
    """Red, green, blue and the red of the latent frame before, each cell's mean, from -2 to 2."""
    cell = [TEMPORAL, SPATIAL, SPATIAL]
    nodes = [
        helper.make_node("AveragePool", ["frames"], ["light"], kernel_shape=cell, strides=cell),
        helper.make_node("Sub", ["light", "half"], ["centred"]),
        helper.make_node("Mul", ["centred", "four"], ["colours"]),
        helper.make_node("Slice", ["colours", "zero", "one", "channel"], ["red"]),
        helper.make_node("Pad", ["red", "one_in_front"], ["later"]),
        helper.make_node("Slice", ["later", "zero", "but_the_last", "time"], ["red_before"]),
        helper.make_node("Concat", ["colours", "red_before"], ["latents"], axis=1),
    ]
    constants: dict[str, np.ndarray] = {
        "half": np.array(0.5, np.float32),
        "four": np.array(4, np.float32),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "but_the_last": np.array([-1], np.int64),
        "channel": np.array([1], np.int64),
        "time": np.array([2], np.int64),
        "one_in_front": np.array([0, 0, 1, 0, 0, 0, 0, 0, 0, 0], np.int64),
    }
    assert LATENT_AXES[1] == CHANNELS
    inputs = (
        TensorSpec(
            name="frames", dtype="float32", shape=("batch", 3, "pictures", "height", "width")
        ),
    )
    outputs = (TensorSpec(name="latents", dtype="float32", shape=LATENT_AXES),)
    return _save(root, "vae_encoder", nodes, constants, inputs, outputs)
