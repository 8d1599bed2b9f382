"""The parent's side of a build: start the process, follow it, and say what became of it."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import msgspec

from animatic.sinks.pending import explained
from animatic_engines.errors import CrashError
from animatic_engines.messages import Reply, Step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from animatic_engines.messages import Job

__all__ = ["ask"]

_KILLED: Final = -9  # by SIGKILL, which the signal module of Windows lacks
COMMAND: Final = (sys.executable, "-P", "-m", "animatic_engines.worker")


def ask(job: Job, on_step: Callable[[Step], None], *, doing: str, folder: Path) -> Reply:
    """Have a job done in a process of its own and give its reply.

    doing: names the work in a sentence: "Building the fp16 denoiser for rtx-40".
    folder: takes the process's standard error, in a file.

    Whatever ends this call, Ctrl-C too, the process is gone afterwards.

    Raises:
        CrashError: it ended without a reply.
        OutputError: the folder cannot be written.
    """
    errors = folder / "errors"
    with explained(errors):
        stderr = errors.open("wb")
    with (
        stderr,
        subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            # Ctrl-C is sent to the terminal's whole group: the parent alone decides what it means.
            start_new_session=True,
        ) as child,
    ):
        try:
            reply = _follow(child, job, on_step)
        finally:
            child.kill()  # after its reply it has nothing left to do
            child.wait()
    if reply is None:
        raise CrashError(_obituary(child.returncode, doing, errors))
    return reply


def _follow(
    child: subprocess.Popen[bytes], job: Job, on_step: Callable[[Step], None]
) -> Reply | None:
    """Read until the reply; None if there is none. The job's pipe stays open all the while."""
    if child.stdin is None or child.stdout is None:
        raise AssertionError  # they were asked for
    try:
        child.stdin.write(msgspec.json.encode(job) + b"\n")
        child.stdin.flush()
    except BrokenPipeError:
        child.wait()
        return None
    decoder: msgspec.json.Decoder[Step | Reply] = msgspec.json.Decoder(Step | Reply)
    for line in child.stdout:
        message = decoder.decode(line)
        if not isinstance(message, Step):
            return message
        on_step(message)
    child.wait()  # so that its own end is reported, and not that of being killed below
    return None


def _obituary(code: int, doing: str, errors: Path) -> str:
    last = _last_line(errors)
    if code == _KILLED:
        return (
            f"{doing} was killed from outside, most often because memory ran out; close what else "
            "is running, or build on a machine with more memory, and build again."
        )
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        how = f"crashed ({name})"
    else:
        how = f"ended early (exit code {code})"
    words = f": {last}" if last else ""
    return f"{doing} {how}{words}; build again, with another version of the backend if it recurs."


def _last_line(errors: Path) -> str:
    try:
        lines = errors.read_text("utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
