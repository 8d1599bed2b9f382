"""Blockout's first version: whole clips of one size and length, from a sentence alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from animatic.bundle import Conditioning, Geometry, LatentStats, SamplerSpec, Size
from animatic_export.blockout.config import ClipConfig, DenoiserConfig, VaeConfig
from animatic_export.blockout.denoiser import Denoiser
from animatic_export.blockout.graphs import decoder_plan, denoiser_plan, text_encoder_plan
from animatic_export.blockout.operations import gflop
from animatic_export.blockout.release import About
from animatic_export.blockout.vae import VideoVae

if TYPE_CHECKING:
    from animatic_export.blockout.checkpoint import OpenedCheckpoint
    from animatic_export.blockout.minilm import MiniLm
    from animatic_export.graph import GraphPlan

__all__ = ["MAX_TOKENS", "ClipRelease"]

VERSION: Final = "0"
MAX_TOKENS: Final = 40
"""Of a prompt: as many as the captions had in training (`train.max_tokens`)."""
TEXT: Final = (
    "Draws the grey-box stage of a previs shot from a sentence: simple solids, sky, sun and "
    "camera moves. Trained from nothing on procedural clips."
)


@dataclass(frozen=True)
class ClipRelease:
    """A model of version 0; see `animatic_export.blockout.release.Release`.

    clip: the clips it was trained on.
    """

    vae: VideoVae
    vae_config: VaeConfig
    denoiser: Denoiser
    clip: ClipConfig
    sigmas: tuple[float, ...]
    scores: dict[str, float]

    @classmethod
    def read(cls, opened: OpenedCheckpoint) -> ClipRelease:
        """Take a checkpoint of this version; CheckpointError if it is not whole."""
        vae_config = opened.value("vae", VaeConfig)
        config = opened.value("denoiser", DenoiserConfig)
        return cls(
            clip=opened.value("clip", ClipConfig),
            sigmas=opened.value("sigmas", tuple[float, ...]),
            scores=opened.value("scores", dict[str, float]),
            vae=opened.filled("vae", VideoVae(vae_config)),
            vae_config=vae_config,
            denoiser=opened.filled("denoiser", Denoiser(config)),
        )

    def plans(self, text_encoder: MiniLm) -> tuple[GraphPlan, ...]:
        """Plan the three graphs."""
        config, vae = self.denoiser.config, self.vae_config
        return (
            text_encoder_plan(text_encoder),
            denoiser_plan(self.denoiser),
            decoder_plan(
                self.vae.decoder,
                config.rows,
                config.columns,
                scale=vae.spatial_factor,
                factor=vae.temporal_factor,
            ),
        )

    def about(self, plans: tuple[GraphPlan, ...]) -> About:
        """Describe the model."""
        text, denoiser, decoder = (gflop(plan.module, plan.examples[0]) for plan in plans)
        frames = self.denoiser.config.frames
        clip = text + len(self.sigmas) * denoiser + frames * decoder
        return About(
            version=VERSION,
            text=TEXT,
            geometry=self._geometry(),
            latents=LatentStats(
                mean=tuple(self.vae.mean.tolist()), std=tuple(self.vae.std.tolist())
            ),
            # No keyframes: the student never saw a given frame, and no encoder is shipped.
            conditioning=Conditioning(text=True, keyframes=False, context=False),
            prompt_tokens=MAX_TOKENS,
            sampler=SamplerSpec(kind="euler", sigmas=self.sigmas),
            scores=self.scores | {"gflop_per_clip": round(clip, 3)},
        )

    def _geometry(self) -> Geometry:
        clip, vae = self.clip, self.vae_config
        return Geometry(
            spatial_factor=vae.spatial_factor,
            temporal_factor=vae.temporal_factor,
            latent_channels=vae.latent_channels,
            sizes=(Size(width=clip.width, height=clip.height),),
            frame_counts=(clip.frames,),
            block_latent_frames=self.denoiser.config.frames,
            native_fps=f"{clip.fps}/1",
            decoder_trim=vae.temporal_factor - 1,
        )
