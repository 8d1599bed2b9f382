"""What is published beside LTX-Video's weights, to the shapes of our networks.

Two kinds of config exist: diffusers' config.json, and the "config" in the metadata of Lightricks'
single files, which has a "transformer" and a "vae". Their `_class_name` tells them apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from animatic_export.errors import CheckpointError
from animatic_export.ltx.config import (
    ADVICE,
    DEFAULT_FRAME_RATE,
    LtxDecoderConfig,
    LtxDenoiserConfig,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_Read = TypeVar("_Read", bound=msgspec.Struct)


class _Transformer(msgspec.Struct):
    """What is read of either config of a transformer; diffusers' names are Lightricks' too."""

    num_layers: int = 28
    num_attention_heads: int = 32
    attention_head_dim: int = 64
    in_channels: int = 128
    out_channels: int | None = None
    caption_channels: int = 4096
    cross_attention_dim: int = 2048
    causal_temporal_positioning: bool = True


class _DiffusersVae(msgspec.Struct):
    """What is read of diffusers' vae/config.json, which lists from the picture to the latents."""

    decoder_block_out_channels: tuple[int, ...]
    decoder_layers_per_block: tuple[int, ...]
    decoder_spatio_temporal_scaling: tuple[bool, ...]
    decoder_inject_noise: tuple[bool, ...]
    upsample_residual: tuple[bool, ...]
    upsample_factor: tuple[int, ...]
    latent_channels: int = 128
    patch_size: int = 4


class _Block(msgspec.Struct):
    """One of a single file's blocks: residual blocks ("res_x") or a doubling ("compress_all")."""

    num_layers: int = 1
    inject_noise: bool = False
    residual: bool = False
    multiplier: int = 1


class _LightricksVae(msgspec.Struct):
    """What is read of a single file's "vae", which lists from the picture to the latents."""

    decoder_blocks: tuple[tuple[str, int | _Block], ...]
    decoder_base_channels: int = 128
    latent_channels: int = 128
    patch_size: int = 4


class _SingleFile(msgspec.Struct):
    """What is read of the "config" in a single file's metadata."""

    transformer: dict[str, object] = {}  # msgspec copies an empty default
    vae: dict[str, object] = {}
    allowed_inference_steps: list[object] | None = None


_TRANSFORMER: Final[Mapping[str, object]] = {
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-6,
}
_VAE: Final[Mapping[str, object]] = {
    "out_channels": 3,
    "scaling_factor": 1.0,
    "timestep_conditioning": True,
}
_EXPECTED: Final[Mapping[str, Mapping[str, object]]] = {
    "LTXVideoTransformer3DModel": {
        **_TRANSFORMER,
        "attention_out_bias": True,
        "patch_size": 1,
        "patch_size_t": 1,
        "qk_norm": "rms_norm_across_heads",
    },
    "Transformer3DModel": {
        **_TRANSFORMER,
        "adaptive_norm": "single_scale_shift",
        "positional_embedding_max_pos": [20, 2048, 2048],
        "positional_embedding_theta": 10_000.0,
        "positional_embedding_type": "rope",
        "qk_norm": "rms_norm",
        "standardization_norm": "rms_norm",
        "timestep_scale_multiplier": 1000,
    },
    "AutoencoderKLLTXVideo": {**_VAE, "decoder_causal": False, "patch_size_t": 1},
    "CausalVideoAutoencoder": {
        **_VAE,
        "causal_decoder": False,
        "dims": 3,
        "norm_layer": "pixel_norm",
        "spatial_padding_mode": "zeros",
    },
}
"""By class: what the modules of this package compute, where a config says anything of it."""
_UNSAID: Final[Mapping[str, Mapping[str, object]]] = {
    "Transformer3DModel": {"causal_temporal_positioning": False},
    "AutoencoderKLLTXVideo": {"timestep_conditioning": False},
    "CausalVideoAutoencoder": {"timestep_conditioning": False, "norm_layer": "group_norm"},
}
"""By class: its defaults, where they are not this package's."""


def denoiser_config(
    published: Mapping[str, object], frame_rate: float = DEFAULT_FRAME_RATE
) -> LtxDenoiserConfig:
    """Read diffusers' transformer/config.json, or the "transformer" of a single file's config.

    CheckpointError if it is another model's.
    """
    kinds = ("LTXVideoTransformer3DModel", "Transformer3DModel")
    found = _convert(_said(published, "transformer", kinds), _Transformer)
    width = found.num_attention_heads * found.attention_head_dim
    if found.cross_attention_dim != width:
        raise _refusal(f"transformer is {width} wide and its text {found.cross_attention_dim}")
    if found.out_channels not in {None, found.in_channels}:
        raise _refusal(
            f"transformer takes {found.in_channels} channels and gives {found.out_channels}"
        )
    return LtxDenoiserConfig(
        layers=found.num_layers,
        heads=found.num_attention_heads,
        head_width=found.attention_head_dim,
        latent_channels=found.in_channels,
        text_width=found.caption_channels,
        frame_rate=frame_rate,
        causal_positions=found.causal_temporal_positioning,
    )


def decoder_config(published: Mapping[str, object]) -> LtxDecoderConfig:
    """Read diffusers' vae/config.json, or the "vae" of a single file's config.

    CheckpointError if it is another model's, or of an LTX-Video before 0.9.5.
    """
    said = _said(published, "VAE", ("AutoencoderKLLTXVideo", "CausalVideoAutoencoder"))
    if said["_class_name"] == "CausalVideoAutoencoder":
        return _from_lightricks(_convert(said, _LightricksVae))
    return _from_diffusers(_convert(said, _DiffusersVae))


def single_file_configs(
    metadata: Mapping[str, str], frame_rate: float = DEFAULT_FRAME_RATE
) -> tuple[LtxDenoiserConfig, LtxDecoderConfig]:
    """Read the metadata of one of Lightricks' single files; what it does not say is LTX-Video 2B's.

    CheckpointError if it says another model.
    """
    said = _single_file(metadata)
    denoiser = LtxDenoiserConfig(frame_rate=frame_rate)
    if said.transformer:
        denoiser = denoiser_config(said.transformer, frame_rate)
    return denoiser, decoder_config(said.vae) if said.vae else LtxDecoderConfig()


def says_distilled(metadata: Mapping[str, str]) -> bool:
    """Whether a single file names the steps that it was distilled for, as Lightricks' loader asks.

    CheckpointError as `single_file_configs`.
    """
    return bool(_single_file(metadata).allowed_inference_steps)


def _single_file(metadata: Mapping[str, str]) -> _SingleFile:
    try:
        return msgspec.json.decode(metadata.get("config", "{}"), type=_SingleFile)
    except msgspec.DecodeError as error:
        raise _malformed(error) from error


def _from_diffusers(found: _DiffusersVae) -> LtxDecoderConfig:
    channels, factors = found.decoder_block_out_channels[::-1], found.upsample_factor[::-1]
    layers = found.decoder_layers_per_block[::-1]
    if any(found.decoder_inject_noise):
        raise _refusal("VAE's decoder adds noise to its layers")
    if not (all(found.upsample_residual) and all(found.decoder_spatio_temporal_scaling)):
        raise _refusal("VAE's decoder has a step that does not double the clip beside a shortcut")
    if not len(channels) == len(factors) == len(layers) - 1 > 0:
        raise _refusal("VAE's decoder lists different numbers of steps")
    widths = [channels[0]]
    for before, factor in zip(channels, factors, strict=True):
        if before != widths[-1]:
            raise _refusal("VAE's decoder changes its width within a residual block")
        widths.append(before // factor)
    return LtxDecoderConfig(
        latent_channels=found.latent_channels,
        widths=tuple(widths),
        layers=layers,
        patch=found.patch_size,
    )


def _from_lightricks(found: _LightricksVae) -> LtxDecoderConfig:
    names = [name for name, _ in found.decoder_blocks]
    if names != ["res_x", "compress_all"] * (len(names) // 2) + ["res_x"]:
        raise _refusal(f"VAE's decoder is made of {', '.join(names) or 'nothing'}")
    blocks = [
        _Block(num_layers=block) if isinstance(block, int) else block
        for _, block in found.decoder_blocks
    ]
    if any(block.inject_noise for block in blocks):
        raise _refusal("VAE's decoder adds noise to its layers")
    if not all(block.residual for block in blocks[1::2]):
        raise _refusal("VAE's decoder has a step that does not double the clip beside a shortcut")
    widths = [found.decoder_base_channels]
    for block in blocks[1::2]:
        widths.append(widths[-1] * block.multiplier)
    return LtxDecoderConfig(
        latent_channels=found.latent_channels,
        widths=tuple(widths[::-1]),
        layers=tuple(block.num_layers for block in blocks[::-2]),
        patch=found.patch_size,
    )


def _said(
    published: Mapping[str, object], part: str, kinds: tuple[str, ...]
) -> Mapping[str, object]:
    """Add what a config leaves to its class; CheckpointError if it says what is not computed."""
    name = str(published.get("_class_name"))
    if name not in kinds:
        raise CheckpointError(
            f"The config of the {part} is of a {name} and not of a {' or '.join(kinds)}: {ADVICE}."
        )
    said = {**_UNSAID.get(name, {}), **published}
    for key, wanted in _EXPECTED[name].items():
        if said.get(key, wanted) != wanted:
            raise _refusal(f"{part} has {key} = {said[key]!r} and not {wanted!r}")
    return said


def _convert(said: Mapping[str, object], kind: type[_Read]) -> _Read:
    try:
        return msgspec.convert(said, kind)
    except msgspec.ValidationError as error:
        raise _malformed(error) from error


def _malformed(error: Exception) -> CheckpointError:
    return CheckpointError(f"The config of the checkpoint is malformed ({error}): fetch it again.")


def _refusal(problem: str) -> CheckpointError:
    return CheckpointError(f"The {problem}, which is another model: {ADVICE}.")
