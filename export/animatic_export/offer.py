"""The sizes, lengths and tiers that a bundle offers: what was asked for, or the model's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from animatic.bundle import Size, Tier
from animatic_export.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from animatic_export.recipe import Request

__all__ = ["Offer", "Usual", "offer"]


class Usual(NamedTuple):
    """What a model was made for, and what it can make.

    preview, work, final: (width, height) in pixels; final is the usual size.
    frames: counts, the usual one first.
    multiple: sides are multiples of this many pixels.
    temporal_factor: frames per latent frame after the first.
    block: latent frames that a model with context makes at a time; 0 for one without.
    largest, longest: pixels of a side and frames beyond which positions mean nothing to the model;
        0 if there is no such bound.
    """

    preview: tuple[int, int]
    work: tuple[int, int]
    final: tuple[int, int]
    frames: tuple[int, ...]
    multiple: int
    temporal_factor: int
    block: int = 0
    largest: int = 0
    longest: int = 0


class Offer(NamedTuple):
    """What the bundle says; the first size and count are the usual ones."""

    sizes: tuple[Size, ...]
    frames: tuple[int, ...]
    tiers: tuple[Tier, ...]

    def longest(self, temporal_factor: int) -> int:
        """The latent frames of the longest clip, which a model without context makes at once."""
        return 1 + (max(self.frames) - 1) // temporal_factor


def offer(request: Request, usual: Usual) -> Offer:
    """Settle what is offered; ExportError if the model cannot make what was asked for.

    Where other sizes were asked for, the largest is the final tier and the smallest the preview.
    The tiers below final are drawn by the tiny decoder, if there is one.
    """
    for problem in _problems(request, usual):
        raise ExportError(problem)
    sizes = request.sizes or (usual.final, usual.work, usual.preview)
    ranked = sorted(dict.fromkeys(sizes), key=lambda size: size[0] * size[1])
    chosen = {}
    if len(ranked) > 1:
        chosen = {"preview": ranked[0], "final": ranked[-1]}
    if len(ranked) > 2:
        chosen = {"preview": ranked[0], "work": ranked[len(ranked) // 2], "final": ranked[-1]}
    tiers = tuple(
        Tier(
            name=name,
            size=Size(width=width, height=height),
            decoder="tiny_decoder" if request.tiny_decoder and name != "final" else "vae_decoder",
        )
        for name, (width, height) in chosen.items()
    )
    return Offer(
        sizes=tuple(Size(width=width, height=height) for width, height in dict.fromkeys(sizes)),
        frames=tuple(dict.fromkeys(request.frames)) or usual.frames,
        tiers=tiers,
    )


def _problems(request: Request, usual: Usual) -> Iterator[str]:
    for width, height in request.sizes:
        if width < 1 or height < 1 or width % usual.multiple or height % usual.multiple:
            w, h = (
                max(1, round(side / usual.multiple)) * usual.multiple for side in (width, height)
            )
            yield (
                f"{width}x{height} cannot be made: both sides must be multiples of "
                f"{usual.multiple} pixels; the nearest is --size {w}x{h}."
            )
        if usual.largest and max(width, height) > usual.largest:
            yield (
                f"{width}x{height} cannot be made: the model knows places of up to "
                f"{usual.largest} pixels along a side; give a smaller --size."
            )
    for frames in request.frames:
        if usual.longest and frames > usual.longest:
            yield (
                f"A clip of {frames} frames cannot be made: the model knows places of up to "
                f"{usual.longest} frames; give fewer --frames."
            )
        latents, rest = divmod(frames - 1, usual.temporal_factor)
        wrong_block = usual.block and (latents + 1) % usual.block
        if rest or wrong_block:
            first = 1 if not usual.block else 1 + (usual.block - 1) * usual.temporal_factor
            step = usual.temporal_factor * (usual.block or 1)
            near = first + max(0, round((frames - first) / step)) * step
            yield (
                f"A clip of {frames} frames cannot be made: give --frames {first} and any multiple "
                f"of {step} more; the nearest is {near}."
            )
