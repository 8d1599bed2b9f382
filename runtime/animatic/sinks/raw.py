"""Raw RGB24: ``frames * height * width * 3`` bytes, nothing else, for a pipe or a file.

``animatic generate … -o - | ffmpeg -f rawvideo -pix_fmt rgb24 -s 144x80 -r 8 -i - …``
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, BinaryIO, Final

from animatic.errors import OutputError
from animatic.sinks.pending import Pending, explained
from animatic.sinks.protocol import check_pixels

if TYPE_CHECKING:
    from pathlib import Path

    from animatic.frame import Frame

__all__ = ["CLOSED", "RawFileSink", "RawPipeSink"]

CLOSED: Final = "Standard output is closed; redirect it to a file or a pipe, or name a file."


class RawFileSink:
    """Writes ``path`` (.rgb)."""

    def __init__(self, path: Path, *, width: int, height: int, overwrite: bool) -> None:
        self._width, self._height = width, height
        self._pending = Pending(path, overwrite=overwrite)
        self._file: BinaryIO | None = None
        self._empty = True

    def start(self) -> None:
        """Make the unfinished file."""
        self._pending.start()
        with explained(self._pending.target):
            self._file = self._pending.path.open("wb")
        self._store = self._file.write
        self._finish = self._file.close

    def write(self, frame: Frame) -> None:
        """Append one frame."""
        check_pixels(frame, self._width, self._height)
        with explained(self._pending.target):
            self._store(frame.pixels.tobytes())
        self._empty = False

    def close(self) -> None:
        """Publish."""
        if self._empty:
            raise OutputError(f"No frame was made for {self._pending.target}.")
        with explained(self._pending.target):
            self._finish()
        self._pending.publish()

    def abort(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):  # a full disk again, at the flush; the file goes anyway
            if self._file is not None:
                self._file.close()
        self._pending.discard()


class RawPipeSink:
    """Writes to a stream that somebody else opened: standard output, by default.

    A reader that closes its end has seen enough: :class:`BrokenPipeError` passes through for the
    caller to end quietly. What has been written cannot be taken back.

    Raises:
        OutputError: standard output is closed, or is a file on a full disk.
    """

    def __init__(self, *, width: int, height: int, stream: BinaryIO | None = None) -> None:
        self._width, self._height = width, height
        if stream is None:
            if sys.stdout is None:  # as Python says that it was closed
                raise OutputError(CLOSED)
            stream = sys.stdout.buffer
        self._stream = stream

    def start(self) -> None:
        """Do nothing: the stream is open already."""

    def write(self, frame: Frame) -> None:
        """Write and flush one frame, so that a viewer shows it at once."""
        check_pixels(frame, self._width, self._height)
        try:
            self._stream.write(frame.pixels.tobytes())
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(
                f"Standard output cannot be written ({error.strerror or error}); free some space "
                "or write elsewhere."
            ) from error

    def close(self) -> None:
        """Leave the stream open: whoever opened it closes it."""

    def abort(self) -> None:
        """Nothing can be taken back from a pipe."""
