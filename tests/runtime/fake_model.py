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
    SCHEMA_VERSION,
    AxisRange,
    Bundle,
    Conditioning,
    EngineEntry,
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
    decode_bundle,
    encode_bundle,
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
TINY_DECODER: Final = msgspec.structs.replace(
    VAE_DECODER, role="tiny_decoder", file="tiny_decoder.onnx"
)
LOOK_AHEAD: Final = msgspec.structs.replace(
    VAE_DECODER,
    inputs=(tensor("latents", "float32", "batch", CHANNELS, "frames", "rows", "columns"),),
    outputs=(tensor("frames", "float32", "batch", 3, "pictures", "height", "width"),),
    states=(),
)
POSITIONED: Final = msgspec.structs.replace(
    DENOISER, inputs=(*DENOISER.inputs, tensor("position", "int64", 1))
)
CONTEXT: Final = Conditioning(text=True, keyframes=False, context=True)


def fake_bundle(**changes: Any) -> Bundle:
    """The bundle, with some of its fields replaced."""
    bundle = Bundle(
        schema_version=SCHEMA_VERSION,
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


def an_engine() -> EngineEntry:
    return EngineEntry(
        role="denoiser",
        precision=DENOISER.precision,
        target="gpu",
        backend="none",
        backend_version="1",
        profile=(AxisRange(axis="tokens", minimum=1, optimum=2, maximum=3),),
        flags={},
        file="engines/gpu/denoiser.plan",
        sha256=ZEROS,
        fingerprint=ZEROS,
        sidecar=FileRef(file="engines/gpu/denoiser.json", sha256=ZEROS),
    )


class WordTokenizer:
    """A number for every word; never the same for two of them in these tests."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def encode(self, prompt: str, name: str = "prompt") -> Tokens:
        self.names.append(name)
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
        self.texts: list[npt.NDArray[np.float32]] = []
        self.velocities: list[npt.NDArray[np.float32]] = []
        self.positions: list[int] = []
        self.raw: list[npt.NDArray[np.float32]] = []

    def text_encoder(self, inputs: Tensors) -> Tensors:
        self.calls.append("text_encoder")
        ids = inputs["input_ids"]
        states = np.repeat(ids[..., None], 384, axis=2).astype(np.float32) / 1000
        return {"text_states": states}

    def denoiser(self, inputs: Tensors) -> Tensors:
        """Follow the velocity towards a clip that the prompt and the latents' own noise choose.

        At timestep 0, on clean latents, there is nowhere to go.
        """
        self.calls.append("denoiser")
        x = inputs["latents"]
        self.latents.append(x.copy())
        self.timesteps.append(float(inputs["timesteps"][0, 0]))
        self.texts.append(inputs["text_states"])
        if "position" in inputs:
            self.positions.append(int(inputs["position"][0]))
        sigma = inputs["timesteps"].reshape(1, 1, -1, 1, 1) / 1000
        target = np.tanh(x) * 0.1 + inputs["text_states"].mean()
        toward = (x - target) / np.where(sigma, sigma, np.inf)
        self.velocities.append(toward.astype(np.float32))
        return {"velocity": self.velocities[-1]}

    def vae_decoder(self, inputs: Tensors) -> Tensors:
        """A grey that is the first channel, brighter by a level for every call since a reset."""
        self.calls.append("vae_decoder")
        self.raw.append(inputs["latents"])
        state = inputs["state_0"]
        self.states.append(float(state.max()))
        grey = inputs["latents"][:, :1].repeat(FACTOR, axis=3).repeat(FACTOR, axis=4)
        level = grey / 8 + 0.25 + state.max() / 255
        frames = np.broadcast_to(level, (1, 3, FACTOR, *level.shape[3:])).astype(np.float32)
        # Each of the frames of one call differs from the others.
        rising = np.arange(FACTOR, dtype=np.float32).reshape(1, 1, -1, 1, 1) / 64
        return {"frames": frames + rising, "next_state_0": state + 1}

    def tiny_decoder(self, inputs: Tensors) -> Tensors:
        """All that the vae_decoder gives, and darker."""
        outputs = self.vae_decoder(inputs)
        self.calls[-1] = "tiny_decoder"
        return {**outputs, "frames": outputs["frames"] - np.float32(0.125)}

    def look_ahead(self, inputs: Tensors) -> Tensors:
        """What the vae_decoder gives of each latent frame, without counting, and all at once."""
        self.calls.append("vae_decoder")
        self.raw.append(inputs["latents"])
        level = inputs["latents"][:, :1].repeat(FACTOR, axis=3).repeat(FACTOR, axis=4) / 8 + 0.25
        frames = np.broadcast_to(level.repeat(FACTOR, axis=2), (1, 3, *_unfolded(level)))
        return {"frames": np.ascontiguousarray(frames, dtype=np.float32)}

    def engines(self, bundle: Bundle) -> dict[Role, Engine]:
        decoder = bundle.graph("vae_decoder")
        decode = self.vae_decoder if decoder.states else self.look_ahead
        engines: dict[Role, Engine] = {
            "text_encoder": FakeEngine(bundle.graph("text_encoder"), self.text_encoder),
            "denoiser": FakeEngine(bundle.graph("denoiser"), self.denoiser),
            "vae_decoder": FakeEngine(decoder, decode),
        }
        if any(graph.role == "tiny_decoder" for graph in bundle.graphs):
            engines["tiny_decoder"] = FakeEngine(bundle.graph("tiny_decoder"), self.tiny_decoder)
        return engines

    def pipeline(self, bundle: Bundle | None = None) -> Pipeline:
        """Chain the fakes on a bundle that both doors would let through."""
        bundle = decode_bundle(encode_bundle(bundle or fake_bundle()))
        opened = OpenBundle(Path("nowhere"), bundle, ZEROS)
        return Pipeline(opened, WordTokenizer(), self.engines(bundle))


def _unfolded(level: npt.NDArray[Any]) -> tuple[int, ...]:
    """Frames, height and width of latents that are already as large as the picture."""
    return (level.shape[2] * FACTOR, *level.shape[3:])
