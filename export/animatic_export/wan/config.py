"""The shapes of Wan 2.1's denoisers: read from a published config, kept in a graph's account."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from animatic_export.errors import CheckpointError, ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PATCH: Final = 2
"""Latent cells along each side of a token, which is one latent frame long."""


class WanConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="wan2.1"
):
    """A text-to-video transformer; what has a default is the same in all of Wan 2.1.

    text_width: of umT5-xxl's token states. text_length: how many of them a prompt is padded to;
        all are attended to, as they were in training.
    frequency_width: sines and cosines of a timestep. epsilon: of all norms.
    """

    layers: int
    heads: int
    head_width: int
    ffn_width: int
    latent_channels: int = 16
    text_width: int = 4096
    text_length: int = 512
    frequency_width: int = 256
    epsilon: float = 1e-6

    @property
    def width(self) -> int:
        """Of a token."""
        return self.heads * self.head_width

    @property
    def title(self) -> str:
        """What messages call the model: "Wan2.1-1.3B", or its shape."""
        known = {WAN_1_3B: "Wan2.1-1.3B", WAN_14B: "Wan2.1-14B"}
        return known.get(self, f"Wan 2.1 of {self.layers} layers and width {self.width}")


WAN_1_3B: Final = WanConfig(layers=30, heads=12, head_width=128, ffn_width=8960)
WAN_14B: Final = WanConfig(layers=40, heads=40, head_width=128, ffn_width=13824)


class CausalConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag="wan2.1-causal"
):
    """The same transformer run block by block, as Self-Forcing does (arXiv:2506.08009).

    block: latent frames that are denoised together.
    window: latent frames whose keys and values are kept, the block's own included; older ones are
        forgotten. The default is the clip that the model was trained on, 21 latent frames.
    """

    denoiser: WanConfig
    block: int = 3
    window: int = 21

    def __post_init__(self) -> None:
        """Refuse a window whose end a block would straddle."""
        if self.block < 1 or self.window < self.block or self.window % self.block:
            raise ExportError(
                f"A window of {self.window} latent frames does not hold whole blocks of "
                f"{self.block}: choose a multiple of {self.block}."
            )


class _Published(msgspec.Struct):
    """What is read of diffusers' transformer/config.json; it has more, which changes nothing."""

    num_layers: int
    num_attention_heads: int
    attention_head_dim: int
    ffn_dim: int
    in_channels: int
    out_channels: int | None = None
    text_dim: int = 4096
    freq_dim: int = 256
    eps: float = 1e-6
    patch_size: tuple[int, int, int] = (1, PATCH, PATCH)
    cross_attn_norm: bool = True
    qk_norm: str | None = "rms_norm_across_heads"
    image_dim: int | None = None
    added_kv_proj_dim: int | None = None


def from_diffusers(config: Mapping[str, object]) -> WanConfig:
    """Read the content of a diffusers `transformer/config.json`.

    CheckpointError if it is not that of a Wan 2.1 text-to-video transformer.
    """
    name = config.get("_class_name")
    if name != "WanTransformer3DModel":
        raise CheckpointError(
            f"The transformer's config.json is of a {name} and not of a WanTransformer3DModel: "
            "give a Wan 2.1 text-to-video checkpoint in diffusers' layout."
        )
    try:
        published = msgspec.convert(config, _Published)
    except msgspec.ValidationError as error:
        raise CheckpointError(
            f"The transformer's config.json is malformed ({error}): fetch it again."
        ) from error
    for problem in _problems(published):
        raise CheckpointError(
            f"The transformer {problem}: give a Wan 2.1 text-to-video checkpoint."
        )
    return WanConfig(
        layers=published.num_layers,
        heads=published.num_attention_heads,
        head_width=published.attention_head_dim,
        ffn_width=published.ffn_dim,
        latent_channels=published.in_channels,
        text_width=published.text_dim,
        frequency_width=published.freq_dim,
        epsilon=published.eps,
    )


def _problems(published: _Published) -> Iterator[str]:
    """Say what makes it another model than this package computes."""
    if published.image_dim is not None or published.added_kv_proj_dim is not None:
        yield "wants a picture beside the text (it is an image-to-video model)"
    outputs = published.out_channels or published.in_channels
    if outputs != published.in_channels:
        yield f"takes {published.in_channels} channels and gives {outputs}, so more than text"
    if published.patch_size != (1, PATCH, PATCH):
        yield f"cuts latents into patches of {published.patch_size} and not of (1, 2, 2)"
    if published.qk_norm != "rms_norm_across_heads":
        yield f"normalises queries and keys by {published.qk_norm} and not across heads"
    if not published.cross_attn_norm:
        yield "does not normalise before its attention to the text"
    if published.attention_head_dim % 2:
        yield f"has heads of {published.attention_head_dim} channels, an odd number"
