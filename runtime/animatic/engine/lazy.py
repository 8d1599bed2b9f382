"""An engine that is opened when it is first run: for what a clip may well do without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from animatic.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from animatic.bundle import GraphSpec
    from animatic.engine.protocol import Engine, Tensors

__all__ = ["LazyEngine"]


class LazyEngine:
    """Stands for an engine; its spec is known at once, as it is the bundle's.

    Whatever is wrong with the engine's files or its device is raised by the first run, and an
    opening that failed is tried again by the next.
    """

    def __init__(self, spec: GraphSpec, opener: Callable[[], Engine]) -> None:
        self.spec = spec
        self._opener = opener
        self._engine: Engine | None = None
        self._closed = False

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Open the engine if it is not, and run it; see `Engine.run`. BundleIntegrityError too."""
        if self._closed:
            raise EngineError(f"The {self.spec.role} is closed; open the pipeline again.")
        if self._engine is None:
            self._engine = self._opener()
        return self._engine.run(inputs)

    def reset(self) -> None:
        """Forget the state, if there ever was one."""
        if self._engine is not None:
            self._engine.reset()

    def close(self) -> None:
        """Free everything; what was never opened is not opened for that."""
        self._closed = True
        if self._engine is not None:
            self._engine.close()
            self._engine = None
