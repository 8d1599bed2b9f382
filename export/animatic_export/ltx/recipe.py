"""The recipe `ltx-2b-distilled`: LTX-Video 2B 0.9.8, distilled, to a bundle.

Its reference makes a clip in two passes, with an upscaler of latents between them. This is the
first pass: the clip as it is before it is upscaled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
import torch

from animatic.bundle import Conditioning, Geometry, LatentStats, SamplerSpec
from animatic.schedules import LTX_PASS_1
from animatic_export.checkpoint.merge import merge
from animatic_export.errors import CheckpointError
from animatic_export.family import Description, FamilyExport
from animatic_export.ltx.decoder_weights import read_latent_stats
from animatic_export.ltx.denoiser_weights import canonical
from animatic_export.ltx.graphs import ltx_decoder_plan, ltx_denoiser_plan
from animatic_export.ltx.loading import decoder_again, denoiser_again, load_decoder, load_denoiser
from animatic_export.ltx.published import (
    decoder_config,
    denoiser_config,
    says_distilled,
    single_file_configs,
)
from animatic_export.offer import Usual, offer
from animatic_export.parts import (
    Part,
    TextEncoder,
    lossless_storage,
    storage_named,
    stored_tensors,
    text_part,
    text_plan_again,
    tiny_part,
    tiny_plan_again,
)
from animatic_export.published import Whereabouts, find_model
from animatic_export.t5.config import read_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from animatic.bundle import Role
    from animatic.store import OpenBundle
    from animatic_export.checkpoint.tensors import Tensors
    from animatic_export.graph import GraphPlan
    from animatic_export.ltx.config import LtxDecoderConfig, LtxDenoiserConfig
    from animatic_export.ltx.denoiser import LtxDenoiser
    from animatic_export.ltx.vae_decoder import LtxVaeDecoder
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
        published = find_model(self.name, request, Whereabouts(BASE, BASE, _judge, has_vae=True))
        config, vae = _configs(published)
        tensors = merge(published.denoiser, published.adapters, canonical)
        mean, std = read_latent_stats(published.vae, vae)
        stats = LatentStats(mean=mean, std=std, decode_noise=DECODE_NOISE)
        offered = offer(request, USUAL)
        geometry = Geometry(
            spatial_factor=vae.spatial_factor,
            temporal_factor=vae.temporal_factor,
            latent_channels=vae.latent_channels,
            sizes=offered.sizes,
            frame_counts=offered.frames,
            block_latent_frames=offered.longest(vae.temporal_factor),
            native_fps=f"{FPS}/1",
            decoder_trim=vae.temporal_factor - 1,
        )
        # Its file is 19 GB in float32, and Lightricks' own code computes in bfloat16.
        wanted = TextEncoder("LTX-Video", "T5", config.text_width, PROMPT_TOKENS, torch.bfloat16)
        text, text_config = text_part(published, wanted)
        about = Description(
            family=self.name,
            text=f"Photoreal clips from a sentence in few steps: {config.title}.",
            method=METHOD,
            geometry=geometry,
            latents=stats,
            conditioning=Conditioning(text=True, keyframes=False, context=False),
            sampler=SamplerSpec(kind="euler", sigmas=LTX_PASS_1),
            tiers=offered.tiers,
            prompt_tokens=PROMPT_TOKENS,
            states_length=0,
            clean_prompts=False,
            architectures=tuple(
                msgspec.json.encode(shape).decode() for shape in (config, vae, text_config)
            ),
            adapters=tensors.adapters,
        )
        parts: list[Part[Any]] = [_denoiser(tensors, config), _decoder(published.vae, vae)]
        if published.tiny_decoder is not None:
            parts.append(tiny_part(published.tiny_decoder, stats, geometry))
        return FamilyExport(published, request, about, (*parts, text), tuple(_warnings(published)))

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


def _denoiser(tensors: Tensors, config: LtxDenoiserConfig) -> Part[LtxDenoiser]:
    storage = lossless_storage(tensors)
    return Part(
        tensors,
        lambda given: load_denoiser(given, config),
        lambda module: ltx_denoiser_plan(module, storage),
        storage,
    )


def _decoder(tensors: Tensors, config: LtxDecoderConfig) -> Part[LtxVaeDecoder]:
    storage = lossless_storage(tensors)
    return Part(
        tensors,
        lambda given: load_decoder(given, config),
        lambda module: ltx_decoder_plan(module, storage),
        storage,
    )


def _warnings(published: PublishedModel) -> Iterator[str]:
    if published.is_single_file and not says_distilled(published.denoiser.metadata):
        yield (
            f"{published.checkpoint.name}: nothing in it says that it is distilled "
            "(allowed_inference_steps, which Lightricks' own loader reads); one that is not makes "
            "no picture in so few steps"
        )
    if published.tiny_decoder is not None:
        yield (
            f"{published.tiny_decoder.path.name}: TAEHV files of 128 channels are known for LTX-2 "
            "alone; nothing says that this one draws LTX-Video's latents, so compare its clips "
            "with --decoder vae"
        )


def _judge(configs: Mapping[str, Mapping[str, object]]) -> None:
    """Refuse another model's configs."""
    readers: dict[str, Callable[[Mapping[str, object]], object]] = {
        "transformer": denoiser_config,
        "vae": decoder_config,
        "text_encoder": read_config,
    }
    for part, read in readers.items():
        if part in configs:
            read(configs[part])


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
