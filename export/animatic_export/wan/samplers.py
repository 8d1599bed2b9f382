"""How each distillation of Wan 2.1 1.3B wants to be sampled, and which checkpoints it is known of.

Schedules and rules: the models' published code, as `animatic.schedules` and `animatic.sampler`
have them. The base is sampled as the documentation of diffusers' WanPipeline samples it; the README
of github.com/Wan-Video/Wan2.1 recommends a shift of 8 to 12 and a guidance of 6 for the 1.3B.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from animatic.bundle import SamplerSpec, Schedule
from animatic.schedules import (
    FASTWAN,
    FASTWAN_TIMESTEPS,
    LIGHTX2V,
    RCM,
    SELF_FORCING,
    flow_schedule,
)
from animatic_export.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["PUBLISHED", "SAMPLERS", "SELF_FORCING_SAMPLER", "choose_sampler"]

NEGATIVE_PROMPT: Final = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，"
    "低质量，JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，"
    "毁容的，形态畸形的肢体，手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
"""`sample_neg_prompt` of Wan's own wan/configs/shared_config.py: what the base model was shown."""

BASE_STEPS: Final = (50, 40, 30, 20)
BASE_SHIFT: Final = 3.0
"""`flow_shift` for 480p in the documentation of diffusers' WanPipeline, which has 5 for 720p."""
BASE_GUIDANCE: Final = 5.0
"""`guidance_scale` there."""


def _base() -> SamplerSpec:
    usual, *others = (flow_schedule(steps, BASE_SHIFT) for steps in BASE_STEPS)
    return SamplerSpec(
        kind="unipc",
        sigmas=usual.sigmas,
        timesteps=usual.timesteps,
        schedules=tuple(others),
        guidance=BASE_GUIDANCE,
        negative_prompt=NEGATIVE_PROMPT,
    )


SAMPLERS: Final[Mapping[str, SamplerSpec]] = {
    "fastwan-3": SamplerSpec(kind="renoise", sigmas=FASTWAN, timesteps=FASTWAN_TIMESTEPS),
    # Fewer steps leave out the last of its angles, as rCM's own inference does.
    "rcm-4": SamplerSpec(
        kind="renoise",
        sigmas=RCM,
        schedules=tuple(Schedule(sigmas=RCM[:steps]) for steps in (3, 2, 1)),
    ),
    "lightx2v-4": SamplerSpec(kind="euler", sigmas=LIGHTX2V),
    "base": _base(),
}
SELF_FORCING_SAMPLER: Final = SamplerSpec(kind="renoise", sigmas=SELF_FORCING, context_timestep=0.0)

_KNOWN: Final[Mapping[str, str]] = {
    "fastvideo/fastwan": "fastwan-3",
    "worstcoder/rcm": "rcm-4",
    "lightx2v/wan2.1": "lightx2v-4",
    "wan-ai/wan2.1-t2v-1.3b": "base",
}
"""Beginnings of hub ids, in lower case: their checkpoints were made for this sampler."""
PUBLISHED: Final[Mapping[str, str]] = {
    "fastwan-3": "FastVideo/FastWan2.1-T2V-1.3B-Diffusers",
    "rcm-4": "worstcoder/rcm-Wan",
    "lightx2v-4": "lightx2v/Wan2.1-Distill-Models",
    "base": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
}
"""Where what a sampler was made for is published, as a file without an id may be."""


def choose_sampler(name: str | None, checkpoint: str) -> SamplerSpec:
    """Return the sampler of this name; None is that of a checkpoint whose hub id is known.

    ExportError if there is none of the name, or if the checkpoint does not tell.
    """
    names = ", ".join(SAMPLERS)
    if name is None:
        known = (s for start, s in _KNOWN.items() if checkpoint.lower().startswith(start))
        name = next(known, None)
        if name is None:
            raise ExportError(
                f"Nothing in the name {checkpoint!r} tells how it was distilled, and another "
                f"sampler than its own spoils the picture: give --sampler, one of {names}."
            )
    if name not in SAMPLERS:
        raise ExportError(f"There is no sampler {name!r} for this recipe: give one of {names}.")
    return SAMPLERS[name]
