"""Whether two clips are the same: byte for byte, or picture for picture."""

from __future__ import annotations

import contextlib
import filecmp
import itertools
from typing import TYPE_CHECKING

from animatic.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["files_of", "same_bytes", "same_pixels"]


def same_bytes(first: Path, second: Path) -> bool:
    """Whether two files (or two sequences' files, in their order) are equal.

    Raises:
        OutputError: one of them cannot be read.
    """
    with _readable(first):
        one, other = files_of(first), files_of(second)
        return len(one) == len(other) and all(
            filecmp.cmp(a, b, shallow=False) for a, b in zip(one, other, strict=True)
        )


def same_pixels(first: Path, second: Path) -> bool:
    """Whether two clips decode to the same pictures, however they are stored.

    Raises:
        OutputError: one of them is damaged.
    """
    import numpy as np

    return all(
        a is not None and b is not None and np.array_equal(a, b)
        for a, b in itertools.zip_longest(_pictures(first), _pictures(second))
    )


def files_of(path: Path) -> list[Path]:
    """A file; the frames in a folder; or the numbered neighbours of a PNG or of a pattern."""
    if path.is_dir() or path.suffix.lower() == ".png":
        from animatic.sinks.numbering import sequence

        return sequence(path)
    return [path]


def _pictures(path: Path) -> Iterator[NDArray[np.uint8]]:
    """uint8 RGB pictures ``[height, width, 3]`` in order."""
    import imageio.v3 as iio

    with _readable(path):
        if not path.is_dir() and path.suffix.lower() in {".mp4", ".mov"}:
            yield from iio.imiter(path, plugin="pyav")
            return
        for file in files_of(path):
            yield from iio.imiter(file, plugin="pillow", mode="RGB")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    import av

    try:
        yield
    # SyntaxError is Pillow's word for a broken PNG.
    except (OSError, ValueError, EOFError, SyntaxError, av.FFmpegError) as error:
        raise OutputError(
            f"{path} is damaged and cannot be compared; get a whole copy of it, or make the clip "
            "again with `animatic generate`."
        ) from error
