"""The decoder's published names to ours, in both namings, and the latents' statistics.

diffusers' naming is that of its folder `vae`; the original one that of Lightricks' single files,
where everything is under "vae.". The encoder's tensors are passed over.

The published decoder embeds the share of noise that it is told the latents have, once for each
stage, and adds a table of each norm's own. The share is fixed, so the sums are all that is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch.nn import functional as F

from animatic_export.checkpoint.network import NetworkTensors, shapes_of
from animatic_export.errors import CheckpointError
from animatic_export.ltx.config import ADVICE
from animatic_export.ltx.denoiser import FREQUENCY_WIDTH
from animatic_export.ltx.vae_decoder import LtxVaeDecoder
from animatic_export.transformer import timestep_embedding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from animatic_export.ltx.config import LtxDecoderConfig

PREFIX: Final = "vae."
"""Of the VAE in a single file."""
TIMESTEP_SCALE: Final = 1000.0
"""What the share of noise is multiplied by before its embedding; checkpoints say it too."""


class _Names(NamedTuple):
    """What a naming calls the decoder's parts.

    root: prefix of all. stages, ups: of each stage and of each convolution between them.
    blocks: the residual blocks within a stage. last: prefix of what belongs to the last norm.
    """

    root: str
    stages: tuple[str, ...]
    ups: tuple[str, ...]
    blocks: str
    last: str


def load_decoder_weights(
    tensors: Mapping[str, Tensor], config: LtxDecoderConfig
) -> dict[str, Tensor]:
    """Return the state dict of `LtxVaeDecoder`, float32, from a published one in either naming.

    `tensors` may read lazily: every tensor is asked for once, and only a few are held at a time.
    CheckpointError names the first that is missing, has another shape or belongs to another model.
    """
    names = _names(_is_original(tensors), len(config.widths))
    part = NetworkTensors(
        tensors,
        {name: name for name in tensors if name.startswith(names.root)},
        "an LTX-Video decoder of this config",
        ADVICE,
    )
    share = part.take(f"{names.root}timestep_scale_multiplier", ())
    if float(share) != TIMESTEP_SCALE:
        raise CheckpointError(
            f"The decoder multiplies its timestep by {float(share):g} and not by "
            f"{TIMESTEP_SCALE:g}, which is another model: {ADVICE}."
        )
    embedding = timestep_embedding(
        torch.tensor([config.timestep]) * TIMESTEP_SCALE, FREQUENCY_WIDTH
    )
    shapes = shapes_of(lambda: LtxVaeDecoder(config))
    state = {}

    def keep_conv(ours: str, theirs: str) -> None:
        for leaf in ("weight", "bias"):
            name = f"{ours}.{leaf}"
            state[name] = part.take(f"{theirs}.conv.{leaf}", shapes[name]).float()

    def keep_norm(ours: str, shift: Tensor, scale: Tensor) -> None:
        state[f"{ours}.gain"] = (1 + scale).view(-1, 1, 1, 1)
        state[f"{ours}.shift"] = shift.clone().view(-1, 1, 1, 1)

    keep_conv("first", f"{names.root}conv_in")
    for place, (stage, width) in enumerate(zip(names.stages, config.widths, strict=True)):
        if place:
            keep_conv(f"ups.{place - 1}.conv", names.ups[place - 1])
        noise = _embed(part, f"{stage}time_embedder", embedding, 4 * width).view(4, width)
        for block in range(config.layers[place]):
            ours, theirs = f"stages.{place}.{block}", f"{stage}{names.blocks}.{block}"
            table = noise + part.take(f"{theirs}.scale_shift_table", (4, width))
            keep_norm(f"{ours}.first_norm", table[0], table[1])
            keep_conv(f"{ours}.first", f"{theirs}.conv1")
            keep_norm(f"{ours}.second_norm", table[2], table[3])
            keep_conv(f"{ours}.second", f"{theirs}.conv2")
    width = config.widths[-1]
    noise = _embed(part, f"{names.last}time_embedder", embedding, 2 * width).view(2, width)
    table = noise + part.take(f"{names.last}scale_shift_table", (2, width))
    keep_norm("last_norm", table[0], table[1])
    keep_conv("last", f"{names.root}conv_out")
    part.close()
    return state


def read_latent_stats(
    tensors: Mapping[str, Tensor], config: LtxDecoderConfig
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of raw latents.

    CheckpointError if they are not there.
    """
    names = ("latents_mean", "latents_std")
    if _is_original(tensors):
        root = f"{PREFIX}per_channel_statistics."
        names = (f"{root}mean-of-means", f"{root}std-of-means")
    there = {name: name for name in names if name in tensors}
    part = NetworkTensors(tensors, there, "an LTX-Video VAE of this config", ADVICE)
    mean, std = (part.take(name, (config.latent_channels,)).float().tolist() for name in names)
    return tuple(mean), tuple(std)


def _is_original(tensors: Mapping[str, Tensor]) -> bool:
    return any(name.startswith(PREFIX) for name in tensors)


def _names(original: bool, stages: int) -> _Names:  # noqa: FBT001
    if original:
        root = f"{PREFIX}decoder."
        return _Names(
            root,
            tuple(f"{root}up_blocks.{2 * place}." for place in range(stages)),
            tuple(f"{root}up_blocks.{2 * place + 1}.conv" for place in range(stages - 1)),
            "res_blocks",
            f"{root}last_",
        )
    root = "decoder."
    ups = tuple(f"{root}up_blocks.{place}." for place in range(stages - 1))
    return _Names(
        root,
        (f"{root}mid_block.", *ups),
        tuple(f"{up}upsamplers.0.conv" for up in ups),
        "resnets",
        root,
    )


def _embed(part: NetworkTensors, name: str, embedding: Tensor, width: int) -> Tensor:
    """Return what a published embedder [1, width] makes of the timestep's sines and cosines."""
    layers = f"{name}.timestep_embedder.linear_"
    first = part.take(f"{layers}1.weight", (width, FREQUENCY_WIDTH)).float()
    bias = part.take(f"{layers}1.bias", (width,)).float()
    hidden = F.silu(F.linear(embedding.to(first.device), first, bias))
    second = part.take(f"{layers}2.weight", (width, width)).float()
    return F.linear(hidden, second, part.take(f"{layers}2.bias", (width,)).float())
