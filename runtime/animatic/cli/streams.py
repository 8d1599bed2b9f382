"""Standard output and standard error, which may be closed, full, or read by nobody any more."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final

import click

__all__ = ["drop_output", "fill_closed", "flush_output", "say"]

_STANDARD: Final = (0, 1, 2)  # standard input, output and error


def fill_closed() -> None:
    """Point those that are closed at nothing.

    Else the next file that is opened gets the free number, and what a library prints goes into it.
    `sys.stdout` and `sys.stderr` stay None, as Python makes them then; click drops what is said.
    """
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing == number:
                os.set_inheritable(number, True)  # noqa: FBT003, as the standard streams are
            else:
                os.dup2(nothing, number)
                os.close(nothing)


def say(sentence: str) -> None:
    """Say something about ourselves on standard error, if anybody listens."""
    # A closed terminal gives EIO, a full disk ENOSPC; the exit code still tells.
    with contextlib.suppress(OSError, ValueError):
        click.echo(f"animatic: {sentence}", err=True)


def flush_output() -> None:
    """Hand over what Python still holds of standard output: OSError where that fails."""
    if sys.stdout is not None:
        sys.stdout.flush()


def drop_output() -> None:
    """Point standard output at nothing: Python flushes it on its way out and would complain."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)
