"""One writer at a time on one bundle.

Whoever reads bundle.json, changes what it says and writes it back holds the bundle meanwhile, or
what another program wrote in between would be lost. Readers need no lock: bundle.json is replaced
in one step and names only what is there.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from animatic.sinks.pending import explain, explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["locked"]

if sys.platform == "win32":
    import msvcrt
    import time

    @contextlib.contextmanager
    def locked(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold a folder, most often a bundle's; OutputError if it cannot be locked.

        waiting: called once if another holder is there, before waiting for it; what it raises
            ends the attempt.

        Windows cannot lock a folder, so an empty file `.lock` stays in it. Not reentrant.
        """
        with explained(folder):
            descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT)
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
        """Hold a folder, most often a bundle's; OutputError if it cannot be locked.

        waiting: called once if another holder is there, before waiting for it; what it raises
            ends the attempt.

        The folder itself is locked, so that no file is left in it. The lock ends with the process,
        however that ends; processes that it starts do not inherit it. Not reentrant: a second call
        in the same process waits for the first too.
        """
        with explained(folder):
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
