"""What the recipe asks of a trained Blockout, whichever version of it a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from animatic.bundle import Conditioning, Geometry, LatentStats, SamplerSpec, Tier
    from animatic_export.blockout.minilm import MiniLm
    from animatic_export.graph import GraphPlan

__all__ = ["About", "Release"]


@dataclass(frozen=True)
class About:
    """What bundle.json says of a model, beside its files.

    text: a few sentences. prompt_tokens: how many the text encoder reads, as in training.
    """

    version: str
    text: str
    geometry: Geometry
    latents: LatentStats
    conditioning: Conditioning
    prompt_tokens: int
    sampler: SamplerSpec
    scores: dict[str, float]
    tiers: tuple[Tier, ...] = ()


class Release(Protocol):
    """A trained model, in float32."""

    def plans(self, text_encoder: MiniLm) -> tuple[GraphPlan, ...]:
        """Plan every graph, in the order in which a clip first needs them."""
        ...

    def about(self, plans: tuple[GraphPlan, ...]) -> About:
        """Describe the model; its operations are counted on the modules of these plans."""
        ...
