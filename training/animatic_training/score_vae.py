"""How true the VAE is, and whether its groups of four frames show.

A flicker at the borders of groups would be an error that jumps there: so the error of the
difference between neighbouring frames is measured within groups and across their borders, and the
same at the border of the first block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from animatic_training.coding import decode_again
from animatic_training.config import BLOCK, TEMPORAL_FACTOR

if TYPE_CHECKING:
    from torch import Tensor

    from animatic_export.blockout.vae import VideoVae

FIRST_BLOCK: Final = 1 + (BLOCK - 1) * TEMPORAL_FACTOR
"""Frames of a shot's first block: the border of blocks is between frames 12 and 13."""


def _psnr(square: Tensor) -> float:
    return float(-10 * torch.log10(square.mean().clamp(min=1e-10)))


@torch.no_grad()
def score_vae(vae: VideoVae, pixels: Tensor) -> dict[str, float]:
    """Return figures over uint8 pieces [N, F, H, W, 3].

    PSNR in dB, of all frames and of the frames at each place of their group; and the mean absolute
    error of differences between neighbouring frames, in levels of 255, within groups, at their
    borders, and at the border of blocks.
    """
    square, steps = [], []
    for part in pixels.split(8):
        real = part.to(vae.mean.device).float()
        made = decode_again(vae, part).to(real.device).float()
        square.append(((made - real) / 255).square().mean((2, 3, 4)))
        steps.append((made.diff(dim=1) - real.diff(dim=1)).abs().mean((2, 3, 4)))
    squares, errors = torch.cat(square), torch.cat(steps)
    scores = {"vae_psnr": _psnr(squares), "vae_psnr_first_frame": _psnr(squares[:, 0])}
    for place in range(TEMPORAL_FACTOR):
        scores[f"vae_psnr_place_{place}"] = _psnr(squares[:, 1 + place :: TEMPORAL_FACTOR])
    # Step n leads from frame n to frame n + 1; groups begin at frames 1, 5, 9, …
    border = torch.arange(errors.shape[1], device=errors.device) % TEMPORAL_FACTOR == 0
    scores["vae_step_error_within"] = float(errors[:, ~border].mean())
    scores["vae_step_error_border"] = float(errors[:, border].mean())
    scores["vae_step_error_block"] = float(errors[:, FIRST_BLOCK - 1].mean())
    return scores
