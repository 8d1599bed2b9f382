"""A model small enough to be checked by hand, on FakeEngines: clips of 9 frames of 16x8 pixels.

Its denoiser knows the one clip that a prompt means and gives the exact velocity towards it; its
decoder counts its own calls in a state pair.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from animatic.bundle import (
    Bundle,
    Conditioning,
    FileRef,
    Geometry,
    GraphSpec,
    LatentStats,
    Provenance,
    Role,
    SamplerSpec,
    Size,
    StatePair,
    TensorSpec,
    TextSpec,
)
from animatic.engine import Engine, FakeEngine
from animatic.pipeline import Pipeline
from animatic.store import OpenBundle
from animatic.tokenizer import Tokens

if TYPE_CHECKING:
    import numpy.typing as npt

    Tensors = dict[str, npt.NDArray[Any]]

ZEROS: Final = "0" * 64
CHANNELS: Final = 2
FACTOR: Final = 4  # spatial and temporal
SIGMAS: Final = (1.0, 0.9375, 0.75, 0.5)
MEAN: Final = (0.5, -0.25)
STD: Final = (2.0, 0.5)


def tensor(name: str, dtype: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name=name, dtype=dtype, shape=shape)


TEXT_ENCODER: Final = GraphSpec(
    role="text_encoder",
    file="text_encoder.onnx",
    sha256=ZEROS,
    precision="float32",
    inputs=(
        tensor("input_ids", "int64", "batch", "tokens"),
        tensor("attention_mask", "int64", "batch", "tokens"),
    ),
    outputs=(tensor("text_states", "float32", "batch", "tokens", 384),),
)
DENOISER: Final = GraphSpec(
    role="denoiser",
    file="denoiser.onnx",
    sha256=ZEROS,
    precision="float32",
    inputs=(
        tensor("latents", "float32", "batch", CHANNELS, "frames", "rows", "columns"),
        tensor("timesteps", "float32", "batch", "frames"),
        tensor("text_states", "float32", "batch", "tokens", 384),
    ),
    outputs=(tensor("velocity", "float32", "batch", CHANNELS, "frames", "rows", "columns"),),
)
VAE_DECODER: Final = GraphSpec(
    role="vae_decoder",
    file="vae_decoder.onnx",
    sha256=ZEROS,
    precision="float32",
    inputs=(
        tensor("latents", "float32", "batch", CHANNELS, 1, "rows", "columns"),
        tensor("state_0", "float32", "batch", 1, "rows", "columns"),
    ),
    outputs=(
        tensor("frames", "float32", "batch", 3, FACTOR, "height", "width"),
        tensor("next_state_0", "float32", "batch", 1, "rows", "columns"),
    ),
    states=(StatePair(input="state_0", output="next_state_0"),),
)


def fake_bundle(**changes: Any) -> Bundle:
    """The bundle, with some of its fields replaced."""
    bundle = Bundle(
        schema_version=1,
        name="tiny",
        family="tiny",
        version="1",
        licence="Apache-2.0",
        description="A model for tests.",
        provenance=Provenance(
            source="nowhere",
            source_sha256=ZEROS,
            licence="Apache-2.0",
            created="2025-01-01T00:00:00Z",
            command="none",
            versions={"numpy": "2"},
        ),
        geometry=Geometry(
            spatial_factor=FACTOR,
            temporal_factor=FACTOR,
            latent_channels=CHANNELS,
            sizes=(Size(width=16, height=8), Size(width=24, height=16)),
            frame_counts=(9, 5),
            block_latent_frames=3,
            native_fps="8/1",
            decoder_trim=FACTOR - 1,
        ),
        latents=LatentStats(mean=MEAN, std=STD),
        conditioning=Conditioning(text=True, keyframes=False, context=False),
        text=TextSpec(
            tokenizer=FileRef(file="tokenizer.json", sha256=ZEROS), max_tokens=8, pad_to_max=True
        ),
        sampler=SamplerSpec(kind="renoise", sigmas=SIGMAS),
        graphs=(TEXT_ENCODER, DENOISER, VAE_DECODER),
    )
    return msgspec.structs.replace(bundle, **changes)


class WordTokenizer:
    """A number for every word; never the same for two of them in these tests."""

    def encode(self, prompt: str) -> Tokens:
        ids = [zlib.crc32(word.encode()) % 1000 for word in prompt.split()]
        array = np.array([ids], dtype=np.int64)
        return Tokens(array, np.ones_like(array))


class FakeModel:
    """The three functions, and what they were called with."""

    def __init__(self) -> None:
        self.calls: list[Role] = []
        self.timesteps: list[float] = []
        self.latents: list[npt.NDArray[np.float32]] = []
        self.states: list[float] = []
        self.masks: list[npt.NDArray[np.int64]] = []

    def text_encoder(self, inputs: Tensors) -> Tensors:
        self.calls.append("text_encoder")
        ids = inputs["input_ids"]
        states = np.repeat(ids[..., None], 384, axis=2).astype(np.float32) / 1000
        return {"text_states": states}

    def denoiser(self, inputs: Tensors) -> Tensors:
        """Follow the velocity towards a clip that the prompt and the latents' own noise choose."""
        self.calls.append("denoiser")
        x = inputs["latents"]
        self.latents.append(x.copy())
        self.timesteps.append(float(inputs["timesteps"][0, 0]))
        if "text_mask" in inputs:
            self.masks.append(inputs["text_mask"])
        sigma = inputs["timesteps"].reshape(1, 1, -1, 1, 1) / 1000
        target = np.tanh(x) * 0.1 + inputs["text_states"].mean()
        return {"velocity": ((x - target) / sigma).astype(np.float32)}

    def vae_decoder(self, inputs: Tensors) -> Tensors:
        """A grey that is the first channel, brighter by a level for every call since a reset."""
        self.calls.append("vae_decoder")
        state = inputs["state_0"]
        self.states.append(float(state.max()))
        grey = inputs["latents"][:, :1].repeat(FACTOR, axis=3).repeat(FACTOR, axis=4)
        level = grey / 8 + 0.25 + state.max() / 255
        frames = np.broadcast_to(level, (1, 3, FACTOR, *level.shape[3:])).astype(np.float32)
        # Each of the frames of one call differs from the others.
        rising = np.arange(FACTOR, dtype=np.float32).reshape(1, 1, -1, 1, 1) / 64
        return {"frames": frames + rising, "next_state_0": state + 1}

    def engines(self, bundle: Bundle) -> dict[Role, Engine]:
        return {
            "text_encoder": FakeEngine(bundle.graph("text_encoder"), self.text_encoder),
            "denoiser": FakeEngine(bundle.graph("denoiser"), self.denoiser),
            "vae_decoder": FakeEngine(bundle.graph("vae_decoder"), self.vae_decoder),
        }

    def pipeline(self, bundle: Bundle | None = None) -> Pipeline:
        bundle = bundle or fake_bundle()
        opened = OpenBundle(Path("nowhere"), bundle, ZEROS)
        return Pipeline(opened, WordTokenizer(), self.engines(bundle))
