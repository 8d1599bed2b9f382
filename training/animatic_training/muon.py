"""Muon: momentum whose matrices are orthogonalised before they are applied.

Keller Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with the update scaled to AdamW's
size as in Moonlight (arXiv:2502.16982). torch.optim.Muon takes two-dimensional parameters only;
this one also takes convolutions, as matrices of output channels by everything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from animatic_training.arithmetic import fast_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
STEPS = 5


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return the nearest orthogonal matrices to [..., m, n], roughly, by Newton-Schulz."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.to(fast_dtype(matrices.device)).reshape(-1, *matrices.shape[-2:])
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(STEPS):
        # a x + (b gram + c gram gram) x in three launches.
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype).reshape(matrices.shape)


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum 0.95; `params` have two dimensions or more."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, *, weight_decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": 0.95})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        """Apply one update; a closure is not supported."""
        for group in self.param_groups:
            params = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not params:
                continue
            updates = self._updates(params, group["momentum"])
            # Matrices of one shape are made orthogonal together: an accelerator would spend its
            # time on starting small products.
            alike: dict[tuple[int, int], list[int]] = {}
            for n, update in enumerate(updates):
                alike.setdefault((len(update), update.flatten(1).shape[1]), []).append(n)
            made: list[Tensor] = list(updates)
            for shape, own in alike.items():
                scale = 0.2 * max(shape) ** 0.5
                matrices = orthogonalise(torch.stack([updates[n].flatten(1) for n in own])) * scale
                for n, matrix in zip(own, matrices, strict=True):
                    made[n] = matrix.view_as(params[n])
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(params, made, alpha=-group["lr"])

    def _updates(self, params: list[nn.Parameter], momentum: float) -> list[Tensor]:
        """Return Nesterov's updates, shaped as the parameters."""
        grads = [cast("Tensor", parameter.grad) for parameter in params]
        for parameter in params:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        kept = [self.state[parameter]["momentum"] for parameter in params]
        torch._foreach_lerp_(kept, grads, 1 - momentum)
        return list(torch._foreach_lerp(grads, kept, momentum))  # noqa: SLF001, no public name


def optimisers(
    model: nn.Module, *, muon_rate: float, adam_rate: float, matrices: Iterable[nn.Parameter]
) -> list[torch.optim.Optimizer]:
    """Return Muon for `matrices` and AdamW for every other parameter of `model`."""
    chosen = list(matrices)
    known = {id(parameter) for parameter in chosen}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
    return [
        Muon(chosen, muon_rate),
        torch.optim.AdamW(
            rest, lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=rest[0].is_cuda or None
        ),
    ]


def set_rates(optimiser_list: list[torch.optim.Optimizer], factor: float) -> None:
    """Scale every optimiser's own learning rate by `factor`."""
    for optimiser in optimiser_list:
        for group in optimiser.param_groups:
            group["lr"] = group.setdefault("base_lr", group["lr"]) * factor
