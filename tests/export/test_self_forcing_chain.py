"""Self-Forcing through the whole house: a trainer's .pt beside a base, against plain torch."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch

from animatic import Pipeline, Shot
from animatic_export.wan.config import WanConfig, from_diffusers
from tests.export import chains
from tests.export.published import wan_pipeline
from tests.export.wan.self_forcing import SelfForcing
from tests.export.wan.toy import original_weights

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

PROMPT = "WS, white horse, galloping right"
SEED, WIDTH, HEIGHT, FRAMES, WINDOW = 5, 48, 32, 33, 6
BLOCK = (1, 16, 3, HEIGHT // 8, WIDTH // 8)
LEVELS = (1.0, 0.9375, 0.833333333333333, 0.625)  # shift 5 of 1, .75, .5, .25


class Causal(NamedTuple):
    pipeline: Any
    config: WanConfig
    weights: dict[str, torch.Tensor]
    bundle: Path


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Causal:
    """A tiny Self-Forcing as its authors publish it, beside a base, and our bundle of both."""
    folder = tmp_path_factory.mktemp("causal")
    pipeline = wan_pipeline(folder / "base")
    config = from_diffusers(json.loads((folder / "base/transformer/config.json").read_bytes()))
    weights = original_weights(config)
    file = folder / "self_forcing_dmd.pt"
    torch.save({"generator_ema": {f"model.{name}": t for name, t in weights.items()}}, file)
    chains.export(
        *("wan2.1-1.3b-self-forcing", "--checkpoint", file, "--base", folder / "base"),
        *("--size", f"{WIDTH}x{HEIGHT}", "--frames", str(FRAMES), "--window", str(WINDOW)),
        *("--out", folder / "bundle"),
    )
    return Causal(pipeline, config, weights, folder / "bundle")


@torch.no_grad()
def reference(causal: Causal) -> np.ndarray:
    """The frames of Self-Forcing's CausalInferencePipeline, on our noise."""
    states = causal.pipeline.encode_prompt(
        PROMPT, do_classifier_free_guidance=False, max_sequence_length=512
    )[0]
    model = SelfForcing(causal.weights, causal.config, WINDOW)
    clean = []
    for block in range(3):
        x = x0 = chains.initial(SEED, BLOCK, block)
        for step, now in enumerate(LEVELS):
            velocity = model.run(x, torch.full((1, 3), 1000 * now), states, 3 * block)
            x0 = (x.double() - now * velocity.double()).float()
            if step + 1 < len(LEVELS):
                noise = chains.fresh(SEED, BLOCK, step, block)
                x = (1 - LEVELS[step + 1]) * x0 + LEVELS[step + 1] * noise
        model.run(x0, torch.zeros(1, 3), states, 3 * block)
        clean.append(x0)
    return chains.wan_pictures(causal.pipeline.vae, torch.cat(clean, dim=2))


def test_blocks_with_their_cache_make_the_picture_of_the_reference(causal: Causal) -> None:
    with Pipeline.open(causal.bundle) as pipeline:
        made = pipeline.clip(Shot(PROMPT, seed=SEED))
    assert chains.psnr(made, reference(causal)) > chains.FLOOR_DB


def test_a_clip_goes_on_beyond_the_length_it_was_exported_with(causal: Causal) -> None:
    with Pipeline.open(causal.bundle) as pipeline:
        longer = pipeline.clip(Shot(PROMPT, seed=SEED, frames=FRAMES + 12))
        shorter = pipeline.clip(Shot(PROMPT, seed=SEED))
    assert len(longer) == FRAMES + 12
    # The same clip as far as both go: what comes later changes nothing before it.
    np.testing.assert_array_equal(longer[:FRAMES], shorter)


def test_every_graph_can_be_planned_again_from_the_bundle(causal: Causal) -> None:
    assert chains.planned_again(causal.bundle) == {"denoiser", "vae_decoder", "text_encoder"}
