"""Teach the prompt's pool to read captions, before any picture is seen.

What a caption says is told by words alone, and words are cheap: some ten thousand captions are
encoded once, and a few hundred steps of the pool and its reader over them find in seconds what had
not been found after a quarter of an hour of pictures on two cores (docs/log.md).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor

from animatic_training.arithmetic import autocast
from animatic_training.transfer import to_device
from animatic_training.world.attributes import sample_attributes
from animatic_training.world.captions import write_caption

if TYPE_CHECKING:
    from animatic_training.config import ReadingConfig
    from animatic_training.objective import FlowObjective
    from animatic_training.text import CaptionEncoder

log = logging.getLogger("animatic_training")

CHUNK: Final = 512
"""Captions that are encoded at once."""
LENGTH_WEIGHT: Final = 1e-3
"""Of the vector's square: longer ones would drown the timestep beside which they are added."""


def learn_to_read(
    objective: FlowObjective, encoder: CaptionEncoder, settings: ReadingConfig, seed: int
) -> None:
    """Train pool and reader on captions of `settings.captions` shots; the other weights stay."""
    rng = np.random.default_rng((seed, 5))
    states, mask, labels = encoded_captions(rng, encoder, settings.captions)
    denoiser, reader = objective.denoiser, objective.reader
    learnt = [*denoiser.pool.parameters(), *reader.parameters()]
    optimiser = torch.optim.AdamW(learnt, lr=settings.learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    surprise = torch.zeros(())
    for _ in range(settings.steps):
        rows = torch.from_numpy(rng.integers(len(labels), size=settings.batch))
        rows = to_device(rows, states.device)
        seen = mask[rows]
        longest = int(seen.sum(1).max())
        with autocast(states.device):
            _, vector = denoiser.read(states[rows, :longest].float(), seen[:, :longest])
            loss = reader(vector, labels[rows])
        length = vector.float().square().sum(1).mean()
        optimiser.zero_grad()
        (loss.float() + LENGTH_WEIGHT * length).backward()
        optimiser.step()
        schedule.step()
        surprise = loss.detach()
    log.info("captions are read: cross-entropy %.3f", surprise)


def encoded_captions(
    rng: np.random.Generator, encoder: CaptionEncoder, count: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return states float16 [N, L, 384], mask bool [N, L] and labels int64 [N, 13] of new shots."""
    shots = [sample_attributes(rng) for _ in range(count)]
    tokens = torch.from_numpy(encoder.tokens([write_caption(shot, rng) for shot in shots]))
    labels = torch.from_numpy(np.stack([shot.labels() for shot in shots])).to(encoder.device)
    mask = (tokens != 0).to(encoder.device)
    states = torch.zeros(*tokens.shape, 384, dtype=torch.float16, device=encoder.device)
    for rows in torch.arange(count).split(CHUNK):
        own, _ = encoder.encode(tokens[rows])
        states[rows, : own.shape[1]] = own.half()
    return states, mask, labels
