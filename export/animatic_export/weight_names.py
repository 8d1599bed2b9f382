"""The names that a module's weights have in its graph: torch's own, so that they can be read back.

torch's exporter keeps most of them, but calls the weight of a linear layer, which it turns round,
val_7, and stores equal small weights once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
import torch

from animatic_export.stored_weights import FLOATS, SHARED

if TYPE_CHECKING:
    from collections.abc import Iterable

    import onnx_ir as ir
    from torch import Tensor, nn

SMALL: Final = 4096
"""Elements up to which weights are compared to find equal ones; the exporter does to 1024."""


def name_weights(model: ir.Model, module: nn.Module) -> None:
    """Give turned weights their parameter's name and ".T", and note which names share a weight."""
    values = list(model.graph.initializers.values())
    _name_turned(values, module)
    # Renaming moved them to the end; they stay in the order of the graph.
    model.graph.initializers.clear()
    for value in values:
        model.graph.initializers.add(value)
    shared = _shared(values, module)
    if shared:
        model.metadata_props[SHARED] = msgspec.json.encode(shared, order="sorted").decode()


def _name_turned(values: Iterable[ir.Value], module: nn.Module) -> None:
    candidates: dict[object, list[tuple[str, np.ndarray]]] = {}
    for name, weight in module.named_parameters():
        if weight.dim() == 2:
            turned = _bits(weight).T
            candidates.setdefault(_mark(turned), []).append((name, turned))
    for value in values:
        tensor = value.const_value
        if tensor is None or len(tensor.shape) != 2 or not tensor.size:
            continue
        matrix = tensor.numpy()
        matrix = matrix.view(f"i{matrix.itemsize}")
        same = candidates.get(_mark(matrix), [])
        for place, (name, turned) in enumerate(same):
            if _is_same(matrix, turned):
                value.name = f"{name}.T"
                del same[place]  # another equal one has the next name
                break


def _shared(values: Iterable[ir.Value], module: nn.Module) -> dict[str, str]:
    """Map the names of weights that are not in the graph to those of equal ones that are."""
    present: set[str] = set()
    small: dict[object, str] = {}
    for value in values:
        tensor, name = value.const_value, str(value.name).removesuffix(".T")
        present.add(name)
        if tensor is None or tensor.size > SMALL:
            continue
        array = tensor.numpy() if name == value.name else tensor.numpy().T
        if array.dtype in FLOATS:
            small[array.shape, array.dtype.name, array.tobytes()] = name
    shared: dict[str, str] = {}
    for name, weight in module.state_dict().items():
        if name not in present and weight.numel() <= SMALL:
            dtype = str(weight.dtype).removeprefix("torch.")
            equal = small.get((tuple(weight.shape), dtype, _bits(weight).tobytes()))
            if equal is not None:
                shared[name] = equal
    return shared


def _bits(weight: Tensor) -> np.ndarray:
    """Return a weight as integers of the same width, over its own memory: NumPy has no bfloat16."""
    width = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[weight.element_size()]
    return weight.detach().view(width).numpy()


def _mark(matrix: np.ndarray) -> object:
    """Tell most matrices apart without reading them whole."""
    return matrix.shape, matrix.dtype, matrix[0].tobytes(), matrix[-1].tobytes()


def _is_same(one: np.ndarray, other: np.ndarray) -> bool:
    at, other_at = (array.__array_interface__["data"][0] for array in (one, other))
    return (at == other_at and one.strides == other.strides) or np.array_equal(one, other)
