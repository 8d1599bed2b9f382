"""The ``animatic`` command.

Only this folder prints. What a command gives goes to standard output, what it says about itself to
standard error. Exit codes: 0 done, 1 an :class:`animatic.errors.AnimaticError` (one line, no
traceback), 2 wrong usage, 130 Ctrl-C, 143 SIGTERM. Anything else is a bug and keeps its traceback.

Modules here import click and nothing heavier; the rest is imported by the command that needs it,
so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final

import click

from animatic import __version__
from animatic.cli import bench, delegate, doctor, generate, inspect, reproduce
from animatic.errors import AnimaticError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import FrameType

__all__ = ["group", "main"]

FAILED: Final = 1
INTERRUPTED: Final = 128 + signal.SIGINT
TERMINATED: Final = 128 + signal.SIGTERM
_UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


@click.group(cls=delegate.DelegatingGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="animatic %(version)s")
def group() -> None:
    """Turn a described shot into moving pictures, on this machine."""


for _module in (generate, reproduce, inspect, doctor, bench):
    group.add_command(_module.command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code; ``arguments`` defaults to the process's own."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with _terminable(), _warnings_shown(), group.make_context("animatic", given) as context:
            group.invoke(context)
        sys.stdout.flush()  # here, where a closed pipe is still expected
    except click.exceptions.Exit as leaving:  # --help, --version
        return leaving.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except AnimaticError as error:
        click.echo(f"animatic: {error}", err=True)
        return FAILED
    except (KeyboardInterrupt, click.Abort):
        click.echo("animatic: interrupted, nothing unfinished was kept.", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # the reader has seen enough
    except OSError as error:
        # Whatever else is written says in its own words what is wrong, and errors of opening name
        # their file; this is standard output.
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        _drop_output()
        click.echo(
            f"animatic: standard output cannot be written ({os.strerror(error.errno)}); "
            "free some space or write elsewhere.",
            err=True,
        )
        return FAILED
    return 0


def _drop_output() -> None:
    """Point standard output at nothing: Python flushes it on its way out and would complain."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())
    os.close(nothing)


class _OnStandardError(logging.Handler):
    """Shows what the library logs as the command line speaks."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message; standard error is looked up now, as a progress bar replaces it."""
        click.echo(self.format(record), err=True)


@contextlib.contextmanager
def _warnings_shown() -> Iterator[None]:
    """Print the library's warnings, which would else reach the terminal bare."""
    handler = _OnStandardError(logging.WARNING)
    handler.setFormatter(logging.Formatter("animatic: %(message)s"))
    logger = logging.getLogger("animatic")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that unfinished files are removed as after Ctrl-C."""

    def leave(_signal: int, _frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield  # Python allows signal handlers in the main thread only
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
