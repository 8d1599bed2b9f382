"""The model of `fake_model` with windows: blocks of 4 latent frames, 2 of context, and an encoder.

Every part depends on all that it is given, so that whatever is given wrongly, or not at all, shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
import numpy as np

from animatic.bundle import Bundle, Conditioning, Geometry, GraphSpec, Role, Size
from animatic.engine import Engine, FakeEngine
from tests.runtime.fake_model import (
    CHANNELS,
    DENOISER,
    FACTOR,
    MEAN,
    STD,
    TEXT_ENCODER,
    VAE_DECODER,
    ZEROS,
    FakeModel,
    fake_bundle,
    tensor,
)

if TYPE_CHECKING:
    import numpy.typing as npt

    from animatic.bundle import SamplerSpec
    from animatic.engine.protocol import Tensors

    Floats = npt.NDArray[np.float32]
    Pixels = npt.NDArray[np.uint8]

replace = msgspec.structs.replace
BLOCK: Final = 4
CONTEXT: Final = 2
FIRST: Final = 13  # frames of a shot's first block
FURTHER: Final = 16
WINDOWED: Final = replace(
    DENOISER, inputs=(*DENOISER.inputs, tensor("positions", "float32", "batch", "frames"))
)
VAE_ENCODER: Final = GraphSpec(
    role="vae_encoder",
    file="vae_encoder.onnx",
    sha256=ZEROS,
    precision="float32",
    inputs=(tensor("frames", "float32", "batch", 3, "pictures", "height", "width"),),
    outputs=(tensor("latents", "float32", "batch", CHANNELS, "frames", "rows", "columns"),),
)
GRAPHS: Final = (TEXT_ENCODER, WINDOWED, VAE_DECODER, VAE_ENCODER)
GEOMETRY: Final = Geometry(
    spatial_factor=FACTOR,
    temporal_factor=FACTOR,
    latent_channels=CHANNELS,
    sizes=(Size(width=16, height=8), Size(width=8, height=8), Size(width=8, height=16)),
    frame_counts=(29, FIRST, 5),
    block_latent_frames=BLOCK,
    native_fps="8/1",
    decoder_trim=FACTOR - 1,
    context_latent_frames=CONTEXT,
)
GIVEN: Final = Conditioning(text=True, keyframes=True, context=True)


def windowed_bundle(sampler: SamplerSpec | None = None, **changes: Any) -> Bundle:
    """A bundle that can be given everything, with some of its fields replaced."""
    bundle = fake_bundle(geometry=GEOMETRY, conditioning=GIVEN, graphs=GRAPHS)
    return replace(bundle, **{**({"sampler": sampler} if sampler else {}), **changes})


class Call(NamedTuple):
    """What the denoiser was given: [1, C, frames, rows, columns], and a number for every frame."""

    latents: Floats
    timesteps: list[float]
    positions: list[float]


class WindowedModel(FakeModel):
    """Its denoiser leads towards half of the mean of what is given, and nonsense where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.windows: list[Call] = []
        self.encoded: list[Floats] = []

    def denoiser(self, inputs: Tensors) -> Tensors:
        self.calls.append("denoiser")
        x, times = inputs["latents"], inputs["timesteps"][0]
        self.windows.append(Call(x.copy(), times.tolist(), inputs["positions"][0].tolist()))
        given, made = times == 0, times != 0
        target = np.tanh(x) * 0.1 + inputs["text_states"].mean()
        if given.any():
            seen = x * inputs["positions"].reshape(1, 1, -1, 1, 1) / 8
            target = target + 0.5 * seen[:, :, given].mean(axis=2, keepdims=True)
        velocity = np.full_like(x, 1e6)
        sigma = (times / 1000).reshape(1, 1, -1, 1, 1)
        velocity[:, :, made] = ((x - target)[:, :, made] / sigma[:, :, made]).astype(np.float32)
        return {"velocity": velocity}

    def vae_encoder(self, inputs: Tensors) -> Tensors:
        self.calls.append("vae_encoder")
        self.encoded.append(inputs["frames"])
        return {"latents": raw_latents(inputs["frames"])}

    def engines(self, bundle: Bundle) -> dict[Role, Engine]:
        engines = super().engines(bundle)
        if any(graph.role == "vae_encoder" for graph in bundle.graphs):
            encoder = bundle.graph("vae_encoder")
            engines["vae_encoder"] = FakeEngine(encoder, self.vae_encoder)
        return engines

    def forget(self) -> None:
        """Drop all that was noted of the calls so far."""
        for notes in vars(self).values():
            notes.clear()


def raw_latents(frames: Floats) -> Floats:
    """Each latent frame: the light of its pictures and some of those before; and how it changes.

    frames: float32 [1, 3, pictures, height, width] in [0, 1].
    """
    batch, _, count, height, width = frames.shape
    cells = frames.mean(axis=1).reshape(
        batch, count // FACTOR, FACTOR, height // FACTOR, FACTOR, width // FACTOR, FACTOR
    )
    light = cells.mean(axis=(4, 6))  # [batch, latent frames, pictures of each, rows, columns]
    mean = light.mean(axis=2)
    before = np.pad(mean, [(0, 0), (1, 0), (0, 0), (0, 0)])[:, :-1]
    change = light[:, :, -1] - light[:, :, 0]
    return np.stack([mean + 0.25 * before, change], axis=1).astype(np.float32)


def latents_of(pictures: Pixels) -> Floats:
    """What the model itself calls those pictures: float32 [1, channels, frames, rows, columns]."""
    light = pictures.transpose(3, 0, 1, 2)[np.newaxis].astype(np.float32) / np.float32(255)
    mean, std = (np.array(v, np.float32).reshape(1, -1, 1, 1, 1) for v in (MEAN, STD))
    made: Floats = (raw_latents(light) - mean) / std
    return made


def some_clip(frames: int, seed: int = 0, size: tuple[int, int] = (16, 8)) -> Pixels:
    """Noise, so that no two pictures are alike: uint8 [frames, height, width, 3]."""
    width, height = size
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
