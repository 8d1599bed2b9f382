"""Shots made in torch, block by block, as the runtime makes them: what is scored.

Axes: B shots, C latent channels, T latent frames, h rows, w columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from animatic_training.config import BLOCK, CONTEXT
from animatic_training.sampling import GuidedVelocity, euler, start
from animatic_training.windows import Window

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from animatic_export.blockout.window import WindowDenoiser
    from animatic_training.text import CaptionEncoder


@dataclass(frozen=True)
class Model:
    """A denoiser and how it is sampled."""

    denoiser: WindowDenoiser
    sigmas: tuple[float, ...]
    """Noise levels of its steps, without the final 0."""
    guidance: float = 1.0


class Shots:
    """Shots of some prompts, all of one size, with noise of their own."""

    def __init__(
        self,
        model: Model,
        encoder: CaptionEncoder,
        captions: Sequence[str],
        grid: tuple[int, int, int],
        seed: int,
    ) -> None:
        """Read the prompts; `grid` is channels, rows and columns of latents."""
        count = len(captions)
        states, mask = encoder([*captions, *[""] * (count if model.guidance != 1.0 else 0)])
        free = (states[count:], mask[count:]) if model.guidance != 1.0 else None
        self.velocity = GuidedVelocity(
            model.denoiser, (states[:count], mask[:count]), free, model.guidance
        )
        self.sigmas = (*model.sigmas, 0.0)
        self.shape = (count, *grid)
        self.device = states.device
        # Drawn on the CPU: the noise is the same for every model and device that is scored.
        self.generator = torch.Generator().manual_seed(seed)

    def opening(
        self, picture: Tensor | None = None, still: tuple[Tensor, float] | None = None
    ) -> Tensor:
        """Make the first block, latents [B, C, 4, h, w].

        picture: the first frame's latent [B, C, 1, h, w]; still: another frame's, alone, and its
        place in latent frames.
        """
        before = self._empty() if picture is None else picture
        positions = [float(n) for n in range(BLOCK)]
        stills = self._empty()
        if still is not None:
            stills, place = still
            positions.append(place)
        made = BLOCK - before.shape[2]
        whole = self._make(before, made, stills, positions)
        return whole[:, :, :BLOCK]

    def further(self, latents: Tensor, after: Tensor | None = None) -> Tensor:
        """Make the block that follows latents [B, C, T, h, w].

        after: the latents [B, C, 1, h, w] that it must lead to.
        """
        behind = self._empty() if after is None else after
        before = latents[:, :, -(CONTEXT - behind.shape[2]) :]
        count = before.shape[2] + BLOCK + behind.shape[2]
        whole = self._make(before, BLOCK, behind, [float(n) for n in range(1, 1 + count)])
        return whole[:, :, before.shape[2] : before.shape[2] + BLOCK]

    def _empty(self) -> Tensor:
        batch, channels, rows, columns = self.shape
        return torch.zeros(batch, channels, 0, rows, columns, device=self.device)

    def _make(self, before: Tensor, count: int, after: Tensor, positions: list[float]) -> Tensor:
        batch, channels, rows, columns = self.shape
        shape = (batch, channels, count, rows, columns)
        noise = torch.randn(shape, generator=self.generator).to(self.device)
        latents = torch.cat([before, noise, after], dim=2)
        made = torch.zeros(batch, latents.shape[2], dtype=torch.bool, device=self.device)
        made[:, before.shape[2] : before.shape[2] + count] = True
        window = Window(
            latents,
            made,
            torch.tensor(positions, device=self.device).expand(batch, -1),
            torch.zeros(batch, latents.shape[2], rows, columns, device=self.device),
        )
        return euler(self.velocity, window, start(window, latents), self.sigmas)
