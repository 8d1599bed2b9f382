"""A clip to write: its pictures, its record, and the call that writes it."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from animatic.frame import Frame
from animatic.record import GenerationRecord
from animatic.sinks import open_sink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from animatic.sinks import Sink

WIDTH: Final = 64
HEIGHT: Final = 48
COUNT: Final = 17
FILES: Final = ["clip.mp4", "clip.mov", "clip.webp", "clip.gif", "clip.rgb"]
SEQUENCES: Final = ["takes", "clip.%04d.png"]


RECORD: Final = GenerationRecord(
    prompt="Straße — “дом” at dawn 🌅, 50% grey",
    seed=7,
    variant=0,
    width=WIDTH,
    height=HEIGHT,
    frames=COUNT,
    fps="8/1",
    bundle_name="tiny",
    bundle_sha256="0" * 64,
    animatic_version="0.1.0",
)


def picture(index: int, *, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray[Any, Any]:
    """Saturated bars with a white box that moves four pixels a frame."""
    pixels = np.zeros((height, width, 3), np.uint8)
    colours = [(200, 30, 30), (30, 180, 60), (40, 60, 220), (220, 210, 40)]
    for bar, colour in enumerate(colours):
        pixels[:, bar * width // 4 : (bar + 1) * width // 4] = colour
    pixels[4:12, (4 * index) % width : (4 * index) % width + 8] = 255
    return pixels


def frames(count: int = COUNT) -> Iterator[Frame]:
    for index in range(count):
        yield Frame(index, picture(index), Fraction(index, 8))


def sink_for(
    path: Path,
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    fps: Fraction = Fraction(8),
    made_from: GenerationRecord | None = None,
    overwrite: bool = True,
) -> AbstractContextManager[Sink]:
    return open_sink(
        path, width=width, height=height, fps=fps, record=made_from, overwrite=overwrite
    )


def write(
    path: Path,
    *,
    fps: Fraction = Fraction(8),
    count: int = COUNT,
    made_from: GenerationRecord | None = RECORD,
    overwrite: bool = True,
) -> None:
    with sink_for(path, fps=fps, made_from=made_from, overwrite=overwrite) as sink:
        for frame in frames(count):
            sink.write(frame)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
