"""States that stay on a device: their memory, and which of two buffers holds each of them.

One buffer is read while the other is written, then they change places. A graph may write only a
slice of a state (a block's keys and values in a ring), and then one buffer would do; but no
compiler promises to read a slice before it writes it, so every state has two.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from animatic.bundle import AxisRange, GraphSpec, TensorSpec
    from animatic.engine.contract import InputCheck

    Shape = tuple[int, ...]

__all__ = ["PingPong", "largest_bytes", "state_bytes"]


def largest_bytes(tensor: TensorSpec, profile: Iterable[AxisRange]) -> int | None:
    """Count the bytes of a tensor at its profile's largest; None if that does not say."""
    largest = {axis.axis: axis.maximum for axis in profile}
    sizes = [largest.get(axis) if isinstance(axis, str) else axis for axis in tensor.shape]
    if any(size is None for size in sizes):
        return None
    return np.dtype(tensor.dtype).itemsize * math.prod(size for size in sizes if size)


def state_bytes(graph: GraphSpec, profile: Iterable[AxisRange]) -> int | None:
    """Count the bytes of all of a graph's states, once each; None if the profile does not say."""
    ranges = tuple(profile)
    carried = {pair.input for pair in graph.states}
    sizes = [largest_bytes(tensor, ranges) for tensor in graph.inputs if tensor.name in carried]
    known = [size for size in sizes if size is not None]
    return sum(known) if len(known) == len(sizes) else None


class PingPong:
    """The bookkeeping of states that stay on a device; it never sees their values.

    parity: 0 or 1, which of a state's two buffers the next run reads; it writes the other.
    fresh: the states begin anew, so that what the next run reads must be made zeros first.
    """

    def __init__(self, check: InputCheck) -> None:
        self._check = check
        self._shapes: dict[str, Shape] | None = None
        self.parity = 0

    @property
    def fresh(self) -> bool:
        """Whether nothing is kept."""
        return self._shapes is None

    def shapes(self, axes: dict[str, int]) -> dict[str, Shape]:
        """Return each state's shape as it goes into a run with these axes; EngineError if wrong."""
        kept = self._shapes or {}
        return {
            name: self._check.state_shape(name, axes, kept.get(name)) for name in self._check.states
        }

    def advance(self, outputs: Mapping[str, Shape]) -> None:
        """After a run: what it wrote, with the shapes of these outputs, is read by the next."""
        self._shapes = {state: outputs[output] for output, state in self._check.pairs.items()}
        # Without states there is nothing to change places, and every run binds alike.
        self.parity = 1 - self.parity if self._shapes else 0

    def forget(self) -> None:
        """Begin anew, always with the same buffer, so that clips bind alike."""
        self._shapes = None
        self.parity = 0
