"""What several commands take: names of files, sizes, rates, a bundle, threads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from fractions import Fraction

    from animatic.engine.choice import DeviceName

__all__ = [
    "bundle_option",
    "clip_name",
    "clip_names",
    "device_of",
    "device_option",
    "images",
    "output_name",
    "precision_option",
    "rate",
    "size",
    "threads_option",
]

# As animatic.engine.choice has them; that is imported only when a model is opened.
DEVICES = ("auto", "cpu", "cuda", "tensorrt", "tensorrt_rtx", "onnxruntime-cuda")


def device_of(backend: str) -> DeviceName:
    """Name the device by which a backend is asked for again."""
    names: dict[str, DeviceName] = {
        "tensorrt": "tensorrt",
        "tensorrt_rtx": "tensorrt_rtx",
        "onnxruntime-cuda": "onnxruntime-cuda",
    }
    return names.get(backend, "cpu")


def output_name(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> str | None:
    """Refuse an empty name, which the system takes for the working folder."""
    if value is not None and not value.strip():
        raise click.BadParameter("The name is empty; name a file such as clip.mp4, or a folder.")
    return value


def size(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """Parse an option such as ``144x80`` to width and height in pixels."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", value.strip().lower())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a size such as 144x80.")
    return int(match[1]), int(match[2])


def rate(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> Fraction | None:
    """Parse an option such as ``24``, ``24000/1001`` or ``23.976`` to exact frames per second."""
    from animatic.geometry import MAX_RATE, MAX_RATE_TERM
    from animatic.shot import read_rate

    if value is None:
        return None
    try:
        return read_rate(value)
    except ValueError as error:
        raise click.BadParameter(
            f"{value!r} is not a frame rate such as 24 or 24000/1001, above 0 and up to {MAX_RATE} "
            f"with terms up to {MAX_RATE_TERM:,}."
        ) from error


def images(
    _context: click.Context, _parameter: click.Parameter, value: tuple[str, ...]
) -> dict[int, Path]:
    """Parse options such as ``0=first.png`` and ``-1=last.png`` to pictures by frame."""
    pictures: dict[int, Path] = {}
    for each in value:
        match = re.fullmatch(r"([+-]?\d{1,9})=(.*\S.*)", each.strip(), re.DOTALL | re.ASCII)
        if match is None:
            raise click.BadParameter(
                f"{each!r} is not a frame and a file such as 0=first.png or -1=last.png."
            )
        frame = int(match[1])
        if frame in pictures:
            raise click.BadParameter(f"Two pictures are given for frame {frame}; give one of them.")
        pictures[frame] = Path(match[2])
    return pictures


def clip_name(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> Path | None:
    """Refuse an empty name, as `output_name` does."""
    if value is not None and not value.strip():
        raise click.BadParameter("The name is empty; name a clip such as clip.mp4.")
    return None if value is None else Path(value)


def clip_names(
    context: click.Context, parameter: click.Parameter, value: tuple[str, str] | None
) -> tuple[Path, Path] | None:
    """Take the names of two clips."""
    if value is None:
        return None
    first, second = (clip_name(context, parameter, each) for each in value)
    return None if first is None or second is None else (first, second)


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

device_option = click.option(
    "--device",
    type=click.Choice(DEVICES),
    default="auto",
    show_default=True,
    help="What plays the model; auto is the best that works here, anything else that or an error.",
)

precision_option = click.option(
    "--precision",
    metavar="P",
    help="What to compute in (fp16, int8, …), where the bundle has such graphs or engines; without "
    "it, what suits the device.",
)
