"""From a float32 plan to one in half precision: matrices in half, islands in float32.

Only the weights of linear layers, convolutions and embeddings change their type, but for the
submodules that a module names as FLOAT32_ISLANDS; the modules' own code decides where the half
values go, and norms and modulation stay float32 there. The graph is exported from the half-typed
module, so that every node has its type already and a strongly typed compiler has no choice left:
converting a float32 graph afterwards loses more and often does not build.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec
import torch
from torch import nn

from animatic_export.errors import ExportError
from animatic_export.weights import store_as_it_is

if TYPE_CHECKING:
    from collections.abc import Iterator

    from animatic.bundle import TensorSpec
    from animatic_export.graph import GraphPlan

DTYPES: Final = {"fp16": torch.float16, "bf16": torch.bfloat16}
STATE_DTYPES: Final = {"fp16": "float16", "bf16": "float32"}
"""Of the state tensors: they stay on the device, so narrow is better; NumPy has no bfloat16."""
TOLERANCES: Final = {"fp16": 1e-2, "bf16": 8e-2}
"""Largest relative error (L2) against float32: bfloat16 has three bits less."""


def typed_plan(plan: GraphPlan, precision: str, made_from: str) -> GraphPlan:
    """Return the plan of the same graph in "fp16" or "bf16", under the same names and axes.

    Inputs and outputs keep their types, but for the states.
    """
    if precision not in DTYPES:
        raise ExportError(f"There is no typed export to {precision}: ask for fp16 or bf16.")
    if DTYPES[precision] in getattr(plan.module, "OVERFLOWS_IN", ()):
        raise ExportError(f"This {plan.role} overflows in {precision}: ask for bf16.")
    fed_back = {pair.input for pair in plan.states} | {pair.output for pair in plan.states}

    def typed(tensors: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        return tuple(
            msgspec.structs.replace(tensor, dtype=STATE_DTYPES[precision])
            if tensor.name in fed_back
            else tensor
            for tensor in tensors
        )

    return replace(
        plan,
        module=typed_module(plan.module, DTYPES[precision]),
        reference=plan.module,
        inputs=typed(plan.inputs),
        outputs=typed(plan.outputs),
        precision=precision,
        shrink=store_as_it_is,
        tolerance=TOLERANCES[precision],
        file=f"{plan.role}.{precision}.onnx",
        made_from=made_from,
    )


def typed_module(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Return a copy of a module whose matrices outside its islands have another type.

    Those that have it already are shared: a text encoder's may be most of a machine's memory.
    """
    # What the memo already holds is not copied: so no weight is there in its old type once more.
    copies: dict[int, object] = {}
    for weight in _retyped(module):
        narrow = weight
        if weight.dtype != dtype:
            narrow = nn.Parameter(weight.detach().to(dtype), requires_grad=weight.requires_grad)
        copies[id(weight)] = narrow
    return copy.deepcopy(module, copies)


def _retyped(module: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters whose type changes."""
    islands: tuple[str, ...] = getattr(module, "FLOAT32_ISLANDS", ())
    for name, child in module.named_children():
        if name in islands:
            continue
        if isinstance(child, nn.Linear | nn.Conv2d | nn.Conv3d | nn.Embedding):
            yield from child.parameters()
        else:
            yield from _retyped(child)
