"""The process that a compiler runs in: `python -m animatic_engines.worker`, a job on its input.

A crash, an out-of-memory kill or a kill -9 ends this process and not its parent, which then says
what happened in a sentence. It ends by itself when the parent does, however that came.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Final, TextIO

import msgspec

from animatic_engines.compiler import RefusalError, compile_graph, load_backend
from animatic_engines.messages import CompileJob, Failed, Job, ProbeJob, Version
from animatic_engines.smoke import run_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from animatic_engines.messages import Reply, Step

__all__ = ["main"]

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
ORPHANED: Final = 70


def main() -> int:
    """Do one job and answer; 0 unless the parent cannot be answered."""
    pipe = _own_pipe()

    def say(message: Step | Reply) -> None:
        pipe.write(msgspec.json.encode(message).decode() + "\n")
        pipe.flush()

    # Bytes, as the parent writes UTF-8 whatever the locale is.
    job: Job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    warnings.simplefilter("ignore")  # of the packages' own making; they would reach the terminal
    try:
        say(_do(job, say))
    except BrokenPipeError:
        return ORPHANED
    return 0


def _own_pipe() -> TextIO:
    """Standard output for us alone; what a compiler prints goes to standard error."""
    pipe = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return pipe


def _end_with_parent() -> None:
    """Wait for the end of the input, which is the end of the parent; then end at once."""
    sys.stdin.buffer.read()
    os._exit(ORPHANED)


def _do(job: Job, say: Callable[[Step], None]) -> Reply:
    try:
        if isinstance(job, ProbeJob):
            return Version(version=str(load_backend(job.backend).__version__))
        if isinstance(job, CompileJob):
            return compile_graph(job, say)
        return run_once(job)
    except RefusalError as refusal:
        return Failed(kind=refusal.kind, reason=refusal.reason)
    except MemoryError:
        return Failed(kind="memory", reason="memory ran out")
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        return Failed(
            kind="disk" if error.errno in _FULL else "compiler",
            reason=error.strerror or str(error),
        )


if __name__ == "__main__":
    sys.exit(main())
