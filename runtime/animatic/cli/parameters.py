"""What several commands take: sizes, rates, a bundle, threads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fractions import Fraction

__all__ = ["bundle_option", "rate", "size", "threads_option"]


def size(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """Parse an option such as ``192x128`` to width and height in pixels."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", value.strip().lower())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a size such as 192x128.")
    return int(match[1]), int(match[2])


def rate(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> Fraction | None:
    """Parse an option such as ``24`` or ``24000/1001`` to frames per second."""
    from animatic.geometry import parse_rate

    if value is None:
        return None
    try:
        return parse_rate(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is not a frame rate such as 24 or 24000/1001."
        ) from error


bundle_option = click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="The model's bundle; without it, the built-in Blockout.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads for inference; without it, every core this process may use.",
)
