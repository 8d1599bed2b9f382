"""Which sizes an engine must take: the range of every dynamic axis, from what the bundle says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from animatic.bundle import AxisRange
from animatic.window import encoded_lengths, window_lengths
from animatic_engines.errors import GraphError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from animatic.bundle import Bundle, Geometry, GraphSpec, Role, TensorSpec, TextSpec

__all__ = ["Shapes", "axis_ranges", "shapes_of"]

TYPICAL_TOKENS: Final = 16  # a sentence that describes a shot; longer prompts still fit


class Shapes(NamedTuple):
    """The smallest, the usual and the largest shape of one input."""

    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]


def axis_ranges(bundle: Bundle, spec: GraphSpec) -> tuple[AxisRange, ...]:
    """Give the range of every dynamic axis of a graph's inputs, sorted by name.

    batch is 1, as the pipeline makes one clip at a time; frames, rows and columns count latents,
    pictures the frames that a decoder draws of them or an encoder reads, height and width pixels.
    GraphError if an axis has a name that says nothing about its size.
    """
    ranges = _known(bundle, spec.role)
    names = {axis for tensor in spec.inputs for axis in tensor.shape if isinstance(axis, str)}
    unknown = sorted(names - set(ranges))
    if unknown:
        raise GraphError(
            f"The {spec.role} graph has a dynamic axis {unknown[0]!r}, whose sizes the bundle does "
            f"not say; export it with a fixed size there, or name it one of {', '.join(ranges)}."
        )
    return tuple(ranges[name] for name in sorted(names))


def _known(bundle: Bundle, role: Role) -> dict[str, AxisRange]:
    geometry = bundle.geometry
    factor = geometry.temporal_factor
    widths = [size.width for size in geometry.sizes]
    heights = [size.height for size in geometry.sizes]
    frames = _latent_frames(bundle, role)
    ranges = (
        _range("batch", [1]),
        _tokens(bundle.text, role),
        _range("frames", frames),
        _range("pictures", [factor * count for count in frames]),
        _range("rows", [height // geometry.spatial_factor for height in heights]),
        _range("columns", [width // geometry.spatial_factor for width in widths]),
        _range("height", heights),
        _range("width", widths),
    )
    return {each.axis: each for each in ranges}


def _latent_frames(bundle: Bundle, role: Role) -> list[int]:
    """The latent frames that a graph is given or gives at once, the usual number first."""
    if role == "denoiser":
        return window_lengths(bundle)
    if role == "vae_encoder" and bundle.geometry.context_latent_frames:
        return encoded_lengths(bundle.geometry)
    return _block_lengths(bundle.geometry)


def _block_lengths(geometry: Geometry) -> list[int]:
    """The latent frames that are denoised together, for each length of a clip, the usual first.

    A clip longer than a block is a number of whole blocks; a shorter one is one of its own length.
    """
    block, factor = geometry.block_latent_frames, geometry.temporal_factor
    return [min(block, 1 + (count - 1) // factor) for count in geometry.frame_counts]


def _tokens(text: TextSpec, role: Role) -> AxisRange:
    """An encoder reads a prompt's own length or a fixed one; its states may be padded further."""
    if role != "text_encoder" and text.states_length:
        return _range("tokens", [text.states_length])
    if text.pad_to_max:
        return _range("tokens", [text.max_tokens])
    usual = min(TYPICAL_TOKENS, text.max_tokens)
    return AxisRange(axis="tokens", minimum=1, optimum=usual, maximum=text.max_tokens)


def _range(axis: str, sizes: Sequence[int]) -> AxisRange:
    """From the smallest to the largest; the engine is tuned for the first, which is the default."""
    return AxisRange(axis=axis, minimum=min(sizes), optimum=sizes[0], maximum=max(sizes))


def shapes_of(tensor: TensorSpec, ranges: Iterable[AxisRange]) -> Shapes:
    """Put a profile's sizes in the place of an input's named axes."""
    named = {each.axis: (each.minimum, each.optimum, each.maximum) for each in ranges}
    axes = [named[axis] if isinstance(axis, str) else (axis, axis, axis) for axis in tensor.shape]
    return Shapes(
        minimum=tuple(axis[0] for axis in axes),
        optimum=tuple(axis[1] for axis in axes),
        maximum=tuple(axis[2] for axis in axes),
    )
