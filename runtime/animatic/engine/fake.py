"""An engine that is a Python function: for tests, and for people who embed us."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from animatic.engine.contract import GraphInputs
from animatic.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from animatic.bundle import GraphSpec
    from animatic.engine.protocol import Tensors

__all__ = ["FakeEngine"]


class FakeEngine:
    """Holds a function to the same contract as a real graph.

    function: takes every input by name, states among them, and gives every output by name.
    """

    def __init__(self, spec: GraphSpec, function: Callable[[Tensors], Tensors]) -> None:
        self.spec = spec
        self._function = function
        self._inputs = GraphInputs(spec)
        self._closed = False

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Check the inputs, call the function, keep its states."""
        if self._closed:
            raise EngineError(f"The {self.spec.role} is closed; open the pipeline again.")
        outputs = self._function(self._inputs.complete(inputs))
        expected = {tensor.name for tensor in self.spec.outputs}
        if outputs.keys() != expected:
            raise EngineError(
                f"The function of the fake {self.spec.role} gave the wrong outputs; return "
                f"exactly {', '.join(sorted(expected))}."
            )
        return self._inputs.keep(outputs)

    def reset(self) -> None:
        """Forget the state."""
        self._inputs.forget()

    def close(self) -> None:
        """Refuse to run from now on."""
        self._inputs.forget()
        self._closed = True
