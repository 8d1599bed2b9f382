"""One build at a time on one bundle."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from animatic.sinks.pending import explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["locked"]

if sys.platform == "win32":
    import msvcrt
    import time

    @contextlib.contextmanager
    def locked(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold a bundle's folder; `waiting` is called once if another process holds it.

        Windows cannot lock a folder, so an empty file `.build.lock` stays in it.
        """
        descriptor = os.open(folder / ".build.lock", os.O_RDWR | os.O_CREAT)
        try:
            told = False
            while True:
                try:
                    msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
                    break
                except OSError:
                    if not told:
                        waiting()
                    told = True
                    time.sleep(0.5)
            yield
        finally:
            os.close(descriptor)  # which gives the lock back

else:
    import fcntl

    @contextlib.contextmanager
    def locked(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold a bundle's folder; `waiting` is called once if another process holds it.

        The folder itself is locked, so that no file is left in it. The lock ends with the process,
        however that ends; the process that compiles does not inherit it.
        """
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:  # some network shares have no locks
                raise explain(error, folder) from error
            yield
        finally:
            os.close(descriptor)
