"""Rectified flow: x_t = (1 - sigma) x0 + sigma noise; the denoiser predicts noise - x0.

Beside the flow loss stands a small one that reads the shot's attributes off the pooled prompt:
without it the pool finds place and time of day at once and subject and colour much later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from animatic import schedules
from animatic_export.blockout.window import PAIR
from animatic_training.arithmetic import autocast
from animatic_training.subject_mask import cell_weights
from animatic_training.world.attributes import CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable

    from animatic_export.blockout.window import WindowDenoiser
    from animatic_training.batches import Batch
    from animatic_training.windows import Window


class AttributeReader(nn.Module):
    """Reads every attribute off the pooled prompt [B, D]; used only in training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, len(c)) for c in CLASSES.values())

    def forward(self, prompt: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy against labels int64 [B, 13]."""
        losses = [F.cross_entropy(head(prompt), labels[:, n]) for n, head in enumerate(self.heads)]
        return torch.stack(losses).mean()


class FlowObjective(nn.Module):
    """A denoiser and the reader that is trained beside it."""

    def __init__(self, denoiser: WindowDenoiser, subject_weight: float) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.reader = AttributeReader(denoiser.config.width)
        self.subject_weight = subject_weight

    def forward(
        self, batch: Batch, noise: Tensor, level: Tensor, kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return flow loss and reader loss at noise levels [B, 1], for noise like the latents.

        `kept` int64 [T, K]: which of each frame's tokens are looked at; all by default.
        """
        window = batch.window
        sigma = window.sigma(level)
        noisy = window.noised(noise, sigma)
        with autocast(noise.device):
            text, prompt = self.denoiser.read(batch.states, batch.mask)
            velocity = self.denoiser.velocity(
                noisy, 1000 * sigma, window.positions, text, prompt, batch.mask, kept
            )
            reading = self.reader(prompt, batch.labels)
        weights = cell_weights(window.shares, window.made, self.subject_weight)
        if kept is not None:
            weights = weights * cells_of(kept, *noise.shape[3:])
        return flow_error(velocity.float(), noise, window, weights), reading.float()


def cells_of(kept: Tensor, rows: int, columns: int) -> Tensor:
    """Return weights [1, T, h, w] that count the cells of the tokens `kept` alone.

    Over all draws of so many tokens a cell counts 1 on average.
    """
    frames, count = kept.shape
    pairs = (columns + PAIR - 1) // PAIR
    tokens = kept.new_zeros(frames, rows * pairs).scatter(1, kept, 1)
    cells = tokens.view(1, frames, rows, pairs).repeat_interleave(PAIR, dim=3)[..., :columns]
    return cells * (rows * pairs / count)


def flow_error(velocity: Tensor, noise: Tensor, window: Window, weights: Tensor) -> Tensor:
    """Return the mean squared error over the cells that are made, weighted by [B, T, h, w]."""
    square = (velocity - (noise - window.latents)).square().mean(1)
    cells = window.made.sum() * square.shape[2] * square.shape[3]
    return (square * weights).sum() / cells


def made_weights(window: Window) -> Tensor:
    """Return weights [B, T, h, w] that count every made cell alike."""
    return cell_weights(window.shares, window.made, 0.0)


def draw_level(batch: int, shift: float, device: torch.device) -> Tensor:
    """Draw noise levels [B, 1], logit-normal and shifted towards 1.

    A batch's levels are spread evenly over the distribution (arXiv:2107.00630, I.1), in any order:
    its loss then varies with what it shows, and not with how noisy that happens to be.
    """
    spread = (torch.randperm(batch, device=device) + torch.rand(1, device=device)) / batch
    normal = torch.special.ndtri(spread.clamp(1e-4, 1 - 1e-4))
    return shifted(normal.sigmoid()[:, None], shift)


def shifted(level: Tensor, shift: float) -> Tensor:
    """Move noise levels towards 1 by the runtime's formula, through which tensors pass too."""
    formula: Callable[[Tensor, float], Tensor] = cast("Any", schedules.shift)
    return formula(level, shift)
