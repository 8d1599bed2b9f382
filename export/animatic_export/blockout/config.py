"""The shapes of Blockout's clips and networks: stored with the weights, read by all."""

from __future__ import annotations

from typing import Annotated

import msgspec


class ClipConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a clip is: pixels, frames, frames per second."""

    width: int
    height: int
    frames: int
    fps: int


class ShotConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a shot is that is made block by block, for as long as it is wanted."""

    fps: int
    sizes: Annotated[tuple[tuple[int, int], ...], msgspec.Meta(min_length=1)]
    """Width and height in pixels, the usual one first."""
    block_latent_frames: int
    """Made together."""
    context_latent_frames: int
    """Of what was made before, given to every block after the first."""


class VaeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Causal video VAE."""

    spatial_factor: int
    temporal_factor: int
    latent_channels: int
    widths: tuple[int, int, int, int]
    """Channels at 1/2, 1/4, 1/8 and 1/16 of the frame."""


class DenoiserConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Diffusion transformer over a clip's latents."""

    latent_channels: int
    frames: int
    rows: int
    columns: int
    """The latent grid of a clip; one token a cell."""
    width: int
    depth: int
    heads: int
    text_width: int
    text_queries: int
    """Learned queries that pool the prompt's token states into one vector."""


class WindowConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Diffusion transformer over a window of a shot, of any picture's shape."""

    latent_channels: int
    width: int
    depth: int
    heads: int
    text_width: int
    text_queries: int
    """Learned queries that pool the prompt's token states into one vector."""
