"""What a graph's spec demands of every run, whichever backend runs it: inputs and state pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from animatic.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from animatic.bundle import GraphSpec, TensorSpec
    from animatic.engine.protocol import Tensor, Tensors

    Shape = tuple[int, ...]

__all__ = ["GraphInputs", "InputCheck"]


class InputCheck:
    """Holds the inputs of a run, and the shapes of the states kept between runs, to the spec.

    given: the inputs that a caller gives, by name; states: those that the engine keeps.
    pairs: of every state, the output by the input that it becomes.
    """

    def __init__(self, spec: GraphSpec) -> None:
        self._role = spec.role
        self.pairs: Final = {pair.output: pair.input for pair in spec.states}
        fed_back = set(self.pairs.values())
        self.given: Final = {t.name: t for t in spec.inputs if t.name not in fed_back}
        self.states: Final = {t.name: t for t in spec.inputs if t.name in fed_back}

    def arrays(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> tuple[Tensors, dict[str, int]]:
        """Return the inputs, contiguous, and the size of every named axis; EngineError if wrong."""
        if inputs.keys() != self.given.keys():
            missing, unknown = self.given.keys() - inputs.keys(), inputs.keys() - self.given
            problem = f"lacks {_named(missing)}" if missing else f"does not take {_named(unknown)}"
            raise EngineError(
                f"The {self._role} was called with the wrong inputs: it {problem}; give exactly "
                f"{_named(self.given.keys())}."
            )
        axes: dict[str, int] = {}
        arrays: Tensors = {}
        for name, spec in self.given.items():
            array = np.ascontiguousarray(inputs[name])
            if array.dtype.name != spec.dtype:
                raise EngineError(
                    f"The input {name} of the {self._role} is {array.dtype.name}; "
                    f"give {spec.dtype}."
                )
            self._fit(spec, array.shape, axes, kept=False)
            arrays[name] = array
        return arrays, axes

    def state_shape(self, name: str, axes: dict[str, int], kept: Shape | None) -> Shape:
        """Return the shape in which a state goes into a run whose axes are known.

        kept: its shape after the last run; None after a reset, when it begins as zeros.
        EngineError if it does not fit, or if nothing says how large it begins.
        """
        spec = self.states[name]
        shape = self._beginning(spec, axes) if kept is None else kept
        self._fit(spec, shape, axes, kept=kept is not None)
        return shape

    def _fit(self, spec: TensorSpec, shape: Shape, axes: dict[str, int], *, kept: bool) -> None:
        fits = len(shape) == len(spec.shape) and all(
            size == (axes.setdefault(axis, size) if isinstance(axis, str) else axis)
            for axis, size in zip(spec.shape, shape, strict=True)
        )
        if not fits:
            wanted = ", ".join(
                f"{axis}={axes[axis]}" if axis in axes else str(axis) for axis in spec.shape
            )
            raise EngineError(
                f"The input {spec.name} of the {self._role} has the shape {list(shape)}; "
                f"give [{wanted}]" + (", or reset the engine first." if kept else ".")
            )

    def _beginning(self, spec: TensorSpec, axes: Mapping[str, int]) -> Shape:
        unknown = {axis for axis in spec.shape if isinstance(axis, str) and axis not in axes}
        if unknown:
            raise EngineError(
                f"The state {spec.name} of the {self._role} has the axis {_named(unknown)}, which "
                "no other input fixes; export the bundle again with a fixed size there."
            )
        return tuple(axes[axis] if isinstance(axis, str) else axis for axis in spec.shape)


class GraphInputs:
    """Checks the inputs of a graph's runs and keeps its state between them, in host memory."""

    def __init__(self, spec: GraphSpec) -> None:
        self._check = InputCheck(spec)
        self._states: Tensors = {}

    def complete(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Add the states to the inputs; EngineError unless these are what the spec says."""
        complete, axes = self._check.arrays(inputs)
        for name, spec in self._check.states.items():
            state = self._states.get(name)
            shape = self._check.state_shape(name, axes, None if state is None else state.shape)
            complete[name] = np.zeros(shape, dtype=spec.dtype) if state is None else state
        return complete

    def keep(self, outputs: Mapping[str, Tensor]) -> Tensors:
        """Keep the states among a run's outputs and return the rest."""
        pairs = self._check.pairs
        self._states = {pairs[name]: outputs[name] for name in pairs}
        return {name: array for name, array in outputs.items() if name not in pairs}

    def forget(self) -> None:
        """Drop the states: the next run starts from zeros."""
        self._states = {}


def _named(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
