"""Published configs to the shapes of our networks, and what is refused of them."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec
import pytest

from animatic_export.errors import CheckpointError
from animatic_export.ltx.config import LtxDecoderConfig, LtxDenoiserConfig
from animatic_export.ltx.published import decoder_config, denoiser_config, single_file_configs
from tests.export.ltx.published import published

# In the form of the metadata of Lightricks' single files, as github.com/Lightricks/LTX-Video has it
# in ltx_video/utils/diffusers_config_mapping.py, and with the layout of version 0.9.5 which
# diffusers' scripts/convert_ltx_to_diffusers.py has.
TRANSFORMER: Final[dict[str, Any]] = {
    "_class_name": "Transformer3DModel",
    "activation_fn": "gelu-approximate",
    "attention_bias": True,
    "attention_head_dim": 64,
    "caption_channels": 4096,
    "causal_temporal_positioning": True,
    "cross_attention_dim": 2048,
    "in_channels": 128,
    "norm_elementwise_affine": False,
    "norm_eps": 1e-06,
    "num_attention_heads": 32,
    "num_layers": 28,
    "num_vector_embeds": None,
    "out_channels": 128,
    "positional_embedding_max_pos": [20, 2048, 2048],
    "positional_embedding_theta": 10000.0,
    "positional_embedding_type": "rope",
    "qk_norm": "rms_norm",
    "standardization_norm": "rms_norm",
    "timestep_scale_multiplier": 1000,
}
BLOCKS: Final[list[Any]] = [
    ["res_x", {"num_layers": 5, "inject_noise": False}],
    ["compress_all", {"residual": True, "multiplier": 2}],
    ["res_x", {"num_layers": 5, "inject_noise": False}],
    ["compress_all", {"residual": True, "multiplier": 2}],
    ["res_x", {"num_layers": 5, "inject_noise": False}],
    ["compress_all", {"residual": True, "multiplier": 2}],
    ["res_x", {"num_layers": 5, "inject_noise": False}],
]
VAE: Final[dict[str, Any]] = {
    "_class_name": "CausalVideoAutoencoder",
    "dims": 3,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 128,
    "decoder_blocks": BLOCKS,
    "scaling_factor": 1.0,
    "norm_layer": "pixel_norm",
    "patch_size": 4,
    "latent_log_var": "uniform",
    "use_quant_conv": False,
    "causal_decoder": False,
    "timestep_conditioning": True,
}
# Of diffusers' scripts/convert_ltx_to_diffusers.py, version 0.9.5.
DIFFUSERS_VAE: Final[dict[str, Any]] = {
    "_class_name": "AutoencoderKLLTXVideo",
    "latent_channels": 128,
    "decoder_block_out_channels": [256, 512, 1024],
    "decoder_layers_per_block": [5, 5, 5, 5],
    "decoder_spatio_temporal_scaling": [True, True, True],
    "decoder_inject_noise": [False, False, False, False],
    "upsample_residual": [True, True, True],
    "upsample_factor": [2, 2, 2],
    "timestep_conditioning": True,
    "patch_size": 4,
    "patch_size_t": 1,
    "scaling_factor": 1.0,
    "decoder_causal": False,
}


def test_a_single_file_says_what_it_is() -> None:
    config = {"transformer": TRANSFORMER, "vae": VAE, "scheduler": {}}
    found = single_file_configs({"config": json.dumps(config)}, 30.0)
    assert found == (LtxDenoiserConfig(frame_rate=30.0), LtxDecoderConfig())
    assert (found[1].temporal_factor, found[1].spatial_factor) == (8, 32)


def test_a_single_file_that_says_nothing_is_the_2b() -> None:
    assert single_file_configs({}) == (LtxDenoiserConfig(), LtxDecoderConfig())
    found = single_file_configs({"config": "{}", "modelspec.title": "mine"})
    assert found == (LtxDenoiserConfig(), LtxDecoderConfig())


def test_diffusers_folders_say_the_same(transformer: Any) -> None:
    assert decoder_config(DIFFUSERS_VAE) == LtxDecoderConfig()
    whole = {**published(transformer), "num_layers": 28, "num_attention_heads": 32}
    whole |= {"attention_head_dim": 64, "cross_attention_dim": 2048, "caption_channels": 4096}
    whole |= {"in_channels": 128, "out_channels": 128}
    assert denoiser_config(whole) == LtxDenoiserConfig()


def test_an_older_single_file_counts_positions_as_it_did() -> None:
    older = {key: value for key, value in TRANSFORMER.items() if not key.startswith("causal")}
    wanted = msgspec.structs.replace(LtxDenoiserConfig(), causal_positions=False)
    assert denoiser_config(older) == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "LTX2VideoTransformer3DModel"}, "is of a LTX2VideoTransformer3DModel and"),
        ({"activation_fn": "geglu"}, "transformer has activation_fn = 'geglu' and not 'gelu-app"),
        ({"qk_norm": "layer_norm"}, "transformer has qk_norm = 'layer_norm' and not 'rms_norm'"),
        ({"cross_attention_dim": 4096}, "transformer is 2048 wide and its text 4096, which is"),
        ({"out_channels": 64}, "transformer takes 128 channels and gives 64, which is another"),
        ({"num_layers": "many"}, r"malformed \(Expected `int`, got `str` - at `\$.num_layers`\)"),
    ],
)
def test_another_transformer_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        denoiser_config({**TRANSFORMER, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "AutoencoderKLWan"}, "of the VAE is of a AutoencoderKLWan and not of a A"),
        ({"timestep_conditioning": False}, "VAE has timestep_conditioning = False and not True"),
        ({"decoder_causal": True}, "VAE has decoder_causal = True and not False, which is another"),
        ({"decoder_inject_noise": [True, False, False, False]}, "adds noise to its layers"),
        ({"upsample_residual": [True, False, True]}, "a step that does not double the clip"),
        ({"upsample_factor": [2, 2]}, "lists different numbers of steps"),
        ({"decoder_block_out_channels": [128, 512, 1024]}, "changes its width within a residual"),
        ({"patch_size": None}, "malformed"),
    ],
)
def test_another_vae_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        decoder_config({**DIFFUSERS_VAE, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"spatial_padding_mode": "reflect"}, "spatial_padding_mode = 'reflect' and not 'zeros'"),
        ({"norm_layer": "group_norm"}, "norm_layer = 'group_norm' and not 'pixel_norm'"),
        ({"decoder_blocks": [["res_x", 4], ["res_x_y", 1]]}, "decoder is made of res_x, res_x_y"),
        ({"decoder_blocks": [["res_x", {"inject_noise": True}]]}, "adds noise to its layers"),
        ({"decoder_blocks": [["res_x", 1], ["compress_all", {}], ["res_x", 1]]}, "not double"),
    ],
)
def test_another_vae_in_a_single_file_is_refused(change: dict[str, Any], message: str) -> None:
    metadata = {"config": json.dumps({"vae": {**VAE, **change}})}
    with pytest.raises(CheckpointError, match=message):
        single_file_configs(metadata)


def test_metadata_that_is_no_json_is_refused() -> None:
    with pytest.raises(CheckpointError, match="config of the checkpoint is malformed"):
        single_file_configs({"config": "{"})
