"""Reading Wan 2.1's VAE: its shape, and what its publishers call the decoder's weights.

The decoder's layers are numbered as in the original file, where `middle` and `upsamples` are two
lists; diffusers groups the same layers into blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from animatic_export.checkpoint.network import NetworkTensors, filled, shapes_of
from animatic_export.errors import CheckpointError
from animatic_export.wan.vae_decoder import WanVaeDecoder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

MEAN: Final = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
STD: Final = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)
"""Of Wan 2.1's raw latents by channel: the defaults of diffusers' AutoencoderKLWan."""
ORIGINAL: Final = "decoder.head.0.gamma"
"""A tensor that only the original naming has."""
INNER: Final = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
}
"""Parts of a residual layer: diffusers' name and ours, the original's."""


class WanVaeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The shape of a decoder, and the statistics of its latents; the defaults are Wan 2.1's.

    width: channels at the full size; multiples: of it, from the full size to the latents'.
    residuals: residual layers a level. doublings: which of the upsamplings, from the latents'
    size to the full one, double time too. mean, std: of raw latents, by channel.
    """

    width: int = 96
    latent_channels: int = 16
    multiples: tuple[int, ...] = (1, 2, 4, 4)
    residuals: int = 3
    doublings: tuple[bool, ...] = (True, True, False)
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD

    @property
    def spatial_factor(self) -> int:
        """Pixels along each side of a latent cell."""
        return int(2 ** len(self.doublings))

    @property
    def temporal_factor(self) -> int:
        """Frames of a latent frame."""
        return int(2 ** sum(self.doublings))


class _Published(msgspec.Struct):
    """What is read of diffusers' vae/config.json; it has more, which changes nothing."""

    base_dim: int = 96
    decoder_base_dim: int | None = None
    z_dim: int = 16
    dim_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attn_scales: tuple[float, ...] = ()
    temperal_downsample: tuple[bool, ...] = (False, True, True)
    latents_mean: tuple[float, ...] = MEAN
    latents_std: tuple[float, ...] = STD
    is_residual: bool = False
    out_channels: int = 3
    patch_size: int | None = None


def vae_from_diffusers(config: Mapping[str, object]) -> WanVaeConfig:
    """Read the content of a diffusers `vae/config.json`.

    CheckpointError if it is not that of a Wan 2.1 VAE.
    """
    name = config.get("_class_name", "AutoencoderKLWan")
    if name != "AutoencoderKLWan":
        raise CheckpointError(
            f"The VAE's config.json is of a {name} and not of an AutoencoderKLWan: give a Wan 2.1 "
            "checkpoint in diffusers' layout."
        )
    try:
        published = msgspec.convert(config, _Published)
    except msgspec.ValidationError as error:
        raise CheckpointError(
            f"The VAE's config.json is malformed ({error}): fetch it again."
        ) from error
    for problem in _problems(published):
        raise CheckpointError(f"The VAE {problem}: give the VAE of Wan 2.1.")
    return WanVaeConfig(
        width=published.decoder_base_dim or published.base_dim,
        latent_channels=published.z_dim,
        multiples=published.dim_mult,
        residuals=published.num_res_blocks + 1,
        doublings=published.temperal_downsample[::-1],
        mean=published.latents_mean,
        std=published.latents_std,
    )


def _problems(published: _Published) -> Iterator[str]:
    """Say what makes it another VAE than this package computes."""
    if published.is_residual or published.patch_size is not None:
        yield "averages beside its blocks or works on patches, so it is Wan 2.2's"
    if published.attn_scales:
        yield f"has attention at scales {list(published.attn_scales)} too"
    if published.out_channels != 3:
        yield f"gives {published.out_channels} channels and not 3"
    if len(published.temperal_downsample) != len(published.dim_mult) - 1:
        yield "has not one resampling between each two of its levels"
    if not len(published.latents_mean) == len(published.latents_std) == published.z_dim:
        yield f"has not {published.z_dim} means and standard deviations of its latents"


def load_wan_decoder(
    tensors: Mapping[str, Tensor], config: WanVaeConfig | None = None
) -> WanVaeDecoder:
    """Return the decoder, in float32, of a VAE's tensors as diffusers or as Wan names them.

    The encoder's are not looked at. config: None is for the original file, which has none: the
    shape is Wan 2.1's but for its width (there is a slimmer one, LightX2V's LightVAE).
    CheckpointError if they do not fit.
    """
    original = ORIGINAL in tensors
    if config is None:
        if not original:
            raise CheckpointError(
                "The VAE's tensors have not the names of Wan2.1_VAE.pth: give that file, or a "
                "folder in diffusers' layout with its config.json."
            )
        config = WanVaeConfig(width=len(tensors[ORIGINAL]))
    published = {ours: names[original] for ours, *names in _modules(config)}
    before = published["post_quant_conv"]
    part = NetworkTensors(
        tensors,
        {name: name for name in tensors if name.startswith(("decoder.", f"{before}."))},
        "the decoder of a Wan 2.1 VAE of this config",
        "give the VAE of Wan 2.1 (Wan 2.2's is another)",
    )
    weights: dict[str, Tensor] = {}
    for ours, shape in shapes_of(lambda: WanVaeDecoder(config)).items():
        module, _, kind = ours.rpartition(".")
        # A convolution of pictures is one of clips that is one frame deep.
        flat = module.endswith(".conv") and kind == "weight"
        wanted = (*shape[:2], *shape[3:]) if flat else shape
        weights[ours] = part.take(f"{published[module]}.{kind}", wanted).float().reshape(shape)
    part.close()
    return filled(lambda: WanVaeDecoder(config), weights)


def _modules(config: WanVaeConfig) -> Iterator[tuple[str, str, str]]:
    """Every module that has weights: our name, diffusers', the original's."""
    yield "post_quant_conv", "post_quant_conv", "conv2"
    yield "conv_in", "decoder.conv_in", "decoder.conv1"
    yield from _residual("layers.0", "decoder.mid_block.resnets.0", "decoder.middle.0")
    for part in ("norm", "to_qkv", "proj"):
        diffusers = f"decoder.mid_block.attentions.0.{part}"
        yield f"layers.1.{part}", diffusers, f"decoder.middle.1.{part}"
    yield from _residual("layers.2", "decoder.mid_block.resnets.1", "decoder.middle.2")
    place = 0
    for level in range(len(config.multiples)):
        block = f"decoder.up_blocks.{level}"
        for n in range(config.residuals):
            ours, original = f"layers.{place + 3}", f"decoder.upsamples.{place}"
            yield from _residual(ours, f"{block}.resnets.{n}", original)
            place += 1
        if level < len(config.doublings):
            ours, original = f"layers.{place + 3}", f"decoder.upsamples.{place}"
            diffusers = f"{block}.upsamplers.0"
            yield f"{ours}.conv", f"{diffusers}.resample.1", f"{original}.resample.1"
            yield f"{ours}.time_conv", f"{diffusers}.time_conv", f"{original}.time_conv"
            place += 1
    yield "norm_out", "decoder.norm_out", "decoder.head.0"
    yield "conv_out", "decoder.conv_out", "decoder.head.2"


def _residual(ours: str, diffusers: str, original: str) -> Iterator[tuple[str, str, str]]:
    for part, inner in INNER.items():
        yield f"{ours}.{part}", f"{diffusers}.{part}", f"{original}.{inner}"
    yield f"{ours}.shortcut", f"{diffusers}.conv_shortcut", f"{original}.shortcut"
