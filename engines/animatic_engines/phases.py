"""From a compiler's nested phases to one number that never falls."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Phases"]


class _Phase:
    """A phase under way: which of its steps are done."""

    def __init__(self, name: str, steps: int) -> None:
        self.name = name
        self.steps = max(1, steps)
        self.done = 0


class Phases:
    """Keeps the phases that TensorRT's IProgressMonitor tells of.

    A phase within a phase fills one step of the outer one, so the fraction is a nested sum. It is
    an order of events and not of seconds: phases do not say how long they take. The compiler's own
    threads may call at once.
    """

    def __init__(self, show: Callable[[float, str], None]) -> None:
        self._show = show
        self._lock = threading.Lock()
        self._stack: list[_Phase] = []
        self._fraction = 0.0
        self._said: tuple[float, str] | None = None

    def start(self, name: str, steps: int) -> None:
        """A phase began within those that have not finished."""
        with self._lock:
            self._stack.append(_Phase(name, steps))
            self._tell()

    def step(self, name: str, index: int) -> None:
        """A phase's step of this index, from 0, is done."""
        with self._lock:
            for phase in reversed(self._stack):
                if phase.name == name:
                    phase.done = min(phase.steps, index + 1)
                    break
            self._tell()

    def finish(self, name: str) -> None:
        """A phase is over, whether or not all its steps were told."""
        with self._lock:
            for index in reversed(range(len(self._stack))):
                if self._stack[index].name == name:
                    del self._stack[index]  # those within it end in their own time, in any order
                    break
            self._tell()

    def _tell(self) -> None:
        fraction, share = 0.0, 1.0
        for phase in self._stack:
            share /= phase.steps
            fraction += phase.done * share
        self._fraction = max(self._fraction, min(1.0, fraction))
        name = self._stack[-1].name if self._stack else ""
        said = (round(self._fraction, 2), name)
        if said != self._said:  # hundreds of steps take no time at all
            self._said = said
            self._show(*said)
