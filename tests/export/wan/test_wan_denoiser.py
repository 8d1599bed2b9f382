from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import torch

from animatic_export.errors import CheckpointError
from animatic_export.graph import ExportedGraph, export_graph
from animatic_export.stored_weights import StoredWeights
from animatic_export.typed import typed_module, typed_plan
from animatic_export.wan.config import WAN_1_3B, from_diffusers
from animatic_export.wan.graphs import denoiser_plan
from animatic_export.wan.loading import denoiser_again, load_denoiser
from animatic_export.weights import storage_of
from tests.export.wan.compiled import compiled
from tests.export.wan.toy import CONFIG, inputs, original_weights, reference, relative_error

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.slow
def test_a_graph_is_what_torch_computes_and_gives_the_module_back(
    denoiser: WanDenoiser, tmp_path: Path
) -> None:
    plan = denoiser_plan(denoiser, storage_of(torch.float32))
    exported = export_graph(plan, tmp_path)
    assert exported.error < plan.tolerance
    assert exported.spec.inputs[0].shape == ("batch", 16, "frames", "rows", "columns")
    assert exported.spec.inputs[2].shape == ("batch", 20, 24)
    stored = StoredWeights.open(tmp_path / exported.spec.file)
    weights = {name: torch.from_numpy(stored[name].copy()) for name in stored}
    again = denoiser_again(exported.spec.architecture, weights)
    assert again.config == CONFIG
    assert all(torch.equal(again.state_dict()[n], t) for n, t in denoiser.state_dict().items())


def half_graph(folder: Path) -> ExportedGraph:
    """In float16 with heads of 64 channels: the compiler fuses attention for real widths."""
    config = msgspec.structs.replace(CONFIG, head_width=64, ffn_width=256)
    plan = denoiser_plan(load_denoiser(original_weights(config), config), storage_of(torch.float32))
    return export_graph(typed_plan(plan, "fp16", "origin"), folder)


@pytest.mark.slow
def test_half_precision_stays_near_and_every_attention_is_one_kernel(tmp_path: Path) -> None:
    exported = half_graph(tmp_path)
    assert 0 < exported.error < 1e-2
    layers, warnings = compiled(exported.spec, tmp_path)
    assert layers.attentions == {"float16": 2 * CONFIG.layers}
    assert warnings == ()
