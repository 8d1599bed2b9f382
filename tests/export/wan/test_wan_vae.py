from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import pytest
import torch

from animatic_export.errors import CheckpointError
from animatic_export.wan.vae_names import (
    MEAN,
    WanVaeConfig,
    _modules,
    load_wan_decoder,
    vae_from_diffusers,
)
from tests.export.published import quiet, randomise

if TYPE_CHECKING:
    from torch import Tensor

    from animatic_export.wan.vae_decoder import WanVaeDecoder

SIZES: Final = ((2, 4, 6), (1, 5, 4))
"""Clips, rows and columns of latents."""


def reference(residuals: int = 2, width: int = 8) -> Any:
    """A slim AutoencoderKLWan of diffusers, with all of Wan 2.1's parts."""
    with quiet():
        torch.manual_seed(3)
        autoencoder: Any = import_module("diffusers").AutoencoderKLWan
        made = autoencoder(base_dim=width, num_res_blocks=residuals)
    randomise(made, 3, 0.03)
    return made.eval()


def ours(vae: Any) -> WanVaeDecoder:
    return load_wan_decoder(vae.state_dict(), vae_from_diffusers(vae.config))


def latents_of(clips: int, rows: int, columns: int, frames: int = 4) -> Tensor:
    """Latents whose frames differ, so that a wrong frame in a cache shows."""
    generator = torch.Generator().manual_seed(rows)
    return 2 * torch.randn(clips, 16, frames, rows, columns, generator=generator)


def whole_clip(vae: Any, latents: Tensor) -> Tensor:
    with torch.no_grad():
        frames: Tensor = (vae.decode(latents).sample / 2 + 0.5).clamp(0, 1)
    return frames


def streamed(decoder: WanVaeDecoder, latents: Tensor) -> Tensor:
    """Frame by frame, less the first three, as the runtime plays it."""
    clips, _, frames, *grid = latents.shape
    started = torch.zeros(clips, 1)
    states = [torch.zeros(clips, channels, *grid) for channels in decoder.state_channels()]
    made = []
    for n in range(frames):
        pictures, started, *states = decoder(latents[:, :, n : n + 1], started, *states)
        made.append(pictures)
    return torch.cat(made, dim=2)[:, :, 3:]


@torch.no_grad()
@pytest.mark.parametrize("residuals", [0, 2])
def test_streamed_frames_are_those_of_the_whole_clip(residuals: int) -> None:
    vae = reference(residuals)
    for size in SIZES:
        latents = latents_of(*size)
        expected = whole_clip(vae, latents)
        assert expected.std() > 0.1  # neither grey nor all at an end
        # Sums in another order, in float32, of frames in [0, 1]; a wrong cache is off by 0.5.
        assert (streamed(ours(vae), latents) - expected).abs().max() <= 1e-5


@torch.no_grad()
def test_what_the_states_hold_at_the_start_of_a_clip_is_zeros_alone() -> None:
    """The published padding: frames that do not exist, however many steps ago the clip began."""
    vae = reference()
    latents = latents_of(1, 4, 4, frames=2)
    for frames in (1, 2):
        made = streamed(ours(vae), latents[:, :, :frames])
        assert (made - whole_clip(vae, latents[:, :, :frames])).abs().max() <= 1e-5


def original_names(vae: Any) -> dict[str, Tensor]:
    """The tensors as Wan2.1_VAE.pth names them."""
    names = {diffusers: original for _, diffusers, original in _modules(WanVaeConfig())}
    tensors = {}
    for name, tensor in vae.state_dict().items():
        module, _, kind = name.rpartition(".")
        if module in names:
            tensors[f"{names[module]}.{kind}"] = tensor
    return tensors


def test_the_original_names_are_understood_as_diffusers_understands_them() -> None:
    vae = reference()
    tensors = original_names(vae)
    with quiet():
        table = import_module("diffusers.loaders.single_file_utils")
    theirs = table.convert_wan_vae_to_diffusers(dict(tensors))
    of_decoder = {n for n in vae.state_dict() if n.startswith(("decoder.", "post_quant_conv."))}
    assert theirs.keys() == of_decoder
    decoder = load_wan_decoder({**tensors, "encoder.conv1.weight": torch.zeros(1)})
    assert decoder.config == WanVaeConfig(width=8)
    for name, tensor in ours(vae).state_dict().items():
        assert torch.equal(tensor, decoder.state_dict()[name])


def test_the_published_configuration_is_ours_by_default() -> None:
    with quiet(), torch.device("meta"):
        published = import_module("diffusers").AutoencoderKLWan()
    assert vae_from_diffusers(published.config) == WanVaeConfig()
    assert (WanVaeConfig().spatial_factor, WanVaeConfig().temporal_factor) == (8, 4)
    assert len(MEAN) == len(WanVaeConfig().std) == 16


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"is_residual": True}, "it is Wan 2.2's: give the VAE of Wan 2.1"),
        ({"patch_size": 2}, "it is Wan 2.2's"),
        ({"attn_scales": [0.5]}, "attention at scales"),
        ({"out_channels": 12}, "gives 12 channels"),
        ({"temperal_downsample": [True]}, "one resampling between each two"),
        ({"z_dim": 48}, "has not 48 means"),
        ({"base_dim": "wide"}, "is malformed"),
        ({"_class_name": "AutoencoderKLLTXVideo"}, "and not of an AutoencoderKLWan"),
    ],
)
def test_another_vae_is_refused_by_its_config(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence):
        vae_from_diffusers({"_class_name": "AutoencoderKLWan", **changed})


def test_tensors_that_do_not_fit_are_refused() -> None:
    tensors = reference().state_dict()
    with pytest.raises(CheckpointError, match="give that file, or a folder"):
        load_wan_decoder(tensors)
    config = WanVaeConfig(width=8)
    newer = {**tensors, "decoder.up_blocks.0.upsampler.resample.1.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match=r"tensor decoder\.up_blocks\.0\.upsampler.*Wan 2\.2"):
        load_wan_decoder(newer, config)
    del tensors["decoder.conv_in.bias"]
    with pytest.raises(CheckpointError, match=r"has no tensor decoder\.conv_in\.bias, which"):
        load_wan_decoder(tensors, config)
