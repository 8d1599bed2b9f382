"""Animated WebP and GIF, for mails, wikis and chat.

Both formats count in whole ticks (WebP: milliseconds, GIF: hundredths of a second), so that a
frame's duration is the difference of two rounded points in time: the clip as a whole keeps its
length, rounded once to a tick. Equal neighbouring frames are stored once, with the sum of their
durations. One case loses its length: the WebP encoder stores a clip in which nothing moves at all,
or that has one frame, as a still picture, and a still WebP has no duration; its record still says
how long it was. Encoding needs all frames at once; they are kept in memory, 3 bytes per pixel,
until the sink is closed.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

from animatic.errors import OutputError
from animatic.sinks.pending import Pending, explained
from animatic.sinks.protocol import check_pixels
from animatic.sinks.stamp import ascii_json

if TYPE_CHECKING:
    from fractions import Fraction
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from animatic.frame import Frame
    from animatic.record import GenerationRecord

__all__ = ["AnimationSink", "read_text", "ticks"]

TICKS_PER_SECOND: Final = {".webp": 1000, ".gif": 100}
# Each frame needs a tick of its own at least. Of GIF's, viewers show a single tick as ten: the
# fastest frame that they time rightly is two.
FASTEST: Final = {".webp": 1000, ".gif": 50}  # frames per second
LONGEST_SIDE: Final = {".webp": 16383, ".gif": 65535}  # pixels; both formats' own limits
WEBP_QUALITY: Final = 90  # 0-100; no blocking in flat skies
IMAGE_DESCRIPTION: Final = 0x010E  # EXIF tag


class AnimationSink:
    """Writes ``path`` (.webp or .gif), looping for ever.

    Raises:
        OutputError: a side or a rate above the format's limit.
    """

    def __init__(
        self,
        path: Path,
        *,
        width: int,
        height: int,
        fps: Fraction,
        record: GenerationRecord | None,
        overwrite: bool,
    ) -> None:
        self._suffix = path.suffix.lower()
        limit = LONGEST_SIDE[self._suffix]
        if max(width, height) > limit:
            raise OutputError(
                f"{self._suffix} holds at most {limit} pixels a side, not {width}x{height}; "
                "choose a smaller size, or write MP4."
            )
        fastest = FASTEST[self._suffix]
        if fps > fastest:
            offered = "write MP4 or WebP" if self._suffix == ".gif" else "write MP4"
            raise OutputError(
                f"{self._suffix} cannot time {float(fps):.6g} frames per second, only up to "
                f"{fastest}; {offered}, or choose a lower rate."
            )
        self._width, self._height, self._fps = width, height, fps
        self._record = record
        self._frames: list[NDArray[np.uint8]] = []
        self._pending = Pending(path, overwrite=overwrite)

    def start(self) -> None:
        """Make the unfinished file."""
        self._pending.start()

    def write(self, frame: Frame) -> None:
        """Keep one frame."""
        check_pixels(frame, self._width, self._height)
        self._frames.append(frame.pixels.copy())  # the caller may reuse its buffer

    def close(self) -> None:
        """Encode and publish."""
        from PIL import Image

        target = self._pending.target
        if not self._frames:
            raise OutputError(f"No frame was made for {target}.")
        durations = ticks(len(self._frames), self._fps, TICKS_PER_SECOND[self._suffix])
        milliseconds = [tick * 1000 // TICKS_PER_SECOND[self._suffix] for tick in durations]
        first, *rest = map(Image.fromarray, self._frames)
        with explained(target), self._pending.path.open("wb") as file:
            # The format is named, because the unfinished file has another suffix.
            first.save(
                file,
                format=self._suffix.removeprefix("."),
                save_all=bool(rest),
                append_images=rest,
                # Pillow takes no list for a GIF of one frame.
                duration=milliseconds if rest else milliseconds[0],
                loop=0,
                quality=WEBP_QUALITY,
                method=4,
                comment=b"" if self._record is None else ascii_json(self._record).encode("ascii"),
                exif=_exif(self._record),
            )
        self._pending.publish()

    def abort(self) -> None:
        """Forget the frames and remove the file."""
        self._frames.clear()
        self._pending.discard()


def ticks(frames: int, fps: Fraction, per_second: int) -> list[int]:
    """How long each frame is shown, in ticks of ``1 / per_second`` s.

    The sum is the clip's exact length, rounded once to a whole tick. Every frame has at least one,
    as long as ``fps`` is not above ``per_second``.
    """
    points = [round(index * per_second / fps) for index in range(frames + 1)]
    return [after - before for before, after in pairwise(points)]


def _exif(record: GenerationRecord | None) -> bytes:
    from PIL import Image

    if record is None:
        return b""
    exif = Image.Exif()
    exif[IMAGE_DESCRIPTION] = ascii_json(record)
    return exif.tobytes()


def read_text(path: Path) -> str | None:
    """The record's JSON from a WebP or GIF, or None where it holds none.

    Raises:
        OutputError: the file cannot be read as a picture.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            if path.suffix.lower() == ".gif":
                note = image.info.get("comment")
                return note.decode("ascii", "replace") if isinstance(note, bytes) else None
            description = image.getexif().get(IMAGE_DESCRIPTION)
    except OSError as error:  # Pillow's UnidentifiedImageError is one
        raise OutputError(f"{path} cannot be read as a picture: {error}.") from error
    return description if isinstance(description, str) else None
