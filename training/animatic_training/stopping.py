"""When a run is to stop by itself: machines are lent for minutes, and a killed step is lost.

Stages ask after every step, or every shard, and write what they have before they stop.
"""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from animatic_training.budget import Stopped

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


class Stop:
    """Asks a run to stop: after so many minutes, or when the system asks for it (SIGTERM)."""

    def __init__(self, minutes: float | None = None) -> None:
        self._end = None if minutes is None else time.monotonic() + 60 * minutes
        self._told = False

    def __call__(self) -> bool:
        """Say whether to stop now."""
        return self._told or (self._end is not None and time.monotonic() >= self._end)

    def obey(self) -> None:
        """Raise `Stopped` if so: between pieces of work that are kept already."""
        if self():
            raise Stopped

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the system's wish to end the process for one to stop at the next step."""
        before = signal.signal(signal.SIGTERM, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self._told = True
