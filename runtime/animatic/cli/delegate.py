"""Commands that live in other packages: found by entry point, explained where they are missing.

The runtime does not import the floors above it. A package announces a command in the entry-point
group ``animatic.commands``; its packages' own needs (torch, onnx) come with the extra of the same
name.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Final

import click

from animatic.errors import AnimaticError
from animatic.extras import how_to_add

__all__ = ["DelegatingGroup", "MissingExtraError"]

GROUP: Final = "animatic.commands"
# What --help says of a command without importing the package it lives in.
SUMMARIES: Final = {
    "export": "Turn a checkpoint into a bundle.",
    "calibrate": "Quantise a bundle to INT8.",
    "build": "Compile a bundle's graphs for a GPU.",
    "train": "Train the built-in model.",
}


class MissingExtraError(AnimaticError):
    """A command whose extra is not installed."""


class DelegatingGroup(click.Group):
    """A group whose further commands are announced by entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002, click passes it
        """Our own commands, then the announced ones."""
        own = list(self.commands)
        return own + sorted(set(_announced()) - set(own))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Our own command, or a stand-in that loads the announced one when it is called."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        entry = _announced().get(cmd_name)
        if entry is None and cmd_name not in SUMMARIES:
            return None
        return _Delegate(cmd_name, entry)


class _Delegate(click.Command):
    """Hands its arguments to the real command, unread."""

    def __init__(self, name: str, entry: EntryPoint | None) -> None:
        super().__init__(
            name,
            help=SUMMARIES.get(name, f"From the package {entry.module}." if entry else None),
            add_help_option=False,  # the real command answers --help
            context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        )
        self._entry = entry

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep every argument for the real command."""
        ctx.args = list(args)
        return ctx.args

    def invoke(self, ctx: click.Context) -> object:
        """Load the real command and run it."""
        if self._entry is None:
            raise MissingExtraError(
                f"`animatic {self.name}` is not part of this installation; "
                f"{how_to_add(self.name or '')} brings it where your version has it."
            )
        ours = self._entry.module.partition(".")[0]
        try:
            command: object = self._entry.load()
            if not isinstance(command, click.Command):
                raise TypeError(f"{self._entry.value} is no click command")
            with command.make_context(self.name, ctx.args, parent=ctx.parent) as inner:
                return command.invoke(inner)
        except ModuleNotFoundError as error:
            # A missing module of the package's own, or of ours, is a bug and not a missing extra.
            missing = (error.name or "").partition(".")[0]
            if missing in {"", "animatic", ours}:
                raise
            raise MissingExtraError(
                f"`animatic {self.name}` needs {missing}, which is not installed; "
                f"{how_to_add(self.name or '')} brings it."
            ) from error


def _announced() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
