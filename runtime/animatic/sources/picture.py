"""Pictures and animations, through Pillow: PNG, JPEG, WebP, GIF and whatever else it knows."""

from __future__ import annotations

import contextlib
import warnings
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
    from PIL import Image

    Pixels = npt.NDArray[np.uint8]

__all__ = ["PictureSource", "picture_size", "read_picture", "readable"]

ORIENTATION: Final = 0x0112  # EXIF 2.3, tag of how the camera was held
LYING: Final = frozenset({5, 6, 7, 8})  # its values that swap width and height
ANIMATED: Final = frozenset({"AVIF", "GIF", "PNG", "WEBP"})  # others hold other pictures
UNREAD: Final = "MPEG"  # a film, which Pillow knows by its first bytes and cannot read
UNTIMED: Final = 100  # milliseconds: what browsers give a frame that says nothing, or up to 10


@dataclass(frozen=True, slots=True)
class PictureSource(OneFile):
    """A picture, or an animation of several."""

    @classmethod
    def find(cls, path: Path) -> PictureSource | None:
        """Open what is a picture by its content; None if it is none.

        Raises:
            InputError: the file cannot be read at all.
        """
        size = picture_size(path)
        return None if size is None else cls(path, size)

    def first(self, count: int, fps: Fraction, size: tuple[int, int]) -> Pixels:
        """The first pictures; see :class:`animatic.sources.Source`."""
        with readable(self.path):
            return padded_back(first_of(self._pictures(size), count, fps), count)

    def last(self, count: int, fps: Fraction, size: tuple[int, int]) -> Pixels:
        """The last pictures."""
        with readable(self.path):
            return padded_front(last_of(self._pictures(size), count, fps), count)

    def digest(self) -> str:
        """SHA-256 of the file."""
        with readable(self.path):
            return sha256_file(self.path)

    def _pictures(self, size: tuple[int, int]) -> Iterator[Timed]:
        from PIL import Image

        start = Fraction(0)
        with Image.open(self.path) as image:
            frames = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
            for frame in range(frames):
                image.seek(frame)
                pixels = fitted(_upright(image), size)
                shown = image.info.get("duration", 0)  # known once the frame is loaded
                end = start + Fraction(round(shown) if shown > UNTIMED // 10 else UNTIMED) / 1000
                yield Timed(start, end, pixels)
                start = end


def picture_size(path: Path) -> tuple[int, int] | None:
    """Width and height of a picture when it is upright; None for what is no picture.

    Raises:
        InputError: the file cannot be read, or is damaged.
    """
    from PIL import Image, UnidentifiedImageError

    with readable(path):
        try:
            with Image.open(path) as image:
                if image.format == UNREAD:
                    return None
                if image.mode == "F":
                    raise InputError(
                        f"{path} holds floating-point light, which names no white; store it as a "
                        "PNG of 8 or 16 bits."
                    )
                width, height = image.size
                lying = image.getexif().get(ORIENTATION) in LYING
        except UnidentifiedImageError:
            return None
    return (height, width) if lying else (width, height)


def read_picture(path: Path, size: tuple[int, int]) -> Pixels:
    """Read one picture, fitted to a size: uint8 ``[height, width, 3]``.

    Raises:
        InputError: it cannot be read.
    """
    from PIL import Image

    with readable(path), Image.open(path) as image:
        return fitted(_upright(image), size)


def _upright(image: Image.Image) -> Pixels:
    """The frame that an image stands at, uint8 RGB, as it is meant to be seen, on black."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(image)
    if picture.mode.startswith("I"):  # 16 bits of grey, of which Pillow would cut off all above 255
        grey = np.asarray(picture, dtype=np.int64) >> 8
        picture = Image.fromarray(grey.clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        clear = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", clear.size, "black"), clear)
    return np.array(picture.convert("RGB"))


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what Pillow and the operating system say into the InputError that explains it."""
    from PIL import Image

    try:
        with warnings.catch_warnings(), there(path):
            # Pillow warns of 89 megapixels, which cameras have, and refuses twice as many.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            yield
    except Image.DecompressionBombError as error:
        raise InputError(
            f"The picture {path} is too large to be read ({error}); make it smaller."
        ) from error
    # SyntaxError is Pillow's word for a broken PNG.
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise InputError(
            f"The picture {path} cannot be read ({error}); get a whole copy of it."
        ) from error
