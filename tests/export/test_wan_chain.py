"""Wan 2.1 through the whole house: `animatic export`, then the runtime, against diffusers.

Marked slow: an export of four graphs takes a minute.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import pytest
from safetensors.torch import save_file

from animatic import Pipeline, Shot
from animatic.store import open_bundle, write_bundle
from animatic_export.wan.samplers import SAMPLERS
from tests.export import chains, taehv_reference
from tests.export.published import quiet, wan_pipeline
from tests.export.taehv_reference import WAN as WAN_TAEHV

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

PROMPT = "a red truck drives left through a desert at dawn"
SEED = 3
SIDE, FRAMES, SHAPE = 64, 9, (1, 16, 3, 8, 8)


class Wan(NamedTuple):
    pipeline: Any
    published: Path
    bundle: Path


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Wan:
    """A tiny Wan 2.1 as it is published, and our bundle of it."""
    folder = tmp_path_factory.mktemp("wan")
    pipeline = wan_pipeline(folder / "published")
    tiny = {
        name: t.clone() for name, t in taehv_reference.reference(WAN_TAEHV).state_dict().items()
    }
    save_file(tiny, folder / "taew2_1.safetensors")
    chains.export(
        *("wan2.1-1.3b", "--checkpoint", folder / "published", "--sampler", "base"),
        *("--tiny-decoder", folder / "taew2_1.safetensors"),
        *("--size", f"{SIDE}x{SIDE},32x32", "--frames", str(FRAMES), "--out", folder / "bundle"),
    )
    return Wan(pipeline, folder / "published", folder / "bundle")


def ours(bundle: Path, shot: Shot) -> np.ndarray:
    with Pipeline.open(bundle) as pipeline:
        return pipeline.clip(shot)


def test_the_base_model_with_guidance_makes_the_picture_of_diffusers(wan: Wan) -> None:
    made = ours(
        wan.bundle, Shot(PROMPT, seed=SEED, steps=20, negative_prompt="snow, grey", decoder="vae")
    )
    with quiet():
        reference = wan.pipeline(
            PROMPT,
            negative_prompt="snow, grey",
            height=SIDE,
            width=SIDE,
            num_frames=FRAMES,
            num_inference_steps=20,
            guidance_scale=5.0,
            latents=chains.initial(SEED, SHAPE),
            output_type="np",
        ).frames[0]
    assert chains.psnr(made, (reference * 255).round().astype(np.uint8)) > chains.FLOOR_DB


SELF_FORCING_LEVELS = (1.0, 0.9375, 0.833333333333333, 0.625)  # shift 5 of 1, .75, .5, .25


@pytest.mark.parametrize(
    ("name", "sample"),
    [
        ("fastwan-3", chains.fastwan),
        ("rcm-4", chains.rcm),
        ("lightx2v-4", chains.euler(SELF_FORCING_LEVELS)),
    ],
)
def test_each_distilled_sampler_makes_the_picture_of_its_reference(
    wan: Wan, tmp_path: Path, name: str, sample: Any
) -> None:
    # The graphs are the same under every sampler: only bundle.json says which it is.
    bundle = shutil.copytree(wan.bundle, tmp_path / "bundle")
    model = open_bundle(bundle, verify=False).bundle
    write_bundle(bundle, msgspec.structs.replace(model, sampler=SAMPLERS[name]))
    latents = chains.wan_latents(wan.pipeline, PROMPT, chains.initial(SEED, SHAPE), sample, SEED)
    made = ours(bundle, Shot(PROMPT, seed=SEED, decoder="vae"))
    assert chains.psnr(made, chains.wan_pictures(wan.pipeline.vae, latents)) > chains.FLOOR_DB
    tiny = ours(bundle, Shot(PROMPT, seed=SEED, decoder="tiny"))
    frames = taehv_reference.reference(WAN_TAEHV)(latents)[0]
    assert chains.psnr(tiny, chains.to_pixels(frames * 2 - 1)) > chains.FLOOR_DB


def test_every_graph_can_be_planned_again_from_the_bundle(wan: Wan) -> None:
    assert chains.planned_again(wan.bundle) == {
        "denoiser",
        "vae_decoder",
        "tiny_decoder",
        "text_encoder",
    }


def test_the_bundle_says_what_it_is(wan: Wan) -> None:
    bundle = open_bundle(wan.bundle).bundle  # every file is there and has its hash
    assert {tier.name: tier.decoder for tier in bundle.tiers} == {
        "preview": "tiny_decoder",
        "final": "vae_decoder",
    }
    assert (bundle.text.states_length, bundle.text.costly) == (512, True)
    assert bundle.provenance.command == (
        "animatic export wan2.1-1.3b --checkpoint published --sampler base --tiny-decoder "
        "taew2_1.safetensors --size 64x64,32x32 --frames 9 --out bundle"
    )
    said = chains.export(
        *("wan2.1-1.3b", "--checkpoint", wan.published, "--sampler", "base"),
        *("--tiny-decoder", wan.published.parent / "taew2_1.safetensors"),
        *("--size", f"{SIDE}x{SIDE},32x32", "--frames", str(FRAMES), "--out", wan.bundle),
    )
    assert "already" in said  # nothing changed, so nothing is done again
