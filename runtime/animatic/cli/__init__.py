"""The ``animatic`` command.

Only this folder prints. What a command gives goes to standard output, what it says about itself to
standard error. Exit codes: 0 done, 1 an :class:`animatic.errors.AnimaticError` (one line, no
traceback), 2 wrong usage, 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP. Anything else is a bug and keeps its
traceback.

Modules here import click and nothing heavier; the rest is imported by the command that needs it,
so that ``--help`` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import sys
from typing import TYPE_CHECKING, Final

import click

from animatic import __version__
from animatic.cli import bench, delegate, doctor, generate, inspect, reproduce, targets, verify
from animatic.cli.stopping import Stop
from animatic.cli.streams import drop_output, fill_closed, flush_output, say
from animatic.errors import AnimaticError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["group", "main"]

FAILED: Final = 1
_UNWRITABLE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


@click.group(cls=delegate.DelegatingGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="animatic %(version)s")
def group() -> None:
    """Turn a described shot into moving pictures, on this machine."""


for _module in (generate, reproduce, inspect, doctor, bench, targets, verify):
    group.add_command(_module.command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code; ``arguments`` defaults to the process's own."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    fill_closed()
    stop = Stop()
    try:
        with (
            stop.listening(),
            _warnings_shown(),
            group.make_context("animatic", given, obj=stop) as context,
        ):
            group.invoke(context)
        flush_output()  # here, where a closed pipe is still expected
    except BaseException as error:
        # Whatever came of a signal's exception on its way: nobody wants to read about that.
        if stop.sent is not None or isinstance(error, KeyboardInterrupt | click.Abort):
            say(stop.sentence)
            return stop.code
        code = _explained(error)
        if code is None:
            raise
        return code
    return 0


def _explained(error: BaseException) -> int | None:
    """Say what is wrong and give the exit code; None for a bug."""
    match error:
        case click.exceptions.Exit():  # --help, --version
            return error.exit_code
        case click.ClickException():
            _show(error)
            return error.exit_code
        case AnimaticError():
            say(str(error))
            return FAILED
        case BrokenPipeError():
            drop_output()  # the reader has seen enough
            return 0
        # Whatever else is written says in its own words what is wrong, and errors of opening name
        # their file; this is standard output.
        case OSError() if error.errno in _UNWRITABLE and error.filename is None:
            drop_output()
            say(
                f"standard output cannot be written ({os.strerror(error.errno)}); "
                "free some space or write elsewhere."
            )
            return FAILED
        case _:
            return None


def _show(error: click.ClickException) -> None:
    """Show the usage as click does, and the error as everything else that we say."""
    shown = io.StringIO()
    error.show(shown)
    sentence = error.format_message()
    usage = shown.getvalue().removesuffix(f"Error: {sentence}\n")
    with contextlib.suppress(OSError, ValueError):
        click.echo(usage, err=True, nl=False)
    if usage != shown.getvalue():  # else the help, where no command was named
        say(sentence)


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
