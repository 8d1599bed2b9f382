"""LTX-Video through the whole house, from a single file and from a folder, against diffusers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from safetensors.torch import save_file

from animatic import Pipeline, Shot
from animatic.noise import NoiseStream
from tests.export import chains
from tests.export.ltx import published as ltx
from tests.export.published import quiet, t5_encoder, t5_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

pytestmark = pytest.mark.slow

PROMPT = "close-up of a blue ball rolling toward the camera"
SEED, WIDTH, HEIGHT, FRAMES = 7, 96, 64, 17
SHAPE = (1, ltx.CHANNELS, 3, HEIGHT // 32, WIDTH // 32)
LEVELS = (1.0, 0.9937, 0.9875, 0.9812, 0.975, 0.9094, 0.725)  # its config's first pass
DECODE_TIMESTEP, DECODE_NOISE = 0.05, 0.025
FRAME_RATE = 30
# What the metadata of Lightricks' single files says, for the shapes of tests.export.ltx.published.
CONFIG = {
    "transformer": {
        "_class_name": "Transformer3DModel",
        "attention_head_dim": 16,
        "caption_channels": ltx.TEXT_WIDTH,
        "causal_temporal_positioning": True,
        "cross_attention_dim": 32,
        "in_channels": ltx.CHANNELS,
        "num_attention_heads": 2,
        "num_layers": 2,
    },
    "vae": {
        "_class_name": "CausalVideoAutoencoder",
        "decoder_base_channels": 8,
        "decoder_blocks": [
            ["res_x", {"num_layers": 1}],
            ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 2}],
            ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 1}],
            ["compress_all", {"residual": True, "multiplier": 2}],
            ["res_x", {"num_layers": 2}],
        ],
        "latent_channels": ltx.CHANNELS,
        "norm_layer": "pixel_norm",
        "timestep_conditioning": True,
    },
}


class Ltx(NamedTuple):
    transformer: Any
    vae: Any
    text: Any
    tokenizer: Any
    bundle: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Ltx:
    """A tiny LTX-Video as a single file with a base, and our bundle of both."""
    folder = tmp_path_factory.mktemp("ltx")
    transformer, vae = ltx.transformer(), ltx.vae()
    # The recipe keeps the text encoder's matrices in bfloat16, as its authors compute in it.
    text = t5_encoder("t5", ltx.TEXT_WIDTH).bfloat16().float()
    tokenizer = t5_tokenizer(folder / "base/tokenizer", fast=False)
    with quiet():
        text.save_pretrained(folder / "base/text_encoder")
    file = folder / "ltxv-2b-0.9.8-distilled.safetensors"
    save_file(ltx.single_file(transformer, vae), file, {"config": json.dumps(CONFIG)})
    chains.export(
        *("ltx-2b-distilled", "--checkpoint", file, "--base", folder / "base"),
        *("--size", f"{WIDTH}x{HEIGHT}", "--frames", str(FRAMES), "--out", folder / "bundle"),
    )
    return Ltx(transformer, vae, text, tokenizer, folder / "bundle")


@torch.no_grad()
def reference(made: Ltx) -> np.ndarray:
    """What diffusers' parts make of it, in the order of LTXConditionPipeline."""
    tokens = made.tokenizer(PROMPT, return_tensors="pt")
    states = made.text(tokens.input_ids, tokens.attention_mask).last_hidden_state
    frames, rows, columns = SHAPE[2:]
    coordinates = video_coordinates(frames, rows, columns)

    def velocity(x: torch.Tensor, timestep: float) -> torch.Tensor:
        packed = x.permute(0, 2, 3, 4, 1).flatten(1, 3)
        v = made.transformer(
            hidden_states=packed,
            encoder_hidden_states=states,
            timestep=torch.tensor([timestep]),
            encoder_attention_mask=torch.ones(1, states.shape[1]),
            video_coords=coordinates,
        ).sample
        unpacked: torch.Tensor = v.view(1, frames, rows, columns, -1).permute(0, 4, 1, 2, 3)
        return unpacked

    latents = chains.euler(LEVELS)(velocity, chains.initial(SEED, SHAPE), SEED)
    # Before they are made raw again, as in Lightricks' own pipeline; diffusers mixes after that.
    noise = torch.from_numpy(NoiseStream(SEED, 0).decode(0, SHAPE))
    latents = (1 - DECODE_NOISE) * latents + DECODE_NOISE * noise
    mean, std = (v.view(1, -1, 1, 1, 1) for v in (made.vae.latents_mean, made.vae.latents_std))
    raw = latents * std + mean
    return chains.to_pixels(made.vae.decode(raw, torch.tensor([DECODE_TIMESTEP])).sample[0])


def video_coordinates(frames: int, rows: int, columns: int) -> torch.Tensor:
    """Where latent cells begin in the clip, as LTXConditionPipeline._prepare_video_ids counts."""
    grid = torch.stack(
        torch.meshgrid(
            torch.arange(frames), torch.arange(rows), torch.arange(columns), indexing="ij"
        )
    ).float()
    scaled = grid * torch.tensor([8.0, 32.0, 32.0]).view(3, 1, 1, 1)
    scaled[0] = (scaled[0] + 1 - 8).clamp(min=0) / FRAME_RATE
    return scaled.flatten(1)[None]


def test_the_picture_is_that_of_diffusers(made: Ltx) -> None:
    with Pipeline.open(made.bundle) as pipeline:
        ours = pipeline.clip(Shot(PROMPT, seed=SEED))
    assert chains.psnr(ours, reference(made)) > chains.FLOOR_DB


def test_every_graph_can_be_planned_again_from_the_bundle(made: Ltx) -> None:
    assert chains.planned_again(made.bundle) == {"denoiser", "vae_decoder", "text_encoder"}
