"""A build's progress as a bar on a terminal, and nothing at all in a pipe."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress, TaskID

    from animatic_engines.messages import Step
    from animatic_engines.order import Order

__all__ = ["BuildBar", "build_bar"]


@contextlib.contextmanager
def build_bar(*, quiet: bool) -> Iterator[BuildBar]:
    """Give a bar that is gone afterwards; it is never seen if quiet, or where nobody looks."""
    bar = BuildBar(shown=not quiet and sys.stderr.isatty())
    try:
        yield bar
    finally:
        bar.clear()


class BuildBar:
    """One engine at a time.

    The fraction counts the compiler's steps, most of which take no time while one takes nearly all,
    so the bar also says which phase it is in and for how long it has run.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._kind = ""
        self._bar: tuple[Progress, TaskID] | None = None

    def step(self, order: Order, step: Step) -> None:
        """Show how far an engine is; what `build_engines` calls."""
        if not self._shown:
            return
        if self._bar is None or order.kind != self._kind:
            self.clear()
            self._kind = order.kind
            self._bar = _started(order.kind)
        bar, task = self._bar
        bar.update(task, completed=step.fraction, phase=step.phase.lower())

    def clear(self) -> None:
        """Make way for a line of text, until the next step."""
        if self._bar is not None:
            self._bar[0].stop()
            self._bar = None


def _started(kind: str) -> tuple[Progress, TaskID]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}% {task.fields[phase]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,  # a finished bar makes way for the engine's line
        redirect_stdout=False,  # which goes to a pipe as it is
        redirect_stderr=False,
    )
    task = bar.add_task(kind, total=1.0, phase="")
    bar.start()
    return bar, task
