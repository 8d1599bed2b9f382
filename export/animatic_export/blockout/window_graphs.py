"""The graphs of Blockout's second version, whose pictures have any shape and windows any length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import torch
from torch import Tensor, nn

from animatic.bundle import StatePair, TensorSpec
from animatic_export.graph import GraphPlan
from animatic_export.weights import store_half

if TYPE_CHECKING:
    from animatic_export.blockout.config import VaeConfig, WindowConfig
    from animatic_export.blockout.vae import Decoder, Encoder
    from animatic_export.blockout.window import WindowDenoiser

WINDOWS: Final = ((4, 9, 16), (6, 16, 9), (7, 8, 19), (5, 12, 12))
"""Latent frames, rows and columns that are held against torch: a shot's first block, a further one
behind its context, one more with a still, one with a frame to come; every shape of picture."""
TOLERANCE: Final = 1e-4
"""Largest relative error (L2) of float32 graphs: sums of thousands of products in other orders."""


class DecoderGraph(nn.Module):
    """One latent frame and the memories of the one before, to its frames and its memories.

    A memory [B, c, s*h, s*w] travels as [B, c*s*s, h, w]: the same numbers in the same order, under
    the names that the latents' axes have.
    """

    def __init__(self, decoder: Decoder, factor: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.factor = factor
        # Of one cell: channels, and the scale twice.
        self.memories = tuple(decoder.memory_shapes(1, 1))

    def forward(self, latents: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Map raw latents [B, C, 1, h, w] to frames [B, 3, factor, H, W] in [0, 1]."""
        dtype = next(self.decoder.parameters()).dtype
        batch, _, _, rows, columns = latents.shape
        past = [
            state.to(dtype).reshape(batch, channels, rows * scale, columns * scale)
            for state, (channels, scale, _) in zip(states, self.memories, strict=True)
        ]
        group, kept = self.decoder.step(latents[:, :, 0].to(dtype), past)
        frames = group.unflatten(1, (self.factor, 3)).transpose(1, 2).float()
        left = (
            memory.reshape(state.shape).to(state.dtype)
            for memory, state in zip(kept, states, strict=True)
        )
        return (frames / 2 + 0.5).clamp(0, 1), *left


class EncoderGraph(nn.Module):
    """Pictures in groups of four to latents, one for each group; the first group has no past."""

    def __init__(self, encoder: Encoder, config: VaeConfig) -> None:
        super().__init__()
        self.encoder = encoder
        self.factor = config.temporal_factor
        self.latent_channels = config.latent_channels

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames [B, 3, factor * T, H, W] in [0, 1] to raw latents [B, C, T, h, w].

        A shot's first frame, and a still, is given factor times, as `VideoVae.encode` does it.
        """
        dtype = next(self.encoder.parameters()).dtype
        groups = frames.transpose(1, 2).unflatten(1, (-1, self.factor)).flatten(2, 3)
        moments = self.encoder((groups * 2 - 1).to(dtype))
        return moments[:, :, : self.latent_channels].transpose(1, 2).float()


def window_inputs(
    config: WindowConfig, frames: int, rows: int, columns: int, *, batch: int = 1, tokens: int = 12
) -> tuple[Tensor, ...]:
    """Give the denoiser noise: from the fifth latent frame on given, from the seventh stills."""
    generator = torch.Generator().manual_seed(frames)
    timesteps = torch.full((batch, frames), 937.5)
    timesteps[:, 4:] = 0
    # The first window of a shot begins at 0, where nothing stands before it.
    positions = torch.arange(frames) + float(frames > WINDOWS[0][0])
    positions[6:] = 2.375  # (f + 1.5) / 4
    latents = (batch, config.latent_channels, frames, rows, columns)
    return (
        torch.randn(latents, generator=generator),
        timesteps,
        positions.repeat(batch, 1),
        torch.randn(batch, tokens, config.text_width, generator=generator),
    )


def window_plan(denoiser: WindowDenoiser) -> GraphPlan:
    """Plan the denoiser of windows, for one prompt a batch (no padding, so no mask)."""
    config = denoiser.config
    latents = ("batch", config.latent_channels, "frames", "rows", "columns")
    text = ("batch", "tokens", config.text_width)
    first, *others = WINDOWS
    return GraphPlan(
        role="denoiser",
        module=denoiser,
        examples=(
            window_inputs(config, *first, batch=2),
            *(window_inputs(config, *each, tokens=n) for n, each in enumerate(others, start=5)),
        ),
        inputs=(
            TensorSpec(name="latents", dtype="float32", shape=latents),
            TensorSpec(name="timesteps", dtype="float32", shape=("batch", "frames")),
            TensorSpec(name="positions", dtype="float32", shape=("batch", "frames")),
            TensorSpec(name="text_states", dtype="float32", shape=text),
        ),
        outputs=(TensorSpec(name="velocity", dtype="float32", shape=latents),),
        precision="fp16-weights",
        shrink=store_half,
        tolerance=TOLERANCE,
        architecture=msgspec.json.encode(config).decode(),
    )


def decoder_inputs(
    decoder: Decoder, rows: int, columns: int, *, batch: int = 1
) -> tuple[Tensor, ...]:
    """Give `DecoderGraph` noise, as in the middle of a shot."""
    generator = torch.Generator().manual_seed(0)

    def noise(channels: int, *axes: int) -> Tensor:
        return torch.randn(batch, channels, *axes, rows, columns, generator=generator)

    memories = (0.5 * noise(channels) for channels in state_channels(decoder))
    return (noise(decoder.latent_channels, 1), *memories)


def state_channels(decoder: Decoder) -> list[int]:
    """Return the channels of every state: a memory's with the axes of the latents."""
    return [channels * scale**2 for channels, scale, _ in decoder.memory_shapes(1, 1)]


def streaming_decoder_plan(decoder: Decoder, config: VaeConfig) -> GraphPlan:
    """Plan the decoder of raw latents of any size; one latent frame a run."""
    grid = ("rows", "columns")
    latents = ("batch", config.latent_channels, 1, *grid)
    frames = ("batch", 3, config.temporal_factor, "height", "width")
    states = [
        (f"state_{n}", ("batch", count, *grid)) for n, count in enumerate(state_channels(decoder))
    ]
    return GraphPlan(
        role="vae_decoder",
        module=DecoderGraph(decoder, config.temporal_factor),
        examples=(
            decoder_inputs(decoder, 3, 5, batch=2),
            *(decoder_inputs(decoder, rows, columns) for _, rows, columns in WINDOWS),
        ),
        inputs=(
            TensorSpec(name="latents", dtype="float32", shape=latents),
            *(TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in states),
        ),
        outputs=(
            TensorSpec(name="frames", dtype="float32", shape=frames),
            *(TensorSpec(name=f"next_{n}", dtype="float32", shape=shape) for n, shape in states),
        ),
        states=tuple(StatePair(input=name, output=f"next_{name}") for name, _ in states),
        precision="fp16-weights",
        shrink=store_half,
        tolerance=TOLERANCE,
        architecture=msgspec.json.encode(config).decode(),
    )


def encoder_plan(encoder: Encoder, config: VaeConfig) -> GraphPlan:
    """Plan the encoder of pictures of any size and number; whole clips, so it keeps no state."""
    generator = torch.Generator().manual_seed(0)
    scale, factor = config.spatial_factor, config.temporal_factor

    def example(batch: int, frames: int, rows: int, columns: int) -> tuple[Tensor, ...]:
        shape = (batch, 3, factor * frames, rows * scale, columns * scale)
        return (torch.rand(shape, generator=generator),)

    pictures = ("batch", 3, "pictures", "height", "width")
    latents = ("batch", config.latent_channels, "frames", "rows", "columns")
    return GraphPlan(
        role="vae_encoder",
        module=EncoderGraph(encoder, config),
        examples=(
            example(2, 2, 3, 5),
            example(1, 3, 2, 2),
            *(example(1, 1, rows, columns) for _, rows, columns in WINDOWS),
        ),
        inputs=(TensorSpec(name="frames", dtype="float32", shape=pictures),),
        outputs=(TensorSpec(name="latents", dtype="float32", shape=latents),),
        precision="fp16-weights",
        shrink=store_half,
        tolerance=TOLERANCE,
        architecture=msgspec.json.encode(config).decode(),
    )
