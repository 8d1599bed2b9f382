"""Muon: momentum whose matrices are orthogonalised before they are applied.

Keller Jordan et al. 2024 (kellerjordan.github.io/posts/muon), with the update scaled to AdamW's
size as in Moonlight (arXiv:2502.16982). torch.optim.Muon takes two-dimensional parameters only;
this one also takes convolutions, as matrices of output channels by everything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    x = matrices.to(fast_dtype(matrices.device))
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


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
            # Matrices of one shape are made orthogonal together: an accelerator would spend its
            # time on starting small products.
            alike: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = {}
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = self._momentum(parameter, parameter.grad, group["momentum"]).flatten(1)
                alike.setdefault((len(update), update.shape[1]), []).append((parameter, update))
            for shape, pairs in alike.items():
                scale = 0.2 * max(shape) ** 0.5
                made = orthogonalise(torch.stack([update for _, update in pairs]))
                for (parameter, _), matrix in zip(pairs, made, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(matrix.view_as(parameter), alpha=-group["lr"] * scale)

    def _momentum(self, parameter: nn.Parameter, grad: Tensor, momentum: float) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(grad, 1 - momentum)
        return grad.lerp(state["momentum"], momentum)


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
