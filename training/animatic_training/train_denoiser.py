"""Train the denoiser by rectified flow: x_t = (1 - sigma) x0 + sigma noise, predict noise - x0.

Muon (Keller Jordan, 2024) on the blocks' matrices needs about half the clips of AdamW for the same
error. Beside the flow loss stands a small one that reads the shot's attributes off the pooled
prompt: without it the pool finds place and time of day at once and subject and colour much later.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from animatic import schedules
from animatic_export.blockout.denoiser import Denoiser
from animatic_training.budget import Budget, seed_noise
from animatic_training.muon import optimisers, set_rates
from animatic_training.text import CaptionEncoder
from animatic_training.world.attributes import CLASSES, ShotAttributes
from animatic_training.world.captions import write_caption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from animatic_training.config import Config
    from animatic_training.latents import LatentSet

log = logging.getLogger("animatic_training")

READER_WEIGHT = 0.05


@dataclass(frozen=True)
class Batch:
    """One training batch; B clips, T latent frames, L tokens."""

    latents: Tensor  # float32 [B, C, T, h, w], normalised
    labels: Tensor  # int64 [B, 7]
    states: Tensor  # float32 [B, L, 384]
    mask: Tensor  # bool [B, L]


class Batches:
    """Endless batches: clips at random, a freshly written caption each."""

    def __init__(
        self,
        clips: LatentSet,
        encoder: CaptionEncoder,
        *,
        batch: int,
        text_dropout: float,
        rng: np.random.Generator,
    ) -> None:
        shots = [ShotAttributes(*row) for row in clips.labels.tolist()]
        # A mirror image may fall on a combination that is held out: it is not trained on.
        self.rows = np.array([n for n, shot in enumerate(shots) if not shot.held_out])
        self.shots = shots
        self.clips = clips
        self.encoder = encoder
        self.batch = batch
        self.text_dropout = text_dropout
        self.rng = rng

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches without end."""
        while True:
            rows = self.rng.choice(self.rows, self.batch)
            captions = [
                "" if self.rng.random() < self.text_dropout else self.caption(n) for n in rows
            ]
            states, mask = self.encoder(captions)
            device = states.device
            yield Batch(
                self.clips.latents[rows].float().to(device),
                torch.from_numpy(self.clips.labels[rows]).to(device),
                states,
                mask,
            )

    def caption(self, row: int) -> str:
        """Write a caption of one clip."""
        return write_caption(self.shots[row], self.rng)


class AttributeReader(nn.Module):
    """Reads every attribute off the pooled prompt [B, D]; used only in training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(width, len(c)) for c in CLASSES.values())

    def forward(self, prompt: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy against labels int64 [B, 7]."""
        losses = [F.cross_entropy(head(prompt), labels[:, n]) for n, head in enumerate(self.heads)]
        return torch.stack(losses).mean()


class FlowObjective(nn.Module):
    """The forward pass of a training step as one module, so that it compiles as one."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.reader = AttributeReader(denoiser.config.width)

    def forward(
        self, batch: tuple[Tensor, Tensor, Tensor, Tensor], noise: Tensor, sigma: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return flow loss and reader loss; `sigma` is [B, T], 0 where a frame is given."""
        latents, labels, states, mask = batch
        wide = sigma[:, None, :, None, None]
        noisy = (1 - wide) * latents + wide * noise
        with torch.autocast(latents.device.type, dtype=torch.bfloat16):
            text, prompt = self.denoiser.read(states, mask)
            velocity = self.denoiser.velocity(noisy, 1000 * sigma, text, prompt, mask)
            reading = self.reader(prompt, labels)
        square = (velocity.float() - (noise - latents)).square().mean((1, 3, 4))
        made = (sigma > 0).float()
        return (square * made).sum() / made.sum(), reading.float()


def sample_sigma(
    batch: int, frames: int, shift: float, keyframe_share: float, device: torch.device
) -> Tensor:
    """Draw noise levels [B, T]: one a clip (logit-normal, shifted), 0 for frames that are given.

    In `keyframe_share` of the clips some frames, never all, are given clean.
    """
    # Plain arithmetic: tensors pass through the runtime's formula as numbers do.
    formula: Callable[[Tensor, float], Tensor] = cast("Any", schedules.shift)
    sigma = formula(torch.randn(batch, 1, device=device).sigmoid(), shift).expand(-1, frames)
    keyed = torch.rand(batch, 1, device=device) < keyframe_share
    given = torch.rand(batch, frames, device=device) < 0.5
    given = given & ~given.all(dim=1, keepdim=True)
    return torch.where(keyed & given, 0.0, sigma)


def block_matrices(denoiser: Denoiser) -> list[nn.Parameter]:
    """Return the weight matrices inside the blocks: Muon's share."""
    return [
        p for n, p in denoiser.blocks.named_parameters() if n.endswith("weight") and p.dim() == 2
    ]


class Ema:
    """An exponential moving average of a denoiser's parameters."""

    def __init__(self, module: Denoiser, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(requires_grad=False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, module: Denoiser, step: int) -> None:
        """Move towards the module; early on the average is short."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for ours, theirs in zip(self.module.parameters(), module.parameters(), strict=True):
            ours.lerp_(theirs, 1 - decay)


def train_denoiser(config: Config, clips: LatentSet, run: Path, device: torch.device) -> Denoiser:
    """Train for the configured minutes, resuming from `run/denoiser.pt`; return the average."""
    torch.manual_seed(config.data.seed + 2)
    settings = config.train
    objective = FlowObjective(Denoiser(config.denoiser_config)).to(device)
    ema = Ema(objective.denoiser, settings.ema)
    optimiser_list = optimisers(
        objective,
        muon_rate=settings.learning_rate,
        adam_rate=settings.adam_learning_rate,
        matrices=block_matrices(objective.denoiser),
    )
    budget = Budget(settings.minutes)
    path = run / "denoiser.pt"
    budget.keep(path, {"objective": objective, "ema": ema.module}, optimiser_list)
    if budget.done:
        return ema.module
    seed_noise(config.data.seed, 2, budget.step)
    rng = np.random.default_rng((config.data.seed, 2, budget.step))
    encoder = CaptionEncoder(settings.max_tokens, device)
    batches = Batches(
        clips, encoder, batch=settings.batch, text_dropout=settings.text_dropout, rng=rng
    )
    log.info("%d clips; %d parameters", len(batches.rows), _count(objective.denoiser))
    step_loss = torch.compile(objective, disable=not config.compile)
    frames = config.latent_shape[1]
    for step, batch in zip(budget, batches, strict=False):
        sigma = sample_sigma(
            settings.batch, frames, settings.timestep_shift, settings.keyframe_share, device
        )
        noise = torch.randn_like(batch.latents)
        tensors = (batch.latents, batch.labels, batch.states, batch.mask)
        flow, reading = step_loss(tensors, noise, sigma)
        set_rates(optimiser_list, budget.rate())
        objective.zero_grad(set_to_none=True)
        (flow + READER_WEIGHT * reading).backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), 1.0)
        for optimiser in optimiser_list:
            optimiser.step()
        ema.update(objective.denoiser, step)
        budget.note(flow=flow.item(), reading=reading.item())
    return ema.module


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
