"""The recipes `wan2.1-1.3b` and `wan2.1-1.3b-self-forcing`: published checkpoints to a bundle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from animatic.bundle import Conditioning, Geometry, LatentStats
from animatic_export.checkpoint.merge import merge
from animatic_export.errors import CheckpointError
from animatic_export.family import Description, FamilyExport
from animatic_export.offer import Usual, offer
from animatic_export.parts import Part, TextEncoder, lossless_storage, text_part, tiny_part
from animatic_export.published import Whereabouts, find_model
from animatic_export.t5.config import read_config
from animatic_export.wan.again import plan_again
from animatic_export.wan.config import WAN_1_3B, CausalConfig, from_diffusers
from animatic_export.wan.graphs import causal_plan, denoiser_plan
from animatic_export.wan.loading import load_causal_denoiser, load_denoiser
from animatic_export.wan.names import canonical, left_out
from animatic_export.wan.rotary import PLACES
from animatic_export.wan.samplers import PUBLISHED, SELF_FORCING_SAMPLER, choose_sampler
from animatic_export.wan.vae_graph import wan_decoder_plan
from animatic_export.wan.vae_names import load_wan_decoder, vae_from_diffusers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from animatic.bundle import Role, SamplerSpec
    from animatic.store import OpenBundle
    from animatic_export.checkpoint.merge import Merged
    from animatic_export.graph import GraphPlan
    from animatic_export.offer import Offer
    from animatic_export.published import PublishedModel
    from animatic_export.recipe import Export, Recipe, Request
    from animatic_export.wan.causal import CausalWanDenoiser
    from animatic_export.wan.config import WanConfig
    from animatic_export.wan.denoiser import WanDenoiser
    from animatic_export.wan.vae_decoder import WanVaeDecoder
    from animatic_export.wan.vae_names import WanVaeConfig

METHOD: Final = 1
"""Raised when the same checkpoint gives another bundle, so that old ones are made again."""
FPS: Final = "16/1"
"""`sample_fps` of Wan's own wan/configs/shared_config.py."""
PROMPT_TOKENS: Final = 512
"""`text_len` there."""
BASE: Final = PUBLISHED["base"]
SELF_FORCING: Final = "gdhe17/Self-Forcing"
USUAL: Final = Usual(
    preview=(448, 256),
    work=(576, 320),
    final=(832, 480),
    frames=(81, 65, 49, 33, 17),
    multiple=16,
    temporal_factor=4,
    largest=16 * PLACES,
    longest=1 + 4 * (PLACES - 1),
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
        places = Whereabouts(PUBLISHED.get(request.sampler or "", ""), BASE, _judge)
        published = find_model(self.name, request, places)
        tensors = merge(published.denoiser, published.adapters, canonical)
        config, vae = _configs(published)
        offered = offer(request, USUAL)
        storage = lossless_storage(tensors)

        denoiser: Part[WanDenoiser] = Part(
            tensors,
            lambda given: load_denoiser(given, config),
            lambda module: denoiser_plan(module, storage),
            storage,
        )
        return _export(
            published,
            request,
            tensors,
            denoiser,
            _Model(
                family=self.name,
                text=f"Photoreal clips from a sentence: {config.title}.",
                denoiser=config,
                causal=None,
                vae=vae,
                offered=offered,
                block=offered.longest(vae.temporal_factor),
                sampler=choose_sampler(request.sampler, request.checkpoint or ""),
            ),
        )

    def plan(self, opened: OpenBundle, role: Role) -> GraphPlan:
        """Plan a graph of the bundle again."""
        return plan_again(opened, role)


class SelfForcingRecipe:
    """Wan 2.1 1.3B as Self-Forcing distilled it, which makes a clip block by block."""

    name = "wan2.1-1.3b-self-forcing"
    options = frozenset({"base", "window", "tiny_decoder", "adapters", "sizes", "frames"})

    def prepare(self, request: Request) -> Export:
        """Find the parts, match LoRAs with the denoiser, settle window, sizes and lengths."""
        published = find_model(self.name, request, Whereabouts(SELF_FORCING, BASE, _judge))
        tensors = merge(published.denoiser, published.adapters, canonical)
        config, vae = _configs(published)
        causal = CausalConfig(denoiser=config, block=BLOCK, window=request.window or WINDOW)
        storage = lossless_storage(tensors)

        denoiser: Part[CausalWanDenoiser] = Part(
            tensors,
            lambda given: load_causal_denoiser(given, causal),
            lambda module: causal_plan(module, storage),
            storage,
        )
        return _export(
            published,
            request,
            tensors,
            denoiser,
            _Model(
                family=self.name,
                text=f"Photoreal clips of any length, block by block: {config.title}, distilled by "
                "Self-Forcing.",
                denoiser=config,
                causal=causal,
                vae=vae,
                offered=offer(request, USUAL._replace(frames=(81,), block=BLOCK)),
                block=BLOCK,
                sampler=SELF_FORCING_SAMPLER,
            ),
        )

    def plan(self, opened: OpenBundle, role: Role) -> GraphPlan:
        """Plan a graph of the bundle again."""
        return plan_again(opened, role)


def _judge(configs: Mapping[str, Mapping[str, object]]) -> None:
    """Refuse another model's configs."""
    readers: dict[str, Callable[[Mapping[str, object]], object]] = {
        "transformer": from_diffusers,
        "vae": vae_from_diffusers,
        "text_encoder": read_config,
    }
    for part, read in readers.items():
        if part in configs:
            read(configs[part])


def _configs(published: PublishedModel) -> tuple[WanConfig, WanVaeConfig]:
    """Read the shapes; a single file without a config is what the recipe is named for."""
    denoiser, vae = published.config("transformer"), published.config("vae")
    if vae is None:
        raise CheckpointError(
            f"{published.base / 'vae'} has no config.json: give --base {BASE}, or fetch it again."
        )
    return WAN_1_3B if denoiser is None else from_diffusers(denoiser), vae_from_diffusers(vae)


class _Model(NamedTuple):
    """What a recipe found out. causal: None for a model of whole clips. block: latent frames."""

    family: str
    text: str
    denoiser: WanConfig
    causal: CausalConfig | None
    vae: WanVaeConfig
    offered: Offer
    block: int
    sampler: SamplerSpec


def _export(
    published: PublishedModel,
    request: Request,
    tensors: Merged,
    denoiser: Part[WanDenoiser] | Part[CausalWanDenoiser],
    model: _Model,
) -> FamilyExport:
    """Put the denoiser's graph and what all of Wan 2.1 has in common together."""
    config, vae = model.denoiser, model.vae
    storage = lossless_storage(published.vae)
    decoder: Part[WanVaeDecoder] = Part(
        published.vae,
        lambda given: load_wan_decoder(given, vae),
        lambda module: wan_decoder_plan(module, storage),
        storage,
    )
    geometry = Geometry(
        spatial_factor=vae.spatial_factor,
        temporal_factor=vae.temporal_factor,
        latent_channels=vae.latent_channels,
        sizes=model.offered.sizes,
        frame_counts=model.offered.frames,
        block_latent_frames=model.block,
        native_fps=FPS,
        decoder_trim=vae.temporal_factor - 1,
    )
    stats = LatentStats(mean=vae.mean, std=vae.std)
    wanted = TextEncoder("Wan 2.1", "umT5", config.text_width, PROMPT_TOKENS)
    text, text_config = text_part(published, wanted)
    parts: list[Part[Any]] = [denoiser, decoder]
    if published.tiny_decoder is not None:
        parts.append(tiny_part(published.tiny_decoder, stats, geometry))
    shapes = (model.causal or config, vae, text_config)
    about = Description(
        family=model.family,
        text=model.text,
        method=METHOD,
        geometry=geometry,
        latents=stats,
        conditioning=Conditioning(text=True, keyframes=False, context=model.causal is not None),
        sampler=model.sampler,
        tiers=model.offered.tiers,
        prompt_tokens=PROMPT_TOKENS,
        states_length=config.text_length,
        clean_prompts=True,
        architectures=tuple(msgspec.json.encode(shape).decode() for shape in shapes),
        adapters=tensors.adapters,
    )
    return FamilyExport(published, request, about, (*parts, text), tuple(_warnings(published)))


def _warnings(published: PublishedModel) -> Iterator[str]:
    gates = left_out(published.denoiser)
    if gates:
        yield (
            f"{published.checkpoint.name}: {gates} tensors of gates for sparse attention are left "
            "out, as diffusers leaves them out: attention is dense here"
        )


RECIPES: Final[Mapping[str, Recipe]] = {
    recipe.name: recipe for recipe in (WanRecipe(), SelfForcingRecipe())
}
