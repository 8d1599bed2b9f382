"""What networks may begin with: an earlier run's weights, or the built-in model's VAE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from animatic.store import open_bundle
from animatic_training.budget import read_checkpoint
from animatic_training.bundle_weights import read_bundle_weights

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

_FILES = {"vae": (("vae.pt", "model"),), "denoiser": (("denoiser.pt", "ema"), ("stills.pt", "ema"))}


def run_weights(run: Path, part: str) -> dict[str, Tensor]:
    """Return the weights of a network of a run: those of the latest stage that was begun."""
    for file, name in _FILES[part]:
        if state := read_checkpoint(run / file):
            return dict(state[name])
    return {}


def bundle_weights() -> dict[str, Tensor]:
    """Return the weights of the built-in bundle's VAE."""
    opened = open_bundle(verify=False)
    weights: dict[str, Tensor] = {}
    for graph in opened.bundle.graphs:
        if graph.role in ("vae_decoder", "vae_encoder") and not graph.made_from:
            weights |= read_bundle_weights(opened.path(graph.file))
    return weights
