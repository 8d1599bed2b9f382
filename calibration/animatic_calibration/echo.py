"""An engine that repeats itself: what was worked out once for some inputs is not worked out again.

For a text encoder, which sees the same prompts in every clip and may be too large to stay; and for
a denoiser whose clips are decoded time and again. A denoiser with a state is only repeated by whole
clips: the same clip gives it the same inputs in the same order, and another one none of them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from animatic.bundle import GraphSpec
    from animatic.engine import Engine
    from animatic.engine.protocol import Tensors

__all__ = ["Echo"]


class Echo:
    """Stands for an engine, which is opened when it is first needed and whenever it is again."""

    def __init__(self, spec: GraphSpec, opener: Callable[[], Engine]) -> None:
        self.spec = spec
        self._opener = opener
        self._engine: Engine | None = None
        self._said: dict[str, Tensors] = {}

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Tensors:
        """Say what the engine says to these inputs."""
        digest = hashlib.sha256()
        for name in sorted(inputs):
            digest.update(f"{name} {inputs[name].dtype} {inputs[name].shape}".encode())
            digest.update(inputs[name].tobytes())
        key = digest.hexdigest()
        if key not in self._said:
            if self._engine is None:
                self._engine = self._opener()
            self._said[key] = self._engine.run(inputs)
        return self._said[key]

    def reset(self) -> None:
        """Have the engine forget its state."""
        if self._engine is not None:
            self._engine.reset()

    def close(self) -> None:
        """Free the engine; what it said is known all the same."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
