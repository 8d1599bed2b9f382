"""The recipes `wan2.1-1.3b` and `wan2.1-1.3b-self-forcing`: published checkpoints to a bundle."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from animatic.bundle import Conditioning, Geometry, LatentStats
from animatic_export.checkpoint.merge import merge
from animatic_export.checkpoint.tensors import open_tensors
from animatic_export.errors import CheckpointError
from animatic_export.family import Description, FamilyExport
from animatic_export.offer import Usual, offer
from animatic_export.parts import lossless_storage, text_plan, tiny_plan
from animatic_export.published import find_model
from animatic_export.wan.again import plan_again
from animatic_export.wan.config import WAN_1_3B, CausalConfig, from_diffusers
from animatic_export.wan.graphs import causal_plan, denoiser_plan
from animatic_export.wan.loading import load_causal_denoiser, load_denoiser
from animatic_export.wan.names import canonical
from animatic_export.wan.samplers import SELF_FORCING_SAMPLER, choose_sampler
from animatic_export.wan.vae_graph import wan_decoder_plan
from animatic_export.wan.vae_names import load_wan_decoder, vae_from_diffusers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from animatic.bundle import Role
    from animatic.store import OpenBundle
    from animatic_export.graph import GraphPlan
    from animatic_export.offer import Offer
    from animatic_export.published import PublishedModel
    from animatic_export.recipe import Export, Recipe, Request
    from animatic_export.wan.config import WanConfig
    from animatic_export.wan.vae_names import WanVaeConfig

METHOD: Final = 1
"""Raised when the same checkpoint gives another bundle, so that old ones are made again."""
FPS: Final = "16/1"
"""`sample_fps` of Wan's own wan/configs/shared_config.py."""
PROMPT_TOKENS: Final = 512
"""`text_len` there."""
BASE: Final = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
USUAL: Final = Usual(
    preview=(448, 256),
    work=(576, 320),
    final=(832, 480),
    frames=(81, 65, 49, 33, 17),
    multiple=16,
    temporal_factor=4,
)
"""It was trained on 832x480 and 81 frames; the smaller are cheaper. A token is 16 pixels wide."""
BLOCK: Final = 3
"""Latent frames that Self-Forcing denoises together (`num_frame_per_block` of its configs)."""
WINDOW: Final = 21
"""Latent frames of the clips it was trained on; it sees all of them (`local_attn_size` -1)."""


class WanRecipe:
    """Wan 2.1 1.3B, which makes a clip at once."""

    name = "wan2.1-1.3b"
    options = frozenset({"base", "sampler", "tiny_decoder", "adapters", "sizes", "frames"})

    def prepare(self, request: Request) -> Export:
        """Find the parts, match LoRAs with the denoiser, settle sampler, sizes and lengths."""
        published = find_model(self.name, request, BASE)
        tensors = merge(published.denoiser, published.adapters, canonical)
        config, vae = _configs(published)
        offered = offer(request, USUAL)
        about = Description(
            family=self.name,
            text="Photoreal clips from a sentence: Wan 2.1 of 1.3 billion parameters.",
            method=METHOD,
            geometry=_geometry(vae, offered, offered.longest(vae.temporal_factor)),
            latents=_stats(vae),
            conditioning=Conditioning(text=True, keyframes=False, context=False),
            sampler=choose_sampler(request.sampler, request.checkpoint or ""),
            tiers=offered.tiers,
            prompt_tokens=PROMPT_TOKENS,
            states_length=config.text_length,
            clean_prompts=True,
            adapters=tensors.adapters,
        )

        def denoiser() -> GraphPlan:
            return denoiser_plan(load_denoiser(tensors, config), lossless_storage(tensors))

        return FamilyExport(published, request, about, (denoiser, *_rest(published, vae)))

    def plan(self, opened: OpenBundle, role: Role) -> GraphPlan:
        """Plan a graph of the bundle again."""
        return plan_again(opened, role)


class SelfForcingRecipe:
    """Wan 2.1 1.3B as Self-Forcing distilled it, which makes a clip block by block."""

    name = "wan2.1-1.3b-self-forcing"
    options = frozenset({"base", "window", "tiny_decoder", "adapters", "sizes", "frames"})

    def prepare(self, request: Request) -> Export:
        """Find the parts, match LoRAs with the denoiser, settle window, sizes and lengths."""
        published = find_model(self.name, request, BASE, key="generator_ema")
        tensors = merge(published.denoiser, published.adapters, canonical)
        config, vae = _configs(published)
        causal = CausalConfig(denoiser=config, block=BLOCK, window=request.window or WINDOW)
        offered = offer(request, USUAL._replace(frames=(81,), block=BLOCK))
        about = Description(
            family=self.name,
            text="Photoreal clips of any length, block by block: Wan 2.1 of 1.3 billion "
            "parameters, distilled by Self-Forcing.",
            method=METHOD,
            geometry=_geometry(vae, offered, BLOCK),
            latents=_stats(vae),
            conditioning=Conditioning(text=True, keyframes=False, context=True),
            sampler=SELF_FORCING_SAMPLER,
            tiers=offered.tiers,
            prompt_tokens=PROMPT_TOKENS,
            states_length=config.text_length,
            clean_prompts=True,
            adapters=tensors.adapters,
        )

        def denoiser() -> GraphPlan:
            return causal_plan(load_causal_denoiser(tensors, causal), lossless_storage(tensors))

        return FamilyExport(published, request, about, (denoiser, *_rest(published, vae)))

    def plan(self, opened: OpenBundle, role: Role) -> GraphPlan:
        """Plan a graph of the bundle again."""
        return plan_again(opened, role)


def _configs(published: PublishedModel) -> tuple[WanConfig, WanVaeConfig]:
    """Read the shapes; a single file without a config is what the recipe is named for."""
    denoiser, vae = published.config("transformer"), published.config("vae")
    if vae is None:
        raise CheckpointError(
            f"{published.base / 'vae'} has no config.json: give --base {BASE}, or fetch it again."
        )
    return WAN_1_3B if denoiser is None else from_diffusers(denoiser), vae_from_diffusers(vae)


def _geometry(vae: WanVaeConfig, offered: Offer, block: int) -> Geometry:
    return Geometry(
        spatial_factor=vae.spatial_factor,
        temporal_factor=vae.temporal_factor,
        latent_channels=vae.latent_channels,
        sizes=offered.sizes,
        frame_counts=offered.frames,
        block_latent_frames=block,
        native_fps=FPS,
        decoder_trim=vae.temporal_factor - 1,
    )


def _stats(vae: WanVaeConfig) -> LatentStats:
    return LatentStats(mean=vae.mean, std=vae.std)


def _rest(published: PublishedModel, vae: WanVaeConfig) -> tuple[Callable[[], GraphPlan], ...]:
    """Plan the graphs beside the denoiser."""

    def decoder() -> GraphPlan:
        tensors = open_tensors(published.base / "vae")
        return wan_decoder_plan(load_wan_decoder(tensors, vae), lossless_storage(tensors))

    text = partial(text_plan, published, PROMPT_TOKENS)
    if published.tiny_decoder is None:
        return decoder, text
    return decoder, partial(tiny_plan, published.tiny_decoder, _stats(vae)), text


RECIPES: Final[Mapping[str, Recipe]] = {
    recipe.name: recipe for recipe in (WanRecipe(), SelfForcingRecipe())
}
