from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from animatic_export.errors import CheckpointError
from animatic_export.typed import typed_module
from animatic_export.wan.config import WAN_1_3B, from_diffusers
from animatic_export.wan.loading import load_denoiser
from tests.export.wan.toy import CONFIG, inputs, original_weights, reference, relative_error

if TYPE_CHECKING:
    from animatic_export.wan.denoiser import WanDenoiser

PUBLISHED = {  # transformer/config.json of Wan-AI/Wan2.1-T2V-1.3B-Diffusers
    "_class_name": "WanTransformer3DModel",
    "_diffusers_version": "0.33.0.dev0",
    "added_kv_proj_dim": None,
    "attention_head_dim": 128,
    "cross_attn_norm": True,
    "eps": 1e-06,
    "ffn_dim": 8960,
    "freq_dim": 256,
    "image_dim": None,
    "in_channels": 16,
    "num_attention_heads": 12,
    "num_layers": 30,
    "out_channels": 16,
    "patch_size": [1, 2, 2],
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 1024,
    "text_dim": 4096,
}


@pytest.fixture(scope="module")
def denoiser() -> WanDenoiser:
    return load_denoiser(original_weights(), CONFIG)


@pytest.mark.parametrize("shape", [(2, 16, 3, 4, 6), (1, 16, 2, 10, 4)])
@torch.no_grad()
def test_the_velocity_is_that_of_diffusers(denoiser: WanDenoiser, shape: tuple[int, ...]) -> None:
    latents, text = inputs(*shape)
    timesteps = torch.tensor([757.0, 521.7])[: shape[0]]
    theirs = reference()(latents, timesteps, text).sample
    ours = denoiser(latents, timesteps[:, None].expand(-1, shape[2]), text)
    # Both compute in float32, in other orders; a channel out of place is off by 1e-2 or more.
    assert relative_error(ours, theirs) < 1e-5


@torch.no_grad()
def test_a_clip_has_one_timestep_its_first(denoiser: WanDenoiser) -> None:
    latents, text = inputs(1, 16, 3, 4, 4)
    same = denoiser(latents, torch.full((1, 3), 800.0), text)
    others = denoiser(latents, torch.tensor([[800.0, 1.0, 2.0]]), text)
    assert torch.equal(same, others)
    assert not torch.equal(same, denoiser(latents, torch.full((1, 3), 801.0), text))


def test_a_published_config_is_read() -> None:
    assert from_diffusers(PUBLISHED) == WAN_1_3B
    assert WAN_1_3B.title == "Wan2.1-1.3B"
    assert CONFIG.title == "Wan 2.1 of 2 layers and width 32"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"_class_name": "WanVACETransformer3DModel"}, "is of a WanVACETransformer3DModel and not"),
        ({"image_dim": 1280}, r"wants a picture beside the text \(it is an image-to-video model\)"),
        ({"added_kv_proj_dim": 5120}, "wants a picture beside the text"),
        ({"in_channels": 36}, "takes 36 channels and gives 16"),
        ({"patch_size": [1, 1, 1]}, r"patches of \(1, 1, 1\) and not of \(1, 2, 2\)"),
        ({"qk_norm": "rms_norm"}, "normalises queries and keys by rms_norm and not across heads"),
        ({"qk_norm": None}, "normalises queries and keys by None"),
        ({"cross_attn_norm": False}, "does not normalise before its attention to the text"),
        ({"attention_head_dim": 15}, "has heads of 15 channels, an odd number"),
        ({"num_layers": "thirty"}, r"is malformed \(Expected `int`, got `str` - at `\$.num_layers"),
    ],
)
def test_another_model_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        from_diffusers(PUBLISHED | change)


def test_norms_positions_timesteps_and_modulation_stay_wide(denoiser: WanDenoiser) -> None:
    half = typed_module(denoiser, torch.float16)
    wide = {n for n, p in half.named_parameters() if p.dtype == torch.float32}
    blocks = {n.removeprefix("blocks.0.") for n in wide if n.startswith("blocks.0.")}
    assert blocks == {
        "offset",
        "query_gain",
        "key_gain",
        "text_norm.weight",
        "text_norm.bias",
        "text_query_gain",
        "text_key_gain",
    }
    assert {n.split(".")[0] for n in wide} == {"blocks", "time", "modulation", "final_offset"}
    assert {buffer.dtype for buffer in half.buffers()} == {torch.float32}
