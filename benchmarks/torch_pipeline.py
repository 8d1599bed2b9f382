"""A bundle's weights in torch, driven by the pipeline that drives its graphs: what we are beside.

The networks are those that the exporter would export again, so that any bundle of any recipe can
be measured so, and only the arithmetic differs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from animatic import Pipeline
from animatic.engine.contract import InputCheck
from animatic.tokenizer import BundleTokenizer
from animatic_export.recipe import find_recipe
from animatic_export.typed import typed_module

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import nn

    from animatic.bundle import GraphSpec
    from animatic.store import OpenBundle

    Tensors = dict[str, np.ndarray[Any, Any]]


class TorchEngine:
    """A graph's module behind the engines' protocol."""

    def __init__(self, module: nn.Module, spec: GraphSpec, device: str, *, compiled: bool) -> None:
        self.spec = spec
        self._device = device
        module = module.to(device).eval()
        # reduce-overhead: with CUDA graphs, which is what the others on a GPU have.
        mode = "reduce-overhead" if device == "cuda" else "default"
        self._module = torch.compile(module, mode=mode) if compiled else module
        self._check = InputCheck(spec)
        self._states: dict[str, torch.Tensor] = {}

    @torch.no_grad()
    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Run once; states stay where they are computed."""
        arrays, axes = self._check.arrays(inputs)
        given = {name: torch.from_numpy(array).to(self._device) for name, array in arrays.items()}
        for name, tensor in self._check.states.items():
            kept = self._states.get(name)
            shape = self._check.state_shape(name, axes, None if kept is None else tuple(kept.shape))
            dtype = getattr(torch, tensor.dtype)
            given[name] = (
                torch.zeros(shape, dtype=dtype, device=self._device) if kept is None else kept
            )
        results = self._module(*(given[tensor.name] for tensor in self.spec.inputs))
        results = results if isinstance(results, tuple) else (results,)
        outputs = dict(zip((t.name for t in self.spec.outputs), results, strict=True))
        pairs = self._check.pairs
        # Cloned: the next replay of a captured graph writes where this one did.
        self._states = {pairs[name]: outputs[name].clone() for name in pairs}
        return {n: value.float().cpu().numpy() for n, value in outputs.items() if n not in pairs}

    def reset(self) -> None:
        """Forget the states."""
        self._states = {}

    def close(self) -> None:
        """Forget everything."""
        self._states = {}


def torch_pipeline(opened: OpenBundle, device: str, *, compiled: bool) -> Pipeline:
    """Chain the bundle's weights in torch: in float32 on a processor, half-typed on a GPU."""
    recipe, half = find_recipe(opened.bundle.family), device == "cuda"
    engines = {}
    for role in dict.fromkeys(graph.role for graph in opened.bundle.graphs):
        module = recipe.plan(opened, role).module
        if half:
            module = typed_module(module, torch.float16)
        spec = opened.bundle.graph(role, "fp16" if half else None)
        engines[role] = TorchEngine(module, spec, device, compiled=compiled)
    text = opened.bundle.text
    return Pipeline(opened, BundleTokenizer(opened.path(text.tokenizer.file), text), engines)
