"""Blockout's second version: shots of several shapes, made in blocks, around what is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from animatic.bundle import (
    Conditioning,
    Geometry,
    LatentStats,
    SamplerSpec,
    Schedule,
    Size,
    Tier,
)
from animatic_export.blockout.config import ShotConfig, VaeConfig, WindowConfig
from animatic_export.blockout.graphs import text_encoder_plan
from animatic_export.blockout.operations import gflop
from animatic_export.blockout.release import About
from animatic_export.blockout.vae import VideoVae
from animatic_export.blockout.window import WindowDenoiser
from animatic_export.blockout.window_graphs import (
    decoder_inputs,
    encoder_plan,
    streaming_decoder_plan,
    window_inputs,
    window_plan,
)
from animatic_export.errors import CheckpointError

if TYPE_CHECKING:
    from animatic_export.blockout.checkpoint import OpenedCheckpoint
    from animatic_export.blockout.minilm import MiniLm
    from animatic_export.graph import GraphPlan

__all__ = ["WindowRelease"]

VERSION: Final = "1"
TEXT: Final = (
    "Draws a previs shot from a sentence, block by block for as long as it is wanted, and goes on "
    "from, towards or between given pictures and clips. Trained from nothing on procedural clips."
)
BLOCKS: Final = (2, 1, 3, 4)
"""How long the clips are that the bundle lists, the usual one first; any other number will do."""
PREVIEW_STEPS: Final = 2


@dataclass(frozen=True)
class WindowRelease:
    """A model of version 1; see `animatic_export.blockout.release.Release`.

    schedules: sigmas, the usual ones first. card: sentences by name (data, training, …).
    """

    vae: VideoVae
    vae_config: VaeConfig
    denoiser: WindowDenoiser
    shot: ShotConfig
    schedules: tuple[tuple[float, ...], ...]
    scores: dict[str, float]
    card: dict[str, str]
    text_max_tokens: int

    @classmethod
    def read(cls, opened: OpenedCheckpoint) -> WindowRelease:
        """Take a checkpoint of this version; CheckpointError if it is not whole."""
        vae_config = opened.value("vae", VaeConfig)
        config = opened.value("window", WindowConfig)
        schedules = opened.value("schedules", tuple[tuple[float, ...], ...])
        if not schedules:
            raise CheckpointError(
                "The checkpoint names no noise levels to sample at (`schedules`): write it again "
                "with `animatic train`."
            )
        return cls(
            shot=opened.value("clip", ShotConfig),
            schedules=schedules,
            scores=opened.value("scores", dict[str, float]),
            card=opened.value("card", dict[str, str]),
            text_max_tokens=opened.value("text_max_tokens", int),
            vae=opened.filled("vae", VideoVae(vae_config)),
            vae_config=vae_config,
            denoiser=opened.filled("denoiser", WindowDenoiser(config)),
        )

    def plans(self, text_encoder: MiniLm) -> tuple[GraphPlan, ...]:
        """Plan the four graphs."""
        return (
            text_encoder_plan(text_encoder),
            window_plan(self.denoiser),
            streaming_decoder_plan(self.vae.decoder, self.vae_config),
            encoder_plan(self.vae.encoder, self.vae_config),
        )

    def about(self, plans: tuple[GraphPlan, ...]) -> About:
        """Describe the model."""
        usual, *others = self.schedules
        tiers = {"preview": PREVIEW_STEPS, "final": len(usual)}
        offered = {len(sigmas) for sigmas in self.schedules}
        geometry = self._geometry()
        return About(
            version=VERSION,
            text=" ".join([TEXT, *(f"{name}: {said}" for name, said in self.card.items())]),
            geometry=geometry,
            latents=LatentStats(
                mean=tuple(self.vae.mean.tolist()), std=tuple(self.vae.std.tolist())
            ),
            conditioning=Conditioning(text=True, keyframes=True, context=True),
            prompt_tokens=self.text_max_tokens,
            sampler=SamplerSpec(
                kind="euler",
                sigmas=usual,
                schedules=tuple(Schedule(sigmas=sigmas) for sigmas in others),
            ),
            tiers=tuple(
                Tier(name=name, size=geometry.sizes[0], steps=steps)
                for name, steps in tiers.items()
                if steps in offered
            ),
            scores=self.scores | self._operations(plans),
        )

    def _geometry(self) -> Geometry:
        shot, vae = self.shot, self.vae_config
        block = shot.block_latent_frames * vae.temporal_factor
        first = block - vae.temporal_factor + 1
        return Geometry(
            spatial_factor=vae.spatial_factor,
            temporal_factor=vae.temporal_factor,
            latent_channels=vae.latent_channels,
            sizes=tuple(Size(width=width, height=height) for width, height in shot.sizes),
            frame_counts=tuple(first + (blocks - 1) * block for blocks in BLOCKS),
            block_latent_frames=shot.block_latent_frames,
            context_latent_frames=shot.context_latent_frames,
            native_fps=f"{shot.fps}/1",
            decoder_trim=vae.temporal_factor - 1,
        )

    def _operations(self, plans: tuple[GraphPlan, ...]) -> dict[str, float]:
        """GFLOP of a block of the usual size and steps, its decoding included, and of a clip."""
        text, denoiser, decoder, _ = (plan.module for plan in plans)
        width, height = self.shot.sizes[0]
        scale = self.vae_config.spatial_factor
        cells = (height // scale, width // scale)
        new, steps = self.shot.block_latent_frames, len(self.schedules[0])
        decoding = new * gflop(decoder, decoder_inputs(self.vae.decoder, *cells))

        def block(given: int) -> float:
            window = window_inputs(self.denoiser.config, given + new, *cells)
            return steps * gflop(denoiser, window) + decoding

        first, further = block(0), block(self.shot.context_latent_frames)
        reading = gflop(text, plans[0].examples[0])
        clip = reading + first + (BLOCKS[0] - 1) * further
        counted = {"first_block": first, "further_block": further, "per_clip": clip}
        return {f"gflop_{name}": round(number, 3) for name, number in counted.items()}
