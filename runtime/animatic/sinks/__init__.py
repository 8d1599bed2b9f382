"""Sinks: frames in, a file, a folder or a pipe out.

``open_sink`` picks by the name:

========================  ==================================================
``clip.mp4``, ``.mov``    H.264, BT.709, tagged
``clip.webp``, ``.gif``   animation, looping
``clip/``, ``clip``       folder with a PNG sequence ``clip.1001.png`` …
``clip.%04d.png``         PNG sequence inside a folder that exists; so is ``clip.####.png``
``-``, ``clip.rgb``       raw RGB24
========================  ==================================================

Every one but raw stores the record of the shot, and ``read_record`` reads it back.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from animatic.errors import OutputError
from animatic.sinks import animation, mp4, png, raw
from animatic.sinks.destination import kind_of
from animatic.sinks.protocol import Sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from fractions import Fraction

    from animatic.record import GenerationRecord

__all__ = ["STDOUT", "Sink", "open_sink", "read_record"]

STDOUT: Final = "-"


@contextlib.contextmanager
def open_sink(
    path: Path | Literal["-"],
    *,
    width: int,
    height: int,
    fps: Fraction,
    record: GenerationRecord | None,
    overwrite: bool = True,
) -> Iterator[Sink]:
    """Give a sink for ``path``; publish on leaving, or remove everything on any exception.

    Args:
        path: where to; its suffix says what (see the module's table).
        width: pixels.
        height: pixels.
        fps: the exact rate at which the frames are shown, per second.
        record: what the clip was made from, to be stored inside; None stores nothing.
        overwrite: whether a file (or a PNG sequence of ours) of that name may be replaced.

    Raises:
        OutputError: an unknown suffix, a missing or unwritable place, a full disk, a size that the
            format cannot hold.
    """
    sink = _sink(path, width, height, fps, record, overwrite=overwrite)
    try:
        sink.start()
        yield sink
        sink.close()
    except BaseException:  # Ctrl-C too must leave no half file
        sink.abort()
        raise


def _sink(
    path: Path | Literal["-"],
    width: int,
    height: int,
    fps: Fraction,
    record: GenerationRecord | None,
    *,
    overwrite: bool,
) -> Sink:
    if path == STDOUT:
        return raw.RawPipeSink(width=width, height=height)
    place = Path(path)
    match kind_of(place):
        case "film":
            return mp4.Mp4Sink(
                place, width=width, height=height, fps=fps, record=record, overwrite=overwrite
            )
        case "animation":
            return animation.AnimationSink(
                place, width=width, height=height, fps=fps, record=record, overwrite=overwrite
            )
        case "folder":
            return png.PngFolderSink(
                place, size=(width, height), record=record, overwrite=overwrite
            )
        case "pattern":
            return png.PngPatternSink(
                place, size=(width, height), record=record, overwrite=overwrite
            )
        case "raw":
            return raw.RawFileSink(place, width=width, height=height, overwrite=overwrite)


def read_record(path: Path) -> GenerationRecord:
    """The record inside a clip that Animatic wrote: MP4, MOV, WebP, GIF or a PNG sequence.

    Raises:
        OutputError: there is no such file, it cannot be read, or it holds no record.
    """
    from animatic.record import GenerationRecord

    suffix = path.suffix.lower()
    try:
        folder, missing = path.is_dir(), not path.exists()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        raise OutputError(
            f"{path} cannot be read ({error.strerror}); check its name and its permissions."
        ) from error
    if missing and suffix != ".png":  # a pattern is no file; its reader looks for frames
        raise OutputError(f"There is no file {path}; check its name.")
    readers: dict[str, Callable[[Path], str | None]] = {
        ".mp4": mp4.read_text,
        ".mov": mp4.read_text,
        ".webp": animation.read_text,
        ".gif": animation.read_text,
        ".png": png.read_text,
    }
    reader = png.read_text if folder else readers.get(suffix)
    text = reader(path) if reader else None
    if not text:
        raise OutputError(
            f"{path} holds no Animatic record; give an MP4, MOV, WebP, GIF or PNG sequence "
            "that Animatic wrote."
        )
    return GenerationRecord.from_json(text)
