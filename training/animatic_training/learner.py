"""One step of learning: gradients of a loss, clipped, and two optimisers at the clock's rate."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from animatic_training.muon import optimisers, set_rates

if TYPE_CHECKING:
    from torch import Tensor

    from animatic_export.blockout.window import WindowDenoiser


class Learner:
    """A module with Muon on its matrices and AdamW on everything else."""

    def __init__(
        self,
        module: nn.Module,
        matrices: list[nn.Parameter],
        *,
        muon_rate: float,
        adam_rate: float,
    ) -> None:
        self.module = module
        self.optimisers = optimisers(
            module, muon_rate=muon_rate, adam_rate=adam_rate, matrices=matrices
        )

    def step(self, loss: Tensor, rate: float) -> None:
        """Descend; `rate` scales the learning rates."""
        set_rates(self.optimisers, rate)
        self.module.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()


def block_matrices(denoiser: WindowDenoiser) -> list[nn.Parameter]:
    """Return the weight matrices inside the blocks: Muon's share."""
    return [
        p for n, p in denoiser.blocks.named_parameters() if n.endswith("weight") and p.dim() == 2
    ]


def kernels(module: nn.Module) -> list[nn.Parameter]:
    """Return the kernels of a module's convolutions: Muon's share of a VAE."""
    return [weight for weight in module.parameters() if weight.dim() == 4]


class Ema:
    """An exponential moving average of a denoiser's parameters."""

    def __init__(self, module: WindowDenoiser, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(requires_grad=False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, module: WindowDenoiser, step: int) -> None:
        """Move towards the module; early on the average is short."""
        decay = min(self.decay, (1 + step) / (10 + step))
        # In a few launches and not one a parameter, as torch's own optimisers do it.
        ours: list[Tensor] = [*self.module.parameters()]
        theirs: list[Tensor] = [*module.parameters()]
        torch._foreach_lerp_(ours, theirs, 1 - decay)


def compile_blocks(denoiser: WindowDenoiser) -> None:
    """Compile a denoiser's blocks, in place; their parameters keep their names.

    Windows have many lengths and pictures many shapes: with blocks compiled for any of them, that
    is one compilation of one block, and not of a whole network for each.
    """
    for block in denoiser.blocks:
        block.compile(dynamic=True)
