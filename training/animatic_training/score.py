"""Scores: what the probe reads off generated clips, against what their prompts said.

The prompts are of held-out combinations, every attribute said, in every register. A clip counts
for an attribute only if the probe reads just what the prompt asked.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from animatic_training.probe import Probe, accuracy, read_clips
from animatic_training.sampling import GuidedVelocity, euler, shifted_sigmas
from animatic_training.text import CaptionEncoder
from animatic_training.train_vae import to_pixels
from animatic_training.world.attributes import ShotAttributes, sample_attributes
from animatic_training.world.captions import write_caption

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from animatic_export.blockout.denoiser import Denoiser
    from animatic_export.blockout.vae import VideoVae
    from animatic_training.config import Config

log = logging.getLogger("animatic_training")

SCORE_SEED = 77
TEACHER_STEPS = 20
BATCH = 25


@dataclass(frozen=True)
class ScorePrompt:
    """One prompt of the score set and what it asks for."""

    text: str
    attributes: ShotAttributes


def score_prompts(count: int) -> list[ScorePrompt]:
    """Return the first `count` prompts of the score set; always the same."""
    rng = np.random.default_rng(SCORE_SEED)
    prompts = []
    for _ in range(count):
        attributes = sample_attributes(rng, held_out=True)
        prompts.append(ScorePrompt(write_caption(attributes, rng, full=True), attributes))
    return prompts


def score_clips(
    probe: Probe, prompts: Sequence[ScorePrompt], clips: np.ndarray, device: torch.device
) -> dict[str, float]:
    """Return the probe's accuracy per attribute over uint8 clips [N, F, H, W, 3]."""
    labels = np.stack([prompt.attributes.labels() for prompt in prompts])
    return accuracy(read_clips(probe, clips, device), labels)


def generate_clips(
    config: Config,
    vae: VideoVae,
    velocity_of: Callable[[list[str]], GuidedVelocity],
    prompts: Sequence[ScorePrompt],
    sigmas: Sequence[float],
) -> np.ndarray:
    """Sample one clip a prompt; the noise is the same for every model that is scored."""
    device = vae.mean.device
    generator = torch.Generator().manual_seed(SCORE_SEED)
    clips = []
    for n in range(0, len(prompts), BATCH):
        part = [prompt.text for prompt in prompts[n : n + BATCH]]
        noise = torch.randn(len(part), *config.latent_shape, generator=generator).to(device)
        clips.append(to_pixels(vae, euler(velocity_of(part), noise, [*sigmas, 0.0])))
    return np.concatenate(clips)


def score_models(
    config: Config, models: Mapping[str, Denoiser], vae: VideoVae, probe: Probe, count: int
) -> dict[str, float]:
    """Score the guided `teacher` at many steps and the `student` at its own.

    Returns shares such as ``teacher_subject`` and ``student_all``, 0 to 1.
    """
    device = vae.mean.device
    encoder = CaptionEncoder(config.train.max_tokens, device)
    prompts = score_prompts(count)
    # Spaced as its training was: more steps where it saw more of the noise levels.
    many = shifted_sigmas(TEACHER_STEPS, config.train.timestep_shift)
    plans = {
        "teacher": (config.distill.guidance, many),
        "student": (1.0, list(config.distill.sigmas)),
    }
    scores: dict[str, float] = {}
    for name, denoiser in models.items():
        guidance, sigmas = plans[name]

        def velocity_of(
            part: list[str], denoiser: Denoiser = denoiser, guidance: float = guidance
        ) -> GuidedVelocity:
            return GuidedVelocity(denoiser, encoder, part, guidance)

        clips = generate_clips(config, vae, velocity_of, prompts, sigmas)
        for attribute, share in score_clips(probe, prompts, clips, device).items():
            scores[f"{name}_{attribute}"] = share
        log.info("%s: %s", name, scores)
    return scores
