"""Which of two buffers holds a state: one is read while the other is written, then they change."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from animatic.engine.contract import InputCheck

    Shape = tuple[int, ...]

__all__ = ["PingPong"]


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
