"""Whole chains, in torch: what a published model makes of a prompt and our noise.

The samplers are written down once more, from the models' published code and in its own terms, so
that they share nothing with the runtime's.
"""

from __future__ import annotations

import logging
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch
from click.testing import CliRunner

from animatic.engine import OnnxRuntimeEngine
from animatic.noise import NoiseStream
from animatic.store import open_bundle
from animatic_export.cli import command
from animatic_export.recipe import find_recipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    Velocity = Callable[[Tensor, float], Tensor]

_log = logging.getLogger(__name__)

FLOOR_DB = 60.0
"""What final frames must reach against the reference, in float32."""


def export(*arguments: str | Path) -> str:
    """Run `animatic export`; return what it said."""
    result = CliRunner().invoke(command, [str(word) for word in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def psnr(ours: np.ndarray, reference: np.ndarray) -> float:
    """PSNR in dB of uint8 frames; the reference must be a picture and not one grey."""
    assert ours.shape == reference.shape
    assert reference.std() > 10
    error = np.square(ours.astype(np.float64) - reference).mean()
    found = float(10 * np.log10(255**2 / max(error, 1e-9)))
    _log.info("%.1f dB", found)  # pytest --log-cli-level=INFO shows it
    return found


def planned_again(root: Path) -> set[str]:
    """Plan every reference graph from the bundle alone and hold it against the graph itself."""
    opened = open_bundle(root, verify=False)
    recipe = find_recipe(opened.bundle.family)
    for graph in opened.bundle.graphs:
        plan = recipe.plan(opened, graph.role)
        assert (plan.precision, plan.inputs, plan.states) == (
            graph.precision,
            graph.inputs,
            graph.states,
        )
        engine = OnnxRuntimeEngine(
            opened.path(graph.file), msgspec.structs.replace(graph, states=())
        )
        with torch.no_grad():
            wanted = plan.module(*plan.examples[0])
        feeds = {t.name: v.numpy() for t, v in zip(plan.inputs, plan.examples[0], strict=True)}
        made = engine.run(feeds)[plan.outputs[0].name]
        first = wanted[0] if isinstance(wanted, tuple) else wanted
        np.testing.assert_allclose(made, first.numpy(), rtol=0, atol=1e-3)
    return {graph.role for graph in opened.bundle.graphs}


def initial(seed: int, shape: tuple[int, ...], block: int = 0) -> Tensor:
    """The noise that our clip of this seed begins with."""
    return torch.from_numpy(NoiseStream(seed, 0).initial(block, shape))


def fresh(seed: int, shape: tuple[int, ...], step: int, block: int = 0) -> Tensor:
    """The noise that our clip is re-noised with after a step."""
    return torch.from_numpy(NoiseStream(seed, 0).fresh(block, step, shape))


def fastwan(velocity: Velocity, x: Tensor, seed: int) -> Tensor:
    """FastVideo's DMD stage: 1000, 757, 522 on a grid of 1000 levels shifted by 8."""
    grid = np.array([8 * s / (1 + 7 * s) for s in np.linspace(1, 0.001, 1000)])
    timesteps = (1000, 757, 522)
    for step, t in enumerate(timesteps):
        sigma = float(grid[np.abs(1000 * grid - t).argmin()])
        clean = x.double() - sigma * velocity(x, t).double()
        x = clean.float()
        if step + 1 < len(timesteps):
            following = float(grid[np.abs(1000 * grid - timesteps[step + 1]).argmin()])
            noise = fresh(seed, tuple(x.shape), step).double()
            x = ((1 - following) * clean + following * noise).float()
    return x


def rcm(velocity: Velocity, x: Tensor, seed: int) -> Tensor:
    """NVIDIA's rCM: TrigFlow angles as levels of a rectified flow."""
    angles = np.array([np.arctan(80), 1.5, 1.4, 1.0, 0])
    levels = [float(np.sin(a) / (np.cos(a) + np.sin(a))) for a in angles]
    state = x.double() * levels[0]
    for step, (now, following) in enumerate(pairwise(levels)):
        v = velocity(state.float(), 1000 * now).double()
        noise = fresh(seed, tuple(x.shape), step).double()
        state = (1 - following) * (state - now * v) + following * noise
    return state.float()


def euler(levels: tuple[float, ...]) -> Callable[[Velocity, Tensor, int], Tensor]:
    """Plain Euler steps over levels that end at 0."""

    def sample(velocity: Velocity, x: Tensor, _seed: int) -> Tensor:
        for now, following in zip(levels, (*levels[1:], 0.0), strict=True):
            x = x + (following - now) * velocity(x, 1000 * now)
        return x

    return sample


@torch.no_grad()
def wan_latents(
    pipeline: Any,
    prompt: str,
    noise: Tensor,
    sample: Callable[[Velocity, Tensor, int], Tensor],
    seed: int,
) -> Tensor:
    """What diffusers' text encoder and transformer make of a prompt under a sampler."""
    states = pipeline.encode_prompt(
        prompt, do_classifier_free_guidance=False, max_sequence_length=512
    )[0]

    def velocity(x: Tensor, timestep: float) -> Tensor:
        made: Tensor = pipeline.transformer(x, torch.tensor([timestep]), states).sample
        return made

    return sample(velocity, noise, seed)


@torch.no_grad()
def wan_pictures(vae: Any, latents: Tensor) -> np.ndarray:
    """What diffusers' VAE makes of the denoiser's latents: uint8 [F, H, W, 3]."""
    mean, std = (
        torch.tensor(values).view(1, -1, 1, 1, 1)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    return to_pixels(vae.decode(latents * std + mean).sample[0])


def to_pixels(video: Tensor) -> np.ndarray:
    """From [3, F, H, W] in [-1, 1] to uint8 [F, H, W, 3]."""
    shown = (video / 2 + 0.5).clamp(0, 1).permute(1, 2, 3, 0)
    return np.asarray((shown.numpy() * 255).round().astype(np.uint8))
