"""Which frames of a clip are taken when it runs at another rate than the shot: those seen then.

Samples lie a shot's frame apart, counted from the first frame of the clip or from its last, each in
the middle of a frame's time, so that times that a file rounds (WebP to milliseconds, GIF to
hundredths of a second) do not matter.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from fractions import Fraction

    import numpy.typing as npt

    Pixels = npt.NDArray[np.uint8]

__all__ = ["Timed", "first_of", "last_of", "padded_back", "padded_front"]


class Timed(NamedTuple):
    """A picture, uint8 [height, width, 3], and from when until when it is seen, in seconds."""

    start: Fraction
    end: Fraction
    pixels: Pixels


def first_of(pictures: Iterable[Timed], count: int, fps: Fraction) -> list[Pixels]:
    """Take the first pictures at a rate, at most ``count``; no more are asked for than it takes."""
    step = 1 / fps
    taken: list[Pixels] = []
    at: Fraction | None = None
    for picture in pictures:
        if at is None:
            at = picture.start + _half(picture, step)
        while at < picture.end and len(taken) < count:
            taken.append(picture.pixels)
            at += step
        if len(taken) == count:
            break
    return taken


def last_of(pictures: Iterable[Timed], count: int, fps: Fraction) -> list[Pixels]:
    """Take the last pictures at a rate, at most ``count``, in order.

    What may be among the last is kept, and so no more than fits in ``count / fps`` seconds.
    """
    step = 1 / fps
    kept: deque[Timed] = deque()
    for picture in pictures:
        kept.append(picture)
        while len(kept) > 1 and kept[1].start <= picture.start - count * step:
            kept.popleft()
    if not kept:
        return []
    at, began = kept[-1].end - _half(kept[-1], step), kept[0].start
    taken: list[Pixels] = []
    while at >= began and len(taken) < count:
        while kept[-1].start > at:
            kept.pop()
        taken.append(kept[-1].pixels)
        at -= step
    return taken[::-1]


def padded_back(taken: Sequence[Pixels], count: int) -> Pixels:
    """Repeat the last picture until there are enough: uint8 [count, height, width, 3]."""
    return np.stack([*taken, *[taken[-1]] * (count - len(taken))])


def padded_front(taken: Sequence[Pixels], count: int) -> Pixels:
    """Repeat the first picture likewise, in front."""
    return np.stack([*[taken[0]] * (count - len(taken)), *taken])


def _half(picture: Timed, step: Fraction) -> Fraction:
    return min(picture.end - picture.start, step) / 2
