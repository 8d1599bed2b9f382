"""Ctrl-C, SIGTERM and SIGHUP (the terminal is closed): the work unwinds, nothing half is kept.

Each raises an exception in the main thread. That alone is not enough: while a compiled module is
being imported the exception comes out as an ImportError, or is taken for a missing library and
passed over. So what was sent is noted as well, for `main` to tell and for loops to `check`.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Stop", "pass_stop"]

# By name: Windows has no SIGHUP.
_WORDS: Final = {
    "SIGINT": "interrupted",
    "SIGTERM": "terminated",
    "SIGHUP": "the terminal was closed",
}


class Stop:
    """Which signal asked this process to leave, if any did."""

    def __init__(self) -> None:
        self.sent: signal.Signals | None = None

    @property
    def code(self) -> int:
        """The exit code by which a shell knows the signal: 130, 143 or 129."""
        return 128 + (self.sent or signal.SIGINT)

    @property
    def sentence(self) -> str:
        """What is said about it."""
        return f"{_WORDS[(self.sent or signal.SIGINT).name]}, nothing unfinished was kept."

    def check(self) -> None:
        """Leave now, where a signal came and its exception went astray."""
        if self.sent is not None:
            self._leave(self.sent, None)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals; those that were ignored before (`nohup`) stay ignored."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python allows signal handlers in the main thread only
            return
        taken = [getattr(signal, name) for name in _WORDS if hasattr(signal, name)]
        before = {
            number: handler
            for number in taken
            # None is a handler that Python has not installed and could not put back.
            if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
        }
        try:
            for number in before:
                signal.signal(number, self._leave)
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _leave(self, number: int, _frame: FrameType | None) -> None:
        self.sent = self.sent or signal.Signals(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(self.code)


pass_stop = click.make_pass_decorator(Stop, ensure=True)
