"""Blockout's three graphs: torch modules in the shape that the bundle's contract asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from animatic.bundle import StatePair, TensorSpec
from animatic_export.blockout.minilm import WIDTH, MiniLm
from animatic_export.graph import GraphPlan
from animatic_export.weights import store_half, store_int8

if TYPE_CHECKING:
    from animatic_export.blockout.denoiser import Denoiser
    from animatic_export.blockout.vae import Decoder

EXAMPLE_IDS = (101, 1037, 2417, 4744, 9297, 2187, 2083, 1037, 5532, 2012, 10434, 102)
""""a red truck drives left through a desert at sunset" as MiniLM's tokens."""


class DecoderGraph(nn.Module):
    """One latent frame and the memories of the one before, to its frames and its memories."""

    def __init__(self, decoder: Decoder, factor: int) -> None:
        super().__init__()
        self.decoder = decoder
        self.factor = factor

    def forward(self, latents: Tensor, *memories: Tensor) -> tuple[Tensor, ...]:
        """Map raw latents [B, C, 1, h, w] to frames [B, 3, factor, H, W] in [0, 1]."""
        dtype = next(self.decoder.parameters()).dtype
        past = [memory.to(dtype) for memory in memories]
        group, kept = self.decoder.step(latents[:, :, 0].to(dtype), past)
        frames = group.unflatten(1, (self.factor, 3)).transpose(1, 2).float()
        return ((frames + 1) / 2).clamp(0, 1), *(memory.to(memories[0].dtype) for memory in kept)


def text_encoder_plan(model: MiniLm) -> GraphPlan:
    """Plan the text encoder; its weights are stored as int8, its arithmetic is float32."""
    ids = torch.tensor([EXAMPLE_IDS, EXAMPLE_IDS[::-1]])
    padded = torch.ones_like(ids)
    padded[1, 7:] = 0
    short = ids[:1, :7]
    axes = ("batch", "tokens")
    return GraphPlan(
        role="text_encoder",
        module=model,
        # Padding is compared too: it attends to the real tokens, so its states are defined.
        examples=((ids, torch.ones_like(ids)), (short, torch.ones_like(short)), (ids, padded)),
        inputs=(
            TensorSpec(name="input_ids", dtype="int64", shape=axes),
            TensorSpec(name="attention_mask", dtype="int64", shape=axes),
        ),
        outputs=(TensorSpec(name="text_states", dtype="float32", shape=(*axes, WIDTH)),),
        precision="int8-weights",
        shrink=store_int8,
        tolerance=0.045,  # the relative error at which the cosine is still 0.999
    )


def denoiser_plan(denoiser: Denoiser) -> GraphPlan:
    """Plan the denoiser for one prompt a batch (no padding, so no mask)."""
    config = denoiser.config
    generator = torch.Generator().manual_seed(0)
    grid = (config.latent_channels, config.frames, config.rows, config.columns)
    shape = ("batch", *grid)

    def example(batch: int, tokens: int, timestep: float) -> tuple[Tensor, ...]:
        return (
            torch.randn(batch, *grid, generator=generator),
            torch.full((batch, config.frames), timestep),
            torch.randn(batch, tokens, config.text_width, generator=generator),
        )

    return GraphPlan(
        role="denoiser",
        module=denoiser,
        examples=(example(2, len(EXAMPLE_IDS), 937.5), example(1, 5, 1000.0)),
        inputs=(
            TensorSpec(name="latents", dtype="float32", shape=shape),
            TensorSpec(name="timesteps", dtype="float32", shape=("batch", config.frames)),
            TensorSpec(
                name="text_states", dtype="float32", shape=("batch", "tokens", config.text_width)
            ),
        ),
        outputs=(TensorSpec(name="velocity", dtype="float32", shape=shape),),
        precision="fp16-weights",
        shrink=store_half,
        tolerance=1e-4,
    )


def decoder_plan(
    decoder: Decoder, rows: int, columns: int, *, scale: int, factor: int
) -> GraphPlan:
    """Plan the streaming decoder of latents of `rows` x `columns`.

    A cell is `scale` pixels wide and high and `factor` frames long.
    """
    graph = DecoderGraph(decoder, factor)
    generator = torch.Generator().manual_seed(0)
    memories = decoder.memory_shapes(rows, columns)
    channels = decoder.latent_channels
    grid = ("batch", channels, 1, rows, columns)
    inputs = [TensorSpec(name="latents", dtype="float32", shape=grid)]
    frames = ("batch", 3, factor, rows * scale, columns * scale)
    outputs = [TensorSpec(name="frames", dtype="float32", shape=frames)]
    example = [torch.randn(2, channels, 1, rows, columns, generator=generator)]
    states = []
    for n, memory in enumerate(memories):
        shape = ("batch", *memory)
        inputs.append(TensorSpec(name=f"state_{n}", dtype="float32", shape=shape))
        outputs.append(TensorSpec(name=f"next_state_{n}", dtype="float32", shape=shape))
        states.append(StatePair(input=f"state_{n}", output=f"next_state_{n}"))
        example.append(torch.randn(2, *memory, generator=generator) * 0.5)
    return GraphPlan(
        role="vae_decoder",
        module=graph,
        examples=(tuple(example), tuple(tensor[:1] for tensor in example)),
        inputs=tuple(inputs),
        outputs=tuple(outputs),
        states=tuple(states),
        precision="fp16-weights",
        shrink=store_half,
        tolerance=1e-4,
    )
