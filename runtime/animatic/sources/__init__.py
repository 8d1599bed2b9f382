"""Sources: files in, pictures out; what a shot is given beside its words.

``open_source`` picks by what is there, not by the name:

==================================  ===========================================================
a picture (PNG, JPEG, WebP …)       through Pillow, turned upright as its EXIF says
an animation (WebP, GIF, APNG …)    through Pillow, each frame for as long as it is shown
a film (MP4, MOV, MKV …)            through PyAV, turned upright, with its own colour matrix
a folder, ``name.####.png``         PNG sequence, a picture for every frame of the shot
an array                            uint8 RGB, ``[height, width, 3]`` or ``[frames, …]``
==================================  ===========================================================

Opening reads no more than it takes to know the size of the picture. Only the frames that are wanted
are ever kept, so a clip of any length takes the memory of a few pictures.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from animatic.errors import InputError, OutputError
from animatic.sinks.numbering import Numbering, frames_in
from animatic.sources.array import ArraySource
from animatic.sources.fit import crops
from animatic.sources.protocol import Source
from animatic.sources.sequence import SequenceSource

if TYPE_CHECKING:
    from typing import Any

    import numpy.typing as npt

    Asked = str | os.PathLike[str] | npt.NDArray[Any]

__all__ = ["Source", "crops", "open_source"]


def open_source(asked: object) -> Source:
    """Find the picture or clip that is named, or take the array that is given.

    asked: a name (str or a path) or an array; see the module's table.
    InputError where that is missing, is none of these, or cannot be read.
    """
    if isinstance(asked, np.ndarray):
        return ArraySource.of(asked)
    if not isinstance(asked, str | os.PathLike) or not str(asked).strip():
        raise InputError(
            "A picture or clip is neither named nor given; give the name of a file or a uint8 "
            "array."
        )
    path = Path(asked)
    try:
        if path.is_dir():
            return _folder(path)
        if path.exists():
            if not path.is_file():
                raise InputError(
                    f"{path} is a device or a pipe, which can be read only once; store it as a "
                    "file."
                )
            return _file(path)
        return _pattern(path)
    except (OSError, ValueError) as error:  # a name that is too long, or with a NUL in it
        said = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path} cannot be read ({said}); check its name and its permissions."
        ) from error


def _file(path: Path) -> Source:
    from animatic.sources.film import FilmSource
    from animatic.sources.picture import PictureSource

    return PictureSource.find(path) or FilmSource.of(path)


def _folder(path: Path) -> Source:
    files = frames_in(path) or sorted(
        (file for file in path.glob("*.[pP][nN][gG]") if not file.name.startswith(".")),
        key=_counted,
    )
    if not files:
        raise InputError(f"The folder {path} holds no PNG pictures; name one that does.")
    return SequenceSource.of(path, files)


def _counted(file: Path) -> list[str | int]:
    """A name as people sort it: ``frame2`` goes before ``frame10``."""
    parts = re.split(r"(\d+)", file.name, flags=re.ASCII)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _pattern(path: Path) -> Source:
    try:
        files = Numbering.asked(path).occupied() if path.suffix.lower() == ".png" else []
    except OutputError as error:
        raise InputError(str(error)) from error
    if not files:
        raise InputError(f"There is no file {path}; check its name.")
    return SequenceSource.of(path, files)
