"""What every source does: give the first or the last pictures of what it holds, and its hash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from fractions import Fraction
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    Pictures = npt.NDArray[np.uint8]

__all__ = ["Source"]


class Source(Protocol):
    """A picture or a clip that a shot may be given.

    ``first``, ``last`` and ``digest`` raise :class:`animatic.errors.InputError` where it cannot be
    read after all.
    """

    @property
    def name(self) -> str:
        """What people call it: the name of its file, or "the array"."""
        ...

    @property
    def file(self) -> str:
        """The name of its file as it was asked for; "" for an array."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that it is read from; nothing for an array."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, upright."""
        ...

    def first(self, count: int, fps: Fraction, size: tuple[int, int]) -> Pictures:
        """The first pictures, uint8 ``[count, height, width, 3]``, in time at ``fps``.

        The last is repeated where there are fewer. ``size`` is the width and height to fit to.
        """
        ...

    def last(self, count: int, fps: Fraction, size: tuple[int, int]) -> Pictures:
        """The last pictures likewise; the first is repeated where there are fewer."""
        ...

    def digest(self) -> str:
        """SHA-256 in hex of the file's bytes, of a sequence's one after another, of an array's."""
        ...
