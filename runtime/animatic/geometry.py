"""Shapes of a clip in pixels and in latents, and the frame rates that time it.

A video VAE keeps the first frame of a shot alone and folds every `temporal_factor` frames after it
into one latent frame, so `frames = 1 + (latent frames - 1) * temporal_factor`; in a clip that goes
on from another no frame is alone. Every conversion here divides exactly or raises: a silent floor
would lose pixels.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from animatic.bundle import Geometry

__all__ = [
    "MAX_RATE",
    "MAX_RATE_TERM",
    "LatentShape",
    "PixelShape",
    "format_rate",
    "parse_rate",
    "to_latent",
    "to_pixels",
]

# MP4 and MOV keep the time scale in 32 bits; a million leaves room for every broadcast rate
# (60000/1001) and refuses the denominators that come from a rounded float (23.976).
MAX_RATE_TERM: Final = 1_000_000
MAX_RATE: Final = 240  # frames per second; the fastest displays show it, beyond it is a slip
_RATE_TEXT_LIMIT: Final = 32  # characters; two terms of a million and a fraction bar, amply


class PixelShape(NamedTuple):
    """A clip in pixels; axes in this order, counts."""

    frames: int
    height: int
    width: int


class LatentShape(NamedTuple):
    """A clip in latents; axes in this order, counts, without the batch axis."""

    channels: int
    frames: int
    rows: int
    columns: int


def _divide(value: int, divisor: int, what: str) -> int:
    quotient, remainder = divmod(value, divisor)
    if remainder:
        raise ValueError(f"{what} {value} is not a multiple of {divisor}")
    return quotient


def to_latent(pixels: PixelShape, geometry: Geometry, *, begins: bool = True) -> LatentShape:
    """Fold a clip into latents; ValueError if the model's factors do not divide it exactly.

    begins: whether it begins a shot, so that its first frame is alone.
    """
    if min(pixels) < 1:
        raise ValueError(f"{pixels} holds an axis below 1")
    alone = 1 if begins else 0
    what = "frames after the first," if begins else "frames"
    later = _divide(pixels.frames - alone, geometry.temporal_factor, what)
    return LatentShape(
        channels=geometry.latent_channels,
        frames=alone + later,
        rows=_divide(pixels.height, geometry.spatial_factor, "height"),
        columns=_divide(pixels.width, geometry.spatial_factor, "width"),
    )


def to_pixels(latent: LatentShape, geometry: Geometry, *, begins: bool = True) -> PixelShape:
    """Unfold latents into the clip they decode to; the inverse of `to_latent`."""
    if min(latent) < 1 or latent.channels != geometry.latent_channels:
        raise ValueError(f"{latent} is not a shape of {geometry.latent_channels} latent channels")
    return PixelShape(
        frames=latent.frames * geometry.temporal_factor - (geometry.decoder_trim if begins else 0),
        height=latent.rows * geometry.spatial_factor,
        width=latent.columns * geometry.spatial_factor,
    )


def parse_rate(text: str) -> Fraction:
    """Read an exact rate, in frames per second, from "24", "24000/1001" or "12.5".

    ValueError for anything that is not a ratio of two numbers up to a million, above 0 and at
    most 240.
    """
    # Checked before parsing: "1e999999999" is a legal Fraction that would fill the memory.
    if len(text) > _RATE_TEXT_LIMIT or not text.isascii() or "e" in text.lower():
        raise ValueError(f"{text[:40]!r} is not a frame rate such as 24 or 24000/1001")
    try:
        rate = Fraction(text)
    except ZeroDivisionError:
        raise ValueError(f"{text!r} divides by zero") from None
    if not 0 < rate <= MAX_RATE or max(rate.numerator, rate.denominator) > MAX_RATE_TERM:
        raise ValueError(
            f"{text!r} is not above 0 and up to {MAX_RATE} with terms up to {MAX_RATE_TERM:,}"
        )
    return rate


def format_rate(rate: Fraction) -> str:
    """Write a rate exactly, always with its denominator: "8/1", "24000/1001"."""
    return f"{rate.numerator}/{rate.denominator}"
