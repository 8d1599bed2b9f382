"""The recipe `ltx-2b-distilled`: LTX-Video 2B 0.9.8, distilled, to a bundle.

Its reference makes a clip in two passes, with an upscaler of latents between them. This is the
first pass: the clip as it is before it is upscaled.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import torch

from animatic.bundle import Conditioning, Geometry, LatentStats, SamplerSpec
from animatic.schedules import LTX_PASS_1
from animatic_export.checkpoint.merge import merge
from animatic_export.checkpoint.tensors import open_tensors
from animatic_export.errors import CheckpointError
from animatic_export.family import Description, FamilyExport
from animatic_export.ltx.decoder_weights import read_latent_stats
from animatic_export.ltx.denoiser_weights import canonical
from animatic_export.ltx.graphs import ltx_decoder_plan, ltx_denoiser_plan
from animatic_export.ltx.loading import decoder_again, denoiser_again, load_decoder, load_denoiser
from animatic_export.ltx.published import decoder_config, denoiser_config, single_file_configs
from animatic_export.offer import Usual, offer
from animatic_export.parts import (
    lossless_storage,
    storage_named,
    stored_tensors,
    text_plan,
    text_plan_again,
    tiny_plan,
    tiny_plan_again,
)
from animatic_export.published import find_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from animatic.bundle import Role
    from animatic.store import OpenBundle
    from animatic_export.checkpoint.tensors import Checkpoint
    from animatic_export.graph import GraphPlan
    from animatic_export.ltx.config import LtxDecoderConfig, LtxDenoiserConfig
    from animatic_export.published import PublishedModel
    from animatic_export.recipe import Export, Recipe, Request

METHOD: Final = 1
"""Raised when the same checkpoint gives another bundle, so that old ones are made again."""
FPS: Final = 30
"""Frames per second of Lightricks' own script since 0.9.6; the denoiser is told (`ltx.config`)."""
PROMPT_TOKENS: Final = 256
"""`max_sequence_length` of Lightricks' pipeline, and of diffusers' LTXConditionPipeline."""
DECODE_NOISE: Final = 0.025
"""`decode_noise_scale` of Lightricks' configs/ltxv-2b-0.9.8-distilled.yaml."""
BASE: Final = "Lightricks/LTX-Video"
USUAL: Final = Usual(
    preview=(512, 288),
    work=(768, 448),
    final=(1216, 704),
    frames=(121, 97, 65, 41, 25),
    multiple=32,
    temporal_factor=8,
)
"""1216x704 and 121 frames are the defaults of Lightricks' own script; the smaller are cheaper."""


class LtxRecipe:
    """LTX-Video 2B 0.9.8, distilled."""

    name = "ltx-2b-distilled"
    options = frozenset({"base", "tiny_decoder", "adapters", "sizes", "frames"})

    def prepare(self, request: Request) -> Export:
        """Find the parts, match LoRAs with the denoiser, settle sizes and lengths."""
        published = find_model(self.name, request, BASE, has_vae=True)
        config, vae = _configs(published)
        tensors = merge(published.denoiser, published.adapters, canonical)
        source = _vae(published)
        mean, std = read_latent_stats(source, vae)
        stats = LatentStats(mean=mean, std=std, decode_noise=DECODE_NOISE)
        offered = offer(request, USUAL)
        about = Description(
            family=self.name,
            text="Photoreal clips from a sentence: LTX-Video of 2 billion parameters, distilled.",
            method=METHOD,
            geometry=Geometry(
                spatial_factor=vae.spatial_factor,
                temporal_factor=vae.temporal_factor,
                latent_channels=vae.latent_channels,
                sizes=offered.sizes,
                frame_counts=offered.frames,
                block_latent_frames=offered.longest(vae.temporal_factor),
                native_fps=f"{FPS}/1",
                decoder_trim=vae.temporal_factor - 1,
            ),
            latents=stats,
            conditioning=Conditioning(text=True, keyframes=False, context=False),
            sampler=SamplerSpec(kind="euler", sigmas=LTX_PASS_1),
            tiers=offered.tiers,
            prompt_tokens=PROMPT_TOKENS,
            states_length=0,
            clean_prompts=False,
            adapters=tensors.adapters,
        )

        def denoiser() -> GraphPlan:
            return ltx_denoiser_plan(load_denoiser(tensors, config), lossless_storage(tensors))

        def decoder() -> GraphPlan:
            return ltx_decoder_plan(load_decoder(source, vae), lossless_storage(source))

        plans: list[Callable[[], GraphPlan]] = [denoiser, decoder]
        if published.tiny_decoder is not None:
            plans.append(partial(tiny_plan, published.tiny_decoder, stats))
        # Its file is 19 GB in float32, and Lightricks' own code computes in bfloat16.
        plans.append(partial(text_plan, published, PROMPT_TOKENS, torch.bfloat16))
        return FamilyExport(published, request, about, tuple(plans))

    def plan(self, opened: OpenBundle, role: Role) -> GraphPlan:
        """Plan a graph of the bundle again."""
        if role == "text_encoder":
            return text_plan_again(opened)
        if role == "tiny_decoder":
            return tiny_plan_again(opened)
        graph = opened.bundle.graph(role)
        weights, storage = stored_tensors(opened, role), storage_named(graph.precision)
        if role == "denoiser":
            return ltx_denoiser_plan(denoiser_again(graph.architecture, weights), storage)
        return ltx_decoder_plan(decoder_again(graph.architecture, weights), storage)


def _vae(published: PublishedModel) -> Checkpoint:
    """The tensors that hold the VAE: a single file's own, or the base's."""
    if published.is_single_file:
        return published.denoiser
    return open_tensors(published.base / "vae")


def _configs(published: PublishedModel) -> tuple[LtxDenoiserConfig, LtxDecoderConfig]:
    if published.is_single_file:
        return single_file_configs(published.denoiser.metadata, FPS)
    denoiser, vae = published.config("transformer"), published.config("vae")
    if denoiser is None or vae is None:
        raise CheckpointError(
            f"{published.checkpoint} lacks the config.json of its transformer or VAE: fetch it "
            "again."
        )
    return denoiser_config(denoiser, FPS), decoder_config(vae)


RECIPES: Final[Mapping[str, Recipe]] = {"ltx-2b-distilled": LtxRecipe()}
