"""What a graph's spec demands of every run, whichever backend runs it: inputs and state pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from animatic.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from animatic.bundle import GraphSpec, TensorSpec
    from animatic.engine.protocol import Tensor, Tensors

__all__ = ["GraphInputs"]


class GraphInputs:
    """Checks the inputs of a graph's runs and keeps its state between them."""

    def __init__(self, spec: GraphSpec) -> None:
        self._role = spec.role
        fed_back = {pair.input for pair in spec.states}
        self._given = {tensor.name: tensor for tensor in spec.inputs if tensor.name not in fed_back}
        self._state_specs = [tensor for tensor in spec.inputs if tensor.name in fed_back]
        self._pairs = {pair.output: pair.input for pair in spec.states}
        self._states: Tensors = {}

    def complete(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Add the states to the inputs; EngineError unless these are what the spec says."""
        if inputs.keys() != self._given.keys():
            missing, unknown = self._given.keys() - inputs.keys(), inputs.keys() - self._given
            problem = f"lacks {_named(missing)}" if missing else f"does not take {_named(unknown)}"
            raise EngineError(
                f"The {self._role} was called with the wrong inputs: it {problem}; give exactly "
                f"{_named(self._given.keys())}."
            )
        axes: dict[str, int] = {}
        complete: Tensors = {}
        for name, spec in self._given.items():
            array = np.ascontiguousarray(inputs[name])
            self._check(spec, array, axes)
            complete[name] = array
        for spec in self._state_specs:
            state = self._states.get(spec.name)
            if state is None:
                state = self._zeros(spec, axes)
            self._check(spec, state, axes)
            complete[spec.name] = state
        return complete

    def keep(self, outputs: Mapping[str, Tensor]) -> Tensors:
        """Keep the states among a run's outputs and return the rest."""
        self._states = {self._pairs[name]: outputs[name] for name in self._pairs}
        return {name: array for name, array in outputs.items() if name not in self._pairs}

    def forget(self) -> None:
        """Drop the states: the next run starts from zeros."""
        self._states = {}

    def _check(self, spec: TensorSpec, array: Tensor, axes: dict[str, int]) -> None:
        if array.dtype.name != spec.dtype:
            raise EngineError(
                f"The input {spec.name} of the {self._role} is {array.dtype.name}; "
                f"give {spec.dtype}."
            )
        fits = array.ndim == len(spec.shape) and all(
            size == (axes.setdefault(axis, size) if isinstance(axis, str) else axis)
            for axis, size in zip(spec.shape, array.shape, strict=True)
        )
        if not fits:
            wanted = ", ".join(
                f"{axis}={axes[axis]}" if axis in axes else str(axis) for axis in spec.shape
            )
            raise EngineError(
                f"The input {spec.name} of the {self._role} has the shape {list(array.shape)}; "
                f"give [{wanted}]"
                + (", or reset the engine first." if spec.name in self._states else ".")
            )

    def _zeros(self, spec: TensorSpec, axes: Mapping[str, int]) -> Tensor:
        unknown = {axis for axis in spec.shape if isinstance(axis, str) and axis not in axes}
        if unknown:
            raise EngineError(
                f"The state {spec.name} of the {self._role} has the axis {_named(unknown)}, which "
                "no other input fixes; export the bundle again with a fixed size there."
            )
        shape = [axes[axis] if isinstance(axis, str) else axis for axis in spec.shape]
        return np.zeros(shape, dtype=spec.dtype)


def _named(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
