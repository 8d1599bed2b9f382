"""What every sink does, and the one context that uses it.

A sink takes frames in order and publishes them when it is closed. Until then nothing appears
under the final name: watch folders take half files, so each sink writes beside its target and
renames at the end. ``abort`` removes whatever was written. Making a sink touches nothing; only
``start`` does, so that whoever holds the sink can always abort it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from animatic.frame import Frame

__all__ = ["Sink", "check_pixels"]


class Sink(Protocol):
    """Takes the frames of one clip, in order.

    ``start``, ``write`` and ``close`` raise :class:`animatic.errors.OutputError` when the frames
    cannot be stored. ``abort`` may be called at any time and more than once, and never raises.
    """

    def start(self) -> None:
        """Make the unfinished file, so that a place that cannot be written is found at once."""
        ...

    def write(self, frame: Frame) -> None:
        """Take the next frame: uint8 RGB ``[height, width, 3]``, display-referred."""
        ...

    def close(self) -> None:
        """Finish and publish: only now does the final name appear."""
        ...

    def abort(self) -> None:
        """Remove everything that was written."""
        ...


def check_pixels(frame: Frame, width: int, height: int) -> None:
    """Refuse a frame that is not uint8 ``[height, width, 3]``.

    Raises:
        ValueError: the caller handed over something else than it opened the sink for.
    """
    pixels = frame.pixels
    if pixels.shape != (height, width, 3) or pixels.dtype != "uint8":
        raise ValueError(
            f"frame {frame.index} is {pixels.dtype} {pixels.shape}; "
            f"this sink was opened for uint8 ({height}, {width}, 3)"
        )
