"""Reading a TAEHV checkpoint: which decoder its tensors are, and what TAEHV calls them.

A file's tensors tell the shape and not the model: the decoders of Wan 2.1, Hunyuan Video and
CogVideoX are alike, and so are those of LTX-2 and 2.3. To give the one that was made for the
latents is up to the user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from animatic_export.checkpoint.network import NetworkTensors, filled, shapes_of
from animatic_export.errors import CheckpointError
from animatic_export.taehv.decoder import BLOCKS, TaehvDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor


class TaehvConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The shape of a decoder.

    widths: channels at the latents' size and after each of the three doublings of it.
    strides: frames that one frame becomes at each doubling. patch: pixels along each side of what
    the last convolution gives as channels of one cell.
    """

    latent_channels: int
    widths: tuple[int, int, int, int]
    strides: tuple[int, int, int]
    patch: int

    @property
    def spatial_factor(self) -> int:
        """Pixels along each side of a latent cell."""
        return int(2 ** len(self.strides)) * self.patch

    @property
    def temporal_factor(self) -> int:
        """Frames of a latent frame."""
        first, second, third = self.strides
        return first * second * third


FAMILIES: Final[Mapping[int, tuple[tuple[int, int, int], int]]] = {
    16: ((1, 2, 2), 1),  # taew2_1
    128: ((2, 2, 2), 4),  # taeltx_2 and taeltx2_3, made for LTX-2
}
"""Latent channels -> strides and patch, from taehv.py's constructor."""
ADVICE: Final = "give one with the layout of TAEHV's taew2_1 (Wan 2.1) or taeltx_2 (LTX-2)"
CONV_IN: Final = "decoder.1"
CONV_OUT: Final = "decoder.22"


def load_taehv(tensors: Mapping[str, Tensor]) -> TaehvDecoder:
    """Return the decoder, in float32, of a TAEHV file's tensors; the encoder's are not looked at.

    CheckpointError if they are not those of a decoder that is supported.
    """
    config = _config(tensors)
    published = dict(_modules(config))
    names = {name: name for name in tensors if name.startswith("decoder.")}
    part = NetworkTensors(tensors, names, "a TAEHV decoder for such latents", ADVICE)
    weights: dict[str, Tensor] = {}
    for ours, shape in shapes_of(lambda: TaehvDecoder(config)).items():
        module, _, kind = ours.rpartition(".")
        name = f"{published[module]}.{kind}"
        allowed = [shape]
        if module.endswith(".grow.conv") and name in tensors:
            allowed.append((max(shape[0], len(tensors[name])), *shape[1:]))
        # Of more frames than are wanted, the last ones (patch_tgrow_layers).
        weights[ours] = part.take(name, *allowed).float()[-shape[0] :]
    part.close()
    return filled(lambda: TaehvDecoder(config), weights)


def _config(tensors: Mapping[str, Tensor]) -> TaehvConfig:
    """Tell the shape by the tensors' shapes."""
    if "decoder.0.weight" in tensors:
        raise _another("is the decoder of a `super` variant")
    heads = [f"decoder.{place}.weight" for place in _width_places()]
    for name in [*heads, f"{CONV_OUT}.weight"]:
        if name not in tensors or tensors[name].ndim != 4:
            raise _another(f"has no convolution {name}")
    channels = tensors[f"{CONV_IN}.weight"].shape[1]
    if channels not in FAMILIES:
        raise _another(f"is for latents of {channels} channels")
    strides, patch = FAMILIES[channels]
    found = tensors[f"{CONV_OUT}.weight"].shape[0]
    if found != 3 * patch**2:
        raise _another(f"gives {found} channels and not {3 * patch**2}")
    first, second, third, last = (tensors[name].shape[0] for name in heads)
    return TaehvConfig(
        latent_channels=channels, widths=(first, second, third, last), strides=strides, patch=patch
    )


def _another(difference: str) -> CheckpointError:
    return CheckpointError(f"The tiny decoder {difference}: {ADVICE}.")


def _width_places() -> list[int]:
    """The places in TAEHV's list of the convolutions that change the width."""
    return [1, *(_place(n) + BLOCKS + 2 for n in range(3))]


def _place(level: int) -> int:
    """Where a level begins: blocks, upsampling, growth and convolution, after three layers."""
    return 3 + level * (BLOCKS + 3)


def _modules(config: TaehvConfig) -> Iterator[tuple[str, str]]:
    """Every module that has weights: our name and TAEHV's."""
    yield "conv_in", CONV_IN
    for level in range(len(config.strides)):
        place = _place(level)
        for n in range(BLOCKS):
            for part in (0, 2, 4):
                yield f"levels.{level}.blocks.{n}.conv.{part}", f"decoder.{place + n}.conv.{part}"
        yield f"levels.{level}.grow.conv", f"decoder.{place + BLOCKS + 1}.conv"
        yield f"levels.{level}.conv", f"decoder.{place + BLOCKS + 2}"
    yield "conv_out", CONV_OUT
