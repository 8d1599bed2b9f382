"""What every backend does: run one graph of a bundle on host arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from animatic.bundle import GraphSpec

    Tensor = npt.NDArray[Any]
    Tensors = dict[str, npt.NDArray[Any]]

__all__ = ["Engine"]


class Engine(Protocol):
    """One graph, ready to run.

    spec: the graph's names, dtypes, axes and state pairs, from the bundle.

    State pairs live in the engine: `run` neither takes nor returns them.
    """

    spec: GraphSpec

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Run once: every input by name except states, every output by name except states.

        EngineError for a wrong name, dtype or shape, and when the backend fails.
        """
        ...

    def reset(self) -> None:
        """Forget the state: the next run starts from zeros."""
        ...

    def close(self) -> None:
        """Free everything; the engine cannot run again. Closing twice is allowed."""
        ...
