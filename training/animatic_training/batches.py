"""Training batches of windows with encoded captions, each drawn from (seed, stage, step) alone.

Latents lie on the device that trains (13 GB of a card's memory in v1), and captions are kept as
token ids: a batch costs no transfer, and one pass of the text encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from animatic_training.transfer import to_device
from animatic_training.windows import STILL, Pattern, Window, begins, cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from animatic_training.latents import LatentSet
    from animatic_training.text import CaptionEncoder

CELLS: Final = 50_000
"""About how many cells tell how latents vary."""


@dataclass(frozen=True)
class Batch:
    """B windows with what their captions say; L tokens."""

    window: Window
    labels: Tensor
    """int64 [B, 13]."""
    states: Tensor
    """float32 [B, L, 384]."""
    mask: Tensor
    """bool [B, L]."""
    free: tuple[Tensor, Tensor]
    """States and mask of no caption at all, [B, L, 384] and [B, L]."""


class Batches:
    """Draws batches from the sets of all sizes, in proportion to what they hold."""

    def __init__(
        self, sets: Sequence[LatentSet], encoder: CaptionEncoder, *, text_dropout: float = 0.0
    ) -> None:
        self.sets = sets
        self.encoder = encoder
        self.text_dropout = text_dropout
        self.opening = [begins(data).cpu() for data in sets]
        self.every = [torch.arange(len(data)) for data in sets]

    def __len__(self) -> int:
        """How many pieces or stills there are."""
        return sum(len(data) for data in self.sets)

    def cells(self) -> Tensor:
        """Return latent cells float32 [N, C] from all over the sets, some ten thousand."""
        parts = [data.latents.transpose(0, 1).flatten(1) for data in self.sets]
        every = max(1, sum(part.shape[1] for part in parts) // CELLS)
        return torch.cat([part[:, ::every] for part in parts], dim=1).float().T

    def draw(
        self,
        rng: np.random.Generator,
        count: int,
        pattern: Pattern,
        stills: tuple[int, ...] = (),
        *,
        views: int = 1,
    ) -> Batch:
        """Draw a batch of `count` windows of one pattern, `views` of each piece."""
        within = self.opening if pattern.begins and pattern is not STILL else self.every
        sizes = np.array([len(rows) for rows in within], float)
        place = int(rng.choice(len(sizes), p=sizes / sizes.sum()))
        data = self.sets[place]
        picked = rng.integers(len(within[place]), size=count // views)
        rows = to_device(within[place][torch.from_numpy(picked)], data.latents.device)
        tokens = self._tokens(rng, data, rows)
        states, mask = self.encoder.encode(torch.cat([tokens, self._empty(tokens)[None]]))
        window = cut(data, rows.repeat_interleave(views), pattern, stills)
        labels = data.labels[rows].repeat_interleave(views, dim=0)
        free_states, free_mask = (
            part[-1:].expand(count, *part.shape[1:]) for part in (states, mask)
        )
        states, mask = (part[:-1].repeat_interleave(views, dim=0) for part in (states, mask))
        return Batch(window, labels, states, mask, (free_states, free_mask))

    def _tokens(self, rng: np.random.Generator, data: LatentSet, rows: Tensor) -> Tensor:
        """Choose a caption of each row, or none: int32 [B, L]."""
        which = torch.from_numpy(rng.integers(data.tokens.shape[1], size=len(rows)))
        dropped = torch.from_numpy(rng.random(len(rows)) < self.text_dropout)
        own = data.tokens[rows, to_device(which, rows.device)]
        return torch.where(to_device(dropped, rows.device)[:, None], self._empty(own), own)

    def _empty(self, tokens: Tensor) -> Tensor:
        return to_device(torch.from_numpy(self.encoder.empty), tokens.device)
