"""Films, through PyAV: MP4, MOV and whatever else FFmpeg decodes."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import numpy as np

from animatic.errors import InputError
from animatic.sources.fit import fitted
from animatic.sources.stored import OneFile, there
from animatic.sources.timing import Timed, first_of, last_of, padded_back, padded_front
from animatic.store import sha256_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy.typing as npt
    from av import VideoFrame
    from av.container import InputContainer

    Pixels = npt.NDArray[np.uint8]

__all__ = ["FilmSource"]

UNSPECIFIED: Final = 2  # ITU-T H.273, the code point of a matrix that nobody named
HIGH_DEFINITION: Final = 720  # lines, from which on such a film is taken for BT.709, below for 601
MARGIN: Final = 2  # seconds before the last frames at which decoding begins, if that goes
UNTIMED: Final = frozenset({"avi"})  # it stores no times: those of decoding are made up
WIDEST: Final = Fraction(4)  # of a pixel; anamorphic films squeeze pictures by 2 at most
_OFFERED: Final = "give an MP4, MOV, WebP, GIF, PNG or JPEG, or a folder of PNGs"


@dataclass(frozen=True, slots=True)
class FilmSource(OneFile):
    """The first video stream of a file."""

    @classmethod
    def of(cls, path: Path) -> FilmSource:
        """Open a film and decode its first frame.

        Raises:
            InputError: it is none, holds no picture, or cannot be read.
        """
        with _readable(path), _opened(path) as container:
            shape = _shape_of_pixels(container)
            for frame in container.decode(video=0):
                width, height = _square(frame, shape)
                lying = frame.rotation % 180 != 0
                return cls(path, (height, width) if lying else (width, height))
        raise _empty(path)

    def first(self, count: int, fps: Fraction, size: tuple[int, int]) -> Pixels:
        """The first pictures; see :class:`animatic.sources.Source`."""
        with _readable(self.path), _opened(self.path) as container:
            taken = first_of(_pictures(container, size), count, fps)
        return padded_back(self._some(taken), count)

    def last(self, count: int, fps: Fraction, size: tuple[int, int]) -> Pixels:
        """The last pictures. A long film is decoded from shortly before them on, if that goes."""
        with _readable(self.path), _opened(self.path) as container:
            taken: list[Pixels] = []
            ahead = count / fps + MARGIN
            if container.duration and container.duration / 1_000_000 > 2 * ahead:
                start = container.duration + (container.start_time or 0) - int(ahead * 1_000_000)
                container.seek(start)
                taken = last_of(_pictures(container, size), count, fps)
        if len(taken) < count:
            with _readable(self.path), _opened(self.path) as container:
                taken = last_of(_pictures(container, size), count, fps)
        return padded_front(self._some(taken), count)

    def digest(self) -> str:
        """SHA-256 of the file."""
        with _readable(self.path):
            return sha256_file(self.path)

    def _some(self, taken: list[Pixels]) -> list[Pixels]:
        if not taken:
            raise _empty(self.path)
        return taken


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """Open a file that holds a film."""
    import av

    with av.open(str(path)) as container:
        if not container.streams.video:
            if container.streams.audio:
                raise InputError(f"{path} holds no picture, only sound; {_OFFERED}.")
            raise InputError(f"{path} holds nothing that can be shown; get a whole copy of it.")
        container.streams.video[0].thread_type = "AUTO"
        yield container


def _pictures(container: InputContainer, size: tuple[int, int]) -> Iterator[Timed]:
    """Decode the frames from where a film stands, each with the time until the next begins."""
    rate = container.streams.video[0].average_rate or Fraction(25)
    shape, in_order = _shape_of_pixels(container), container.format.name in UNTIMED
    before: tuple[Fraction, Pixels] | None = None
    start = end = Fraction(0)
    for frame in container.decode(video=0):
        base = frame.time_base
        stamp = frame.dts if in_order else frame.pts
        start = end if stamp is None or base is None else stamp * base
        if before is not None:
            yield Timed(before[0], max(before[0], start), before[1])
        shown = frame.duration * base if frame.duration and base else 1 / rate
        before, end = (start, fitted(_upright(frame, shape), size)), start + shown
    if before is not None:
        yield Timed(before[0], end, before[1])


def _shape_of_pixels(container: InputContainer) -> Fraction:
    """How much wider than high a film's pixels are: 1 if it does not say, or talks nonsense."""
    shape = container.streams.video[0].sample_aspect_ratio
    return shape if shape and 1 / WIDEST <= shape <= WIDEST else Fraction(1)


def _square(frame: VideoFrame, shape: Fraction) -> tuple[int, int]:
    """Width and height of a frame as it lies, in square pixels."""
    return max(1, round(frame.width * shape)), frame.height


def _upright(frame: VideoFrame, shape: Fraction) -> Pixels:
    """A frame as uint8 RGB ``[height, width, 3]``, its pixels square, turned as its film says."""
    from av.video.reformatter import Colorspace, Interpolation

    guess = Colorspace.ITU709 if frame.height >= HIGH_DEFINITION else Colorspace.ITU601
    width, height = _square(frame, shape)
    pixels = frame.reformat(
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=guess if frame.colorspace == UNSPECIFIED else None,
        interpolation=Interpolation.BICUBIC
        | Interpolation.FULL_CHR_H_INT
        | Interpolation.ACCURATE_RND
        | Interpolation.BITEXACT,
    ).to_ndarray()
    return np.rot90(pixels, frame.rotation // 90)  # both count against the clock


def _empty(path: Path) -> InputError:
    return InputError(f"The film {path} holds no frame; get a whole copy of it.")


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    import av

    try:
        with there(path):
            yield
    except (OSError, ValueError, av.FFmpegError) as error:
        said = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path} is no film or picture that can be read ({said}); {_OFFERED}."
        ) from error
