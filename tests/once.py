"""What is costly to make is made once a run of the tests, whatever the number of its processes."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from animatic.lock import locked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder `name` that all processes share; `make` fills it where it is missing.

    `make` is given a path that is not there yet. Whoever comes second waits. Not to be written to.
    """
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    made, held = base / name, base / f"{name}.held"
    held.mkdir(exist_ok=True)
    with locked(held, lambda: None):
        if not made.exists():
            unfinished = base / f"{name}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)  # of one that failed
            make(unfinished)
            unfinished.rename(made)
    return made
