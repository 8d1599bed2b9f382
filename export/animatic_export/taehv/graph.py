"""The graph of a tiny video decoder, which streams: one latent frame a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import torch
from torch import Tensor, nn

from animatic.bundle import StatePair, TensorSpec
from animatic_export.graph import GraphPlan
from animatic_export.taehv.decoder import TaehvDecoder
from animatic_export.taehv.names import TaehvConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animatic_export.weights import Storage


class TinyDecoderGraph(nn.Module):
    """The decoder of raw latents: TAEHV's own are what the denoiser makes, so normalised ones."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, decoder: TaehvDecoder, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, latents: Tensor, *memories: Tensor) -> tuple[Tensor, ...]:
        """Map raw latents [B, C, 1, h, w] and the memories to frames [B, 3, T, H, W] in [0, 1]."""
        frames, *kept = self.decoder((latents.squeeze(2) - self.mean) / self.std, *memories)
        return frames.transpose(1, 2), *kept


class _Architecture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A graph's own account of itself: the decoder, and the statistics of raw latents."""

    decoder: TaehvConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]


def tiny_decoder_plan(
    decoder: TaehvDecoder, storage: Storage, mean: tuple[float, ...], std: tuple[float, ...]
) -> GraphPlan:
    """Plan the decoder of raw latents of any size; its states are the memories of its blocks.

    mean, std: of raw latents, by channel (zeros and ones for a decoder that wants raw ones).
    """
    config = decoder.config
    grid = ("rows", "columns")
    channels = decoder.state_channels()
    latents = ("batch", config.latent_channels, 1, *grid)
    frames = ("batch", 3, config.temporal_factor, "height", "width")
    shapes = [("batch", count, *grid) for count in channels]
    return GraphPlan(
        role="tiny_decoder",
        module=TinyDecoderGraph(decoder, mean, std),
        examples=(_example(decoder, 2, 2, 3), _example(decoder, 1, 3, 2)),
        inputs=(
            TensorSpec(name="latents", dtype="float32", shape=latents),
            *(
                TensorSpec(name=f"state_{n}", dtype="float32", shape=shape)
                for n, shape in enumerate(shapes)
            ),
        ),
        outputs=(
            TensorSpec(name="frames", dtype="float32", shape=frames),
            *(
                TensorSpec(name=f"next_state_{n}", dtype="float32", shape=shape)
                for n, shape in enumerate(shapes)
            ),
        ),
        states=tuple(
            StatePair(input=f"state_{n}", output=f"next_state_{n}") for n in range(len(shapes))
        ),
        precision=storage.precision,
        shrink=storage.shrink,
        tolerance=1e-4,
        architecture=msgspec.json.encode(_Architecture(config, mean, std)).decode(),
    )


def tiny_decoder_again(
    architecture: str, weights: Mapping[str, Tensor], storage: Storage
) -> GraphPlan:
    """Plan the graph again from its own account and the float32 weights that it holds."""
    account = msgspec.json.decode(architecture, type=_Architecture)
    decoder = TaehvDecoder(account.decoder)
    decoder.load_state_dict({name: weights[f"decoder.{name}"] for name in decoder.state_dict()})
    decoder.eval().requires_grad_(requires_grad=False)
    return tiny_decoder_plan(decoder, storage, account.mean, account.std)


def _example(decoder: TaehvDecoder, batch: int, rows: int, columns: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)

    def noise(channels: int, *axes: int) -> Tensor:
        return torch.randn(batch, channels, *axes, rows, columns, generator=generator)

    memories = (0.5 * noise(count).relu() for count in decoder.state_channels())
    return (noise(decoder.config.latent_channels, 1), *memories)
