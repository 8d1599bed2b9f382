"""The floating-point operations of one clip, counted by torch on the very modules exported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animatic_export.graph import GraphPlan


@torch.no_grad()
def gflop_per_clip(plans: Mapping[str, GraphPlan], runs: Mapping[str, int]) -> float:
    """Return GFLOP (2 a multiply-add) of a clip that runs each graph `runs[role]` times.

    Matrix products and convolutions only, at batch 1 (the examples are batches of two).
    """
    total = 0.0
    for role, count in runs.items():
        plan = plans[role]
        with FlopCounterMode(display=False) as counter:
            plan.module(*plan.examples[0])
        total += count * counter.get_total_flops() / len(plan.examples[0][0])
    return total / 1e9
