"""The shapes of LTX-Video's networks, as a graph's account of itself keeps them.

The defaults are those of LTX-Video 2B 0.9.8, which is what a file that brings no config is.
"""

from __future__ import annotations

from typing import Final

import msgspec

ADVICE: Final = "give an LTX-Video checkpoint of version 0.9.5 or later"
DEFAULT_FRAME_RATE: Final = 25.0
"""Frames per second; of diffusers' pipelines. Lightricks' own script asks for 30 since 0.9.6, and
says that training had various rates (github.com/Lightricks/LTX-Video/issues/149)."""


class LtxDenoiserConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A text-to-video transformer; the defaults are LTX-Video 2B's.

    frame_rate: frames per second of the clips: the transformer sees time in seconds.
    temporal_factor, spatial_factor: frames and pixels of a latent cell, in which positions count.
    causal_positions: the clip's first latent frame is one frame long and not `temporal_factor`, as
        models since 0.9.5 were trained (Lightricks' `causal_temporal_positioning`).
    """

    layers: int = 28
    heads: int = 32
    head_width: int = 64
    latent_channels: int = 128
    text_width: int = 4096
    """Of T5-v1.1-xxl's token states."""
    frame_rate: float = DEFAULT_FRAME_RATE
    temporal_factor: int = 8
    spatial_factor: int = 32
    causal_positions: bool = True

    @property
    def width(self) -> int:
        """Of a token."""
        return self.heads * self.head_width

    @property
    def title(self) -> str:
        """What the model is called: "LTX-Video 2B", or its shape."""
        shape = (self.layers, self.heads, self.head_width)
        if shape == (28, 32, 64):
            return "LTX-Video 2B"
        return f"LTX-Video of {self.layers} layers and width {self.width}"


class LtxDecoderConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The VAE's decoder; the defaults are those of LTX-Video 0.9.5 to 0.9.8.

    widths: channels at the latents' size and after each doubling of time, height and width.
    layers: residual blocks at each of these.
    timestep: share of noise that the decoder is told the latents have, 0 to 1: 0.05 in Lightricks'
        configs/ltxv-2b-0.9.8-distilled.yaml.
    """

    latent_channels: int = 128
    widths: tuple[int, ...] = (1024, 512, 256, 128)
    layers: tuple[int, ...] = (5, 5, 5, 5)
    patch: int = 4
    """Pixels along each side of a last cell, in its channels."""
    timestep: float = 0.05

    @property
    def temporal_factor(self) -> int:
        """Frames of a latent frame."""
        return 1 << (len(self.widths) - 1)

    @property
    def spatial_factor(self) -> int:
        """Pixels of a latent cell."""
        return self.patch * self.temporal_factor
