"""The floating-point operations of a graph, counted by torch on the very module exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from torch import Tensor, nn


@torch.no_grad()
def gflop(module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    """Return GFLOP (2 a multiply-add) of one run at batch 1, whatever the batch of the inputs.

    Matrix products and convolutions only.
    """
    with FlopCounterMode(display=False) as counter:
        module(*inputs)
    return float(counter.get_total_flops()) / len(inputs[0]) / 1e9
